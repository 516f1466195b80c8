//! One real server for all tests of the client, and the client with an environment of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::keystile::{Keystile, Settings};

static SERVER: LazyLock<Keystile> = LazyLock::new(|| Keystile::start(Settings::default()));

/// What a command ended with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Somebody's account: a home folder, and an environment without anything of ours.
pub(crate) struct Account {
    home: TempDir,
    pub(crate) vars: Vec<(&'static str, String)>,
}

pub(crate) fn server() -> &'static Keystile {
    &SERVER
}

pub(crate) fn admin() -> String {
    format!("127.0.0.1:{}", server().admin_port)
}

pub(crate) fn authz() -> String {
    format!("127.0.0.1:{}", server().authz_port)
}

impl Account {
    /// Knows nothing.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let vars = vec![("HOME", home.path().display().to_string())];
        Self { home, vars }
    }

    /// Has the address and the first key in the environment.
    pub(crate) fn admin() -> Self {
        Self::new()
            .with("KEYSTILE_ADDR", &admin())
            .with("KEYSTILE_API_KEY", &server().admin_token)
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.vars.push((name, value.to_owned()));
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        crate::harness::write_secret(&self.dir().join(name), text);
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystile"));
        command
            .args(args)
            .current_dir(self.dir())
            .env_clear()
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a line, split at its blanks; text in single quotes is one word.
    pub(crate) fn run(&self, line: &str) -> Ended {
        self.run_with(line, "")
    }

    /// The same with something on standard input.
    pub(crate) fn run_with(&self, line: &str, input: &str) -> Ended {
        let words = words(line);
        let mut child = self
            .command(&words.iter().map(String::as_str).collect::<Vec<_>>())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read closes the pipe.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a line that has to end well; gives what it printed.
    #[track_caller]
    pub(crate) fn done(&self, line: &str) -> String {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended.out
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
