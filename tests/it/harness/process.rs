//! A program of ours that cannot outlive the test binary, however that ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::wait_for;

/// Runs the program and kills it when our end of the pipe closes. That happens on drop, but also when the test
/// binary is killed, and for a `static` that Rust never drops: so its directory is removed here as well.
const GUARD: &str = r#"
pid_file=$1; shift
exec 3<&0
"$@" </dev/null 3<&- & pid=$!
{ read -r _ <&3; : >"$pid_file.over"; kill -KILL "$pid"; } 2>/dev/null & reader=$!
echo "$pid" >"$pid_file.new"; mv "$pid_file.new" "$pid_file"
wait "$pid"; code=$?
kill "$reader" 2>/dev/null
# Nobody is left to look at the directory.
if [ -e "$pid_file.over" ]; then rm -rf "$PWD"; fi
exit "$code"
"#;

#[derive(Debug)]
pub(crate) struct Process {
    guard: Child,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in `dir`, a temporary one; what it prints goes to `<name>.log` there.
    pub(crate) fn start(name: &str, program: &Path, args: &[&str], dir: &Path) -> Self {
        Self::start_with(name, program, args, dir, &[])
    }

    /// The same with an environment of its own on top.
    pub(crate) fn start_with(
        name: &str,
        program: &Path,
        args: &[&str],
        dir: &Path,
        environment: &[(&str, OsString)],
    ) -> Self {
        let log = dir.join(format!("{name}.log"));
        let pid_file = dir.join(format!("{name}.pid"));
        // One of an earlier start would name a program that has ended.
        fs::remove_file(&pid_file).unwrap_or_default();
        let out = File::create(&log).expect("create the log");
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, name])
            .arg(&pid_file)
            .arg(program)
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().expect("share the log"))
            .stderr(out);
        without_our_environment(&mut command);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let guard = command.spawn().expect("start sh");
        Self {
            guard,
            pid_file,
            log,
        }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Panics, with what the program said, if it has ended.
    #[track_caller]
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.guard.try_wait().expect("look at the program") {
            panic!(
                "{} ended with {status}:\n{}",
                self.log.display(),
                self.log()
            );
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        let read = || fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok();
        wait_for("the pid file", read)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid();
        // The shell's own: a plain Debian has no program of that name.
        let kill = format!("kill -{name} {pid}");
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("run sh").success(), "cannot signal {pid}");
    }

    /// SIGTERM, then the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.end("TERM").code()
    }

    /// SIGKILL; the directory stays as the program left it.
    pub(crate) fn kill(mut self) {
        self.end("KILL");
    }

    fn end(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        wait_for("an end after a signal", || {
            self.guard.try_wait().expect("look at the program")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // The guard ends when its program has; there is nobody left to tell if it cannot be waited for.
        let _status = self.guard.wait();
    }
}

/// A developer's own `KEYSTILE_…` settings must not change what is tested.
pub(crate) fn without_our_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEYSTILE_") {
            command.env_remove(name);
        }
    }
}
