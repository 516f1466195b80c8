//! `keystile` as an operator runs it: any arguments, any signal, its exit code and its words.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::keystile::{binary, patient};
use crate::harness::process::without_our_environment;
use crate::harness::{free_port, http1, wait_for};

/// Runs the program, and kills it should the test binary end first: its end of the pipe closes then.
const GUARD: &str = r#"
exec 3<&0
if [ -n "$FILES_MAX" ]; then ulimit -n "$FILES_MAX"; fi
"$@" </dev/null 3<&- & pid=$!
{ read -r _ <&3; kill -KILL "$pid"; } 2>/dev/null & reader=$!
echo "$pid" >"$PID_FILE.new"; mv "$PID_FILE.new" "$PID_FILE"
wait "$pid"; code=$?
kill "$reader" 2>/dev/null
exit "$code"
"#;

const CONFIG: &str = "keystile.yaml";

/// How long a Check waits for the store: as long as may be configured.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// A folder with a config, keyrings and a bootstrapped store, and the ports that the config names.
#[derive(Debug)]
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) authz: u16,
    pub(crate) admin: u16,
    pub(crate) ops: u16,
    pub(crate) admin_token: String,
}

impl Place {
    /// With keyrings and the first key.
    pub(crate) fn bootstrapped() -> Self {
        let mut place = Self::with_keyrings();
        place.bootstrap();
        place
    }

    /// Makes the first key.
    #[track_caller]
    pub(crate) fn bootstrap(&mut self) {
        let first = self.run(&["bootstrap", "-c", CONFIG, "-o", "json"]);
        assert_eq!(first.code, 0, "{}", first.stderr);
        let made: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
        let token = made["plaintext"].as_str().unwrap();
        token.clone_into(&mut self.admin_token);
    }

    /// A place beside it that shares its keyring `data` and has no `admin`.
    pub(crate) fn sidecar(&self) -> Self {
        let sidecar = Self::empty();
        fs::create_dir(sidecar.path("keys")).unwrap();
        let data = "keys/data.keyring";
        fs::copy(self.path(data), sidecar.path(data)).unwrap();
        let (admin, dir) = (sidecar.admin, sidecar.dir().display());
        sidecar.edit_config(&format!("admin: {{listen: [\"127.0.0.1:{admin}\"]}}\n"), "");
        let vault = format!(", vault: {{file: {dir}/keys/vault.keyring}}");
        sidecar.edit_config(&vault, "");
        sidecar
    }

    /// A place beside it that shares its keyrings and its first key, for one more control plane.
    pub(crate) fn peer(&self) -> Self {
        let mut peer = Self::empty();
        fs::create_dir(peer.path("keys")).unwrap();
        for ring in ["keys/data.keyring", "keys/vault.keyring"] {
            fs::copy(self.path(ring), peer.path(ring)).unwrap();
        }
        peer.admin_token.clone_from(&self.admin_token);
        peer
    }

    /// With keyrings and no store.
    pub(crate) fn with_keyrings() -> Self {
        let place = Self::empty();
        let made = place.run(&["keyring", "init", "--dir", "keys"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        place
    }

    /// With a config and nothing that it names.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("ks-").tempdir().unwrap();
        let place = Self {
            dir,
            authz: free_port(),
            admin: free_port(),
            ops: free_port(),
            admin_token: String::new(),
        };
        place.write_config();
        place
    }

    /// All three listeners and a Unix socket.
    fn write_config(&self) {
        let (authz, admin, ops) = (self.authz, self.admin, self.ops);
        let dir = self.dir().display();
        let store_timeout = STORE_TIMEOUT.as_secs();
        let config = format!(
            r#"authz:
  listen: ["127.0.0.1:{authz}", "unix:{dir}/authz.sock"]
  workers: 2
  store_timeout: {store_timeout}s
admin: {{listen: ["127.0.0.1:{admin}"]}}
ops: {{listen: ["127.0.0.1:{ops}"]}}
store: {{kind: embedded, embedded: {{path: {dir}/keystile.redb}}}}
keyring: {{data: {{file: {dir}/keys/data.keyring}}, vault: {{file: {dir}/keys/vault.keyring}}}}
api_keys: {{min_expiry_days: 0, max_expiry_days: 0}}
"#
        );
        fs::write(self.path(CONFIG), config).unwrap();
    }

    /// Adds top-level lines to the config.
    pub(crate) fn add_config(&self, lines: &str) {
        let config = fs::read_to_string(self.path(CONFIG)).unwrap();
        fs::write(self.path(CONFIG), format!("{config}{lines}\n")).unwrap();
    }

    /// Changes a piece of the config.
    #[track_caller]
    pub(crate) fn edit_config(&self, from: &str, to: &str) {
        let config = fs::read_to_string(self.path(CONFIG)).unwrap();
        assert!(config.contains(from), "{from} is not in {config}");
        fs::write(self.path(CONFIG), config.replace(from, to)).unwrap();
    }

    /// Keeps tenants and keys in Redis; `fields` are those of `store.redis`.
    pub(crate) fn use_redis(&self, fields: &str) {
        let embedded = format!(
            "store: {{kind: embedded, embedded: {{path: {}/keystile.redb}}}}",
            self.dir().display()
        );
        self.edit_config(
            &embedded,
            &format!("store: {{kind: redis, redis: {{{fields}}}}}"),
        );
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        without_our_environment(&mut command);
        let address = format!("http://127.0.0.1:{}", self.admin);
        command
            .current_dir(self.dir())
            .env("XDG_CONFIG_HOME", self.dir().join("contexts"))
            .env("KEYSTILE_ADDR", address)
            .env("KEYSTILE_API_KEY", &self.admin_token);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let output = self.command(binary()).args(patient(args)).output();
        let output = output.unwrap();
        Ended {
            code: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub(crate) fn do_it(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Runs `serve` to its end, for when it is to be refused.
    pub(crate) fn serve_refused(&self) -> Ended {
        let mut running = self.start("serve.refused");
        let code = running.wait_for_end();
        Ended {
            code: code.code().expect("no signal ended it"),
            stdout: String::new(),
            stderr: running.log(),
        }
    }

    /// Starts `serve` and waits until it is ready.
    pub(crate) fn serve(&self) -> Running {
        let mut running = self.start("serve");
        wait_for("keystile to be ready", || {
            assert!(running.ended().is_none(), "{}", running.log());
            self.is_ready().then_some(())
        });
        running
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ops("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Status and body of an ops page.
    pub(crate) fn ops(&self, path: &str) -> Option<(u16, String)> {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n");
        let reply = http1::send(self.ops, ask.as_bytes(), false).ok()?;
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        Some((reply.status, body))
    }

    pub(crate) fn start(&self, name: &str) -> Running {
        self.start_with(name, &[])
    }

    /// The same, and waits; it may have so many files open.
    pub(crate) fn serve_with_files(&self, files_max: u32) -> Running {
        let running = self.start_with("serve", &[("FILES_MAX", &files_max.to_string())]);
        wait_for("keystile to be ready", || self.is_ready().then_some(()));
        running
    }

    fn start_with(&self, name: &str, environment: &[(&str, &str)]) -> Running {
        let out = File::create(self.path(&format!("{name}.log"))).unwrap();
        let err = out.try_clone().unwrap();
        self.start_into(
            name,
            &["serve", "-c", CONFIG],
            environment,
            [out.into(), err.into()],
        )
    }

    /// Starts a command that runs until it is stopped, with its standard output and error.
    pub(crate) fn start_into(
        &self,
        name: &str,
        args: &[&str],
        environment: &[(&str, &str)],
        [out, err]: [Stdio; 2],
    ) -> Running {
        let pid_file = self.path(&format!("{name}.pid"));
        fs::remove_file(&pid_file).unwrap_or_default();
        let guard = self
            .command("sh")
            .args(["-c", GUARD, "guard"])
            .arg(binary())
            .args(args)
            .env("PID_FILE", &pid_file)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        Running {
            guard,
            pid_file,
            log: self.path(&format!("{name}.log")),
        }
    }
}

/// What a command ended with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A `keystile serve`, killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    guard: Child,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Running {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        let read = || fs::read_to_string(&self.pid_file).ok();
        wait_for("the pid", read).trim().parse().unwrap()
    }

    /// Sends `TERM`, `INT`, ….
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success(), "{kill}");
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.guard.try_wait().unwrap()
    }

    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        wait_for("the program to end", || self.ended())
    }

    /// Signals, and answers the exit code and how long the end took.
    pub(crate) fn stop(mut self, signal: &str) -> (Option<i32>, Duration) {
        let started = Instant::now();
        self.signal(signal);
        let status = self.wait_for_end();
        (status.code(), started.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // Nobody is left to be told that it cannot be waited for.
        self.guard.wait().ok();
    }
}
