//! The programs under `examples/`, as their readers run them: against `keystile dev`.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::keystile::binary;
use crate::harness::process::Process;
use crate::harness::{free_port, python, wait_for};

/// `keystile dev`, with what it has printed.
struct Dev {
    _process: Process,
    greeting: Value,
    _dir: TempDir,
}

static DEV: LazyLock<Dev> = LazyLock::new(|| {
    let dir = tempfile::Builder::new().prefix("ks-").tempdir().unwrap();
    let listen = ["--authz-listen", "--admin-listen", "--ops-listen"];
    let mut args = vec!["dev".to_owned(), "-o".into(), "json".into()];
    for flag in listen {
        args.extend([flag.to_owned(), format!("127.0.0.1:{}", free_port())]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut process = Process::start("dev", &binary(), &args, dir.path());
    let greeting = wait_for("the greeting of keystile dev", || {
        process.assert_running();
        let log = process.log();
        log.lines().find_map(|line| serde_json::from_str(line).ok())
    });
    Dev {
        _process: process,
        greeting,
        _dir: dir,
    }
});

/// Runs an example that has to end well; gives what it printed.
#[track_caller]
fn done(program: &Path, args: &[&str]) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let output = Command::new(program)
        .args(args)
        .arg(text(&DEV.greeting["addresses"]["admin"]))
        .env("KEYSTILE_API_KEY", text(&DEV.greeting["tokens"]["admin"]))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}: {said}\n{error}");
    said
}

#[test]
fn the_client_in_python_does_what_it_says() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/admin_client.py");
    let said = done(&python(), &["-B", script.to_str().unwrap()]);
    for line in [
        "made tenants/example-python\n",
        ", once\n",
        "refused: key.owner: ",
        "valid: True\nvalid once revoked: False\n",
        "deleted tenants/example-python with its keys\n",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
}

#[test]
fn the_client_in_rust_does_what_it_says() {
    let built = Path::new(env!("CARGO_BIN_EXE_keystile")).with_file_name("examples");
    let program = built.join("admin_client");
    assert!(
        program.exists(),
        "`cargo build --examples` makes it; `make test` does that"
    );
    let said = done(&program, &[]);
    for line in [
        "made tenants/example (",
        "its token is valid: true\n",
        "deleted the tenant with its keys\n",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
}
