//! One `keystile serve` with a store, a keyring and an admin key of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, without_our_environment};
use super::{free_port, http1, wait_for};

/// The commands that call a server.
const CLIENTS: [&str; 6] = ["check", "tenant", "key", "limits", "fleet", "blocks"];

/// Arguments with which a client waits for as long as a busy machine may take, unless they say for how long.
pub(crate) fn patient<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut args = args.to_vec();
    let calls = args.first().is_some_and(|name| CLIENTS.contains(name));
    if calls && !args.iter().any(|arg| arg.starts_with("--timeout")) {
        args.extend(["--timeout", "60s"]);
    }
    args
}

/// What an instance has beyond the plain config.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Settings {
    /// Lines under `authz:`, each with two leading spaces.
    pub(crate) authz: &'static str,
    /// Top-level lines.
    pub(crate) more: &'static str,
}

impl Settings {
    fn signs(&self) -> bool {
        self.authz.contains("signed_context")
    }
}

#[derive(Debug)]
pub(crate) struct Keystile {
    process: Option<Process>,
    pub(crate) admin_token: String,
    pub(crate) authz_port: u16,
    pub(crate) admin_port: u16,
    pub(crate) ops_port: u16,
    // Last, so that the directory goes after the program that writes into it.
    dir: TempDir,
}

/// A key as it was handed out.
#[derive(Debug, Clone)]
pub(crate) struct NewKey {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// The binary under test; `KEYSTILE_BIN` names another build.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("KEYSTILE_BIN")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_keystile").into())
        .into()
}

impl Keystile {
    pub(crate) fn start(settings: Settings) -> Self {
        let mut keystile = Self {
            process: None,
            admin_token: String::new(),
            authz_port: free_port(),
            admin_port: free_port(),
            ops_port: free_port(),
            dir: tempfile::Builder::new()
                .prefix("ks-")
                .tempdir()
                .expect("make a directory"),
        };
        let path = keystile.config_path();
        fs::write(path, keystile.config(settings)).expect("write the config");
        keystile.cli(&["keyring", "init", "--dir", "keys"]);
        if settings.signs() {
            keystile.cli(&["keyring", "init", "--dir", "keys", "--ring", "signing"]);
        }
        let first = keystile.cli_json(&["bootstrap", "-c", "keystile.yaml", "-o", "json"]);
        first["plaintext"]
            .as_str()
            .expect("bootstrap prints the plaintext")
            .clone_into(&mut keystile.admin_token);
        keystile.serve();
        keystile
    }

    /// Starts `keystile serve` (again) and waits until it is ready.
    pub(crate) fn serve(&mut self) {
        let args = ["serve", "-c", "keystile.yaml"];
        let mut process = Process::start("keystile", &binary(), &args, self.dir());
        let ask = "GET /readyz HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n";
        wait_for("keystile to be ready", || {
            process.assert_running();
            let reply = http1::send(self.ops_port, ask.as_bytes(), false).ok()?;
            (reply.status == 200).then_some(())
        });
        self.process = Some(process);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// Sends a signal that does not end it, such as HUP.
    pub(crate) fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// What it has said since it was started.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().expect("it runs").log()
    }

    /// SIGTERM; the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.process.take().expect("it runs").terminate()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn authz_socket(&self) -> PathBuf {
        self.dir().join("authz.sock")
    }

    fn config_path(&self) -> PathBuf {
        self.dir().join("keystile.yaml")
    }

    /// Short-lived keys are wanted here, patience with a store on a busy machine, and the answer to each of many guesses
    /// (who is held back for them is in `server/guesses.rs`).
    fn config(&self, settings: Settings) -> String {
        let Settings { authz, more } = settings;
        let (dir, authz_port) = (self.dir().display(), self.authz_port);
        let (admin_port, ops_port) = (self.admin_port, self.ops_port);
        let signing = match settings.signs() {
            true => format!(", signing: {{file: {dir}/keys/signing.keyring}}"),
            false => String::new(),
        };
        format!(
            r#"authz:
  listen: ["127.0.0.1:{authz_port}", "unix:{dir}/authz.sock"]
  store_timeout: 10s
{authz}
admin: {{listen: ["127.0.0.1:{admin_port}"], guesses: 1000000/s}}
ops: {{listen: ["127.0.0.1:{ops_port}"]}}
store: {{kind: embedded, embedded: {{path: {dir}/keystile.redb}}}}
keyring: {{data: {{file: {dir}/keys/data.keyring}}, vault: {{file: {dir}/keys/vault.keyring}}{signing}}}
plans:
  pro: {{features: [images]}}
  paged: {{}}
  watched: {{}}
  metered: {{rate: 100/s burst 200, quota: 5000/day, features: [images, export]}}
  tried: {{rate: 1/h, features: [images], shadow: true}}
api_keys: {{min_expiry_days: 0, max_expiry_days: 0}}
{more}
"#
        )
    }

    /// Runs the client as an operator would; panics with its words when it fails.
    #[track_caller]
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let output = self.try_cli(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "keystile {args:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        text
    }

    pub(crate) fn try_cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        without_our_environment(&mut command);
        command
            .args(patient(args))
            .current_dir(self.dir())
            .env(
                "KEYSTILE_ADDR",
                format!("http://127.0.0.1:{}", self.admin_port),
            )
            .env("KEYSTILE_API_KEY", &self.admin_token)
            .output()
            .expect("run keystile")
    }

    #[track_caller]
    fn cli_json(&self, args: &[&str]) -> Value {
        let text = self.cli(args);
        serde_json::from_str(&text).unwrap_or_else(|err| panic!("{args:?} -o json: {err}: {text}"))
    }

    /// `keystile key create TENANT …`
    #[track_caller]
    pub(crate) fn create_key(&self, tenant: &str, args: &[&str]) -> NewKey {
        let mut all = vec!["key", "create", tenant, "-o", "json"];
        all.extend(args);
        let made = self.cli_json(&all);
        let name = made["key"]["name"].as_str();
        let id = name.and_then(|name| name.rsplit('/').next());
        NewKey {
            id: id.expect("the resource has a name").to_owned(),
            token: made["plaintext"].as_str().expect("plaintext").to_owned(),
        }
    }
}
