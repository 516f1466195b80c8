//! `keystile health`, which is the probe of an image that has no shell.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::world::{Account, Ended, admin, authz, server};
use crate::harness::process::Process;
use crate::harness::{free_port, keystile, wait_for};

#[track_caller]
fn well(account: &Account, line: &str, said: &str) {
    let ended = account.run(line);
    assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    assert_eq!(ended.out, format!("{said}\n"), "{line}");
    assert_eq!(ended.err, "", "{line}");
}

#[track_caller]
fn ill(account: &Account, line: &str, said: &str) -> Ended {
    let ended = account.run(line);
    assert_eq!(ended.code, Some(1), "{line}: {ended:?}");
    assert!(ended.err.contains(said), "{line}: {ended:?}");
    assert_eq!(ended.out, "", "{line}");
    ended
}

fn ops() -> String {
    format!("127.0.0.1:{}", server().ops_port)
}

#[test]
fn a_process_that_is_ready_is_asked_at_each_listener_and_socket() {
    let account = Account::new();
    let (ops, authz, admin) = (ops(), authz(), admin());
    well(
        &account,
        &format!("health --addr {ops}"),
        &format!("{ops} is ready"),
    );
    well(
        &account,
        &format!("health --live --addr {ops}"),
        &format!("{ops} is ok"),
    );
    let socket = format!("unix:{}", server().authz_socket().display());
    for listener in [&authz, &admin, &socket] {
        let line = format!("health --grpc --addr {listener}");
        well(&account, &line, &format!("{listener} is ready"));
    }
}

#[test]
fn the_address_comes_from_a_flag_a_variable_or_the_configuration() {
    let ops = ops();
    let said = format!("{ops} is ready");
    let file = server().dir().join("keystile.yaml");
    let by_file = format!("health -c {}", file.display());
    well(&Account::new(), &by_file, &said);
    let nobody = format!("127.0.0.1:{}", free_port());
    let elsewhere = Account::new().with("KEYSTILE_HEALTH_ADDR", &nobody);
    well(&elsewhere, &format!("health --addr {ops}"), &said);
    ill(
        &elsewhere,
        &by_file,
        &format!("cannot reach {nobody}: connection refused"),
    );
    let here = Account::new().with("KEYSTILE_HEALTH_ADDR", &ops);
    well(&here, "health", &said);
    // The environment alone may be the whole configuration.
    let by_environment = Account::new()
        .with("KEYSTILE__OPS__LISTEN", &ops)
        .with("KEYSTILE__AUTHZ__LISTEN", "127.0.0.1:9001")
        .with("KEYSTILE__KEYRING__DATA__FILE", "data.keyring");
    well(&by_environment, "health", &said);
}

#[test]
fn whoever_does_not_answer_as_he_should_is_ill_and_named() {
    let account = Account::new();
    let (ops, authz) = (ops(), authz());
    ill(
        &account,
        &format!("health --addr {authz}"),
        "did not answer as an `ops` listener does",
    );
    ill(
        &account,
        &format!("health --grpc --addr {ops}"),
        "--grpc is for `authz` and `admin`",
    );
    let missing = format!("unix:{}/none.sock", account.dir().display());
    ill(
        &account,
        &format!("health --addr {missing}"),
        "no such socket",
    );
    let usage = account.run("health --grpc");
    assert_eq!(usage.code, Some(2), "{usage:?}");
    let config = account.run("health -c none.yaml");
    assert_eq!(config.code, Some(78), "{config:?}");
}

#[test]
fn whoever_says_nothing_is_given_up_in_time() {
    // Its backlog takes the connection, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for question in ["", "--grpc ", "--live "] {
        let start = Instant::now();
        let line = format!("health {question}--timeout 300ms --addr {address}");
        ill(&Account::new(), &line, "did not answer within 300ms");
        // The rest is the start of a process on a busy machine.
        assert!(start.elapsed() < Duration::from_secs(20), "{line}");
    }
}

#[test]
fn a_process_that_waits_for_its_store_is_alive_and_not_ready() {
    let account = Account::new();
    account.done("keyring init --dir keys");
    let (ops, authz) = (free_port(), free_port());
    let config = format!(
        "{{authz: {{listen: ['127.0.0.1:{authz}']}}, ops: {{listen: ['127.0.0.1:{ops}']}},
          store: {{kind: redis, redis: {{url: 'redis://127.0.0.1:{}'}}}},
          keyring: {{data: {{file: {}/keys/data.keyring}}}}}}",
        free_port(),
        account.dir().display()
    );
    fs::write(account.dir().join("k.yaml"), config).unwrap();
    let args = ["serve", "-c", "k.yaml"];
    let mut process = Process::start("keystile", &keystile::binary(), &args, account.dir());
    wait_for("it to be alive", || {
        process.assert_running();
        (account.run("health --live -c k.yaml").code == Some(0)).then_some(())
    });
    let said = format!("error: 127.0.0.1:{ops} is not ready: store");
    ill(&account, "health -c k.yaml", &said);
    let line = format!("--grpc --addr 127.0.0.1:{authz}");
    ill(
        &account,
        &format!("health {line}"),
        "is not ready: NOT_SERVING",
    );
    well(
        &account,
        &format!("health --live {line}"),
        &format!("127.0.0.1:{authz} is alive"),
    );
}
