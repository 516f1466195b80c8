//! `make run`: what a newcomer sees, with the real Envoy.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::process::{Process, without_our_environment};
use crate::harness::{free_port, keystile, wait_for};

const PORTS: [&str; 5] = [
    "ENVOY_PORT",
    "ECHO_PORT",
    "AUTHZ_PORT",
    "ADMIN_PORT",
    "OPS_PORT",
];

/// What the tour on Redis has beside them.
const PORTS_ON_REDIS: [&str; 4] = ["REDIS_PORT", "AUTHZ2_PORT", "OPS1_PORT", "OPS2_PORT"];

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/tour.py")
}

/// The tour on free ports, with its files in `dir`.
fn environment(dir: &Path) -> Vec<(&'static str, OsString)> {
    let mut all: Vec<(&str, OsString)> = vec![
        ("NO_COLOR", "1".into()),
        ("TOUR_DIR", dir.into()),
        ("KEYSTILE_BIN", keystile::binary().into()),
    ];
    for name in PORTS.into_iter().chain(PORTS_ON_REDIS) {
        all.push((name, free_port().to_string().into()));
    }
    if let Some(envoy) = std::env::var_os("KEYSTILE_ENVOY") {
        all.push(("KEYSTILE_ENVOY", envoy));
    }
    all
}

fn tour(settings: &[(&str, u16)]) -> Output {
    let dir = tempfile::tempdir().expect("make a directory");
    let mut command = Command::new("python3");
    without_our_environment(&mut command);
    command
        .arg("-B")
        .arg(script())
        .envs(environment(dir.path()))
        .env("TOUR", "only");
    for (name, port) in settings {
        command.env(name, port.to_string());
    }
    command.output().expect("run python3")
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr];
    parts.map(|part| String::from_utf8_lossy(part)).join("\n")
}

#[test]
fn the_tour_on_redis_ends_with_a_revocation_that_both_sidecars_have_confirmed() {
    let output = tour(&[("REDIS", 1)]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for shown in [
        "keystile fleet",
        "both are live",
        "--wait 5s",
        "refused by both",
    ] {
        assert!(
            text.contains(shown),
            "the tour does not show {shown}:\n{text}"
        );
    }
    assert!(!text.contains('✗'), "{text}");
}

#[test]
fn the_tour_shows_each_promise_and_ends_well() {
    let output = tour(&[]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for shown in [
        "$ curl -i http://127.0.0.1:",
        "HTTP 401",
        "missing_api_key",
        "HTTP 200",
        "x-tenant-id: ",
        "-H 'x-tenant-id: forged'",
        "HTTP 403",
        "feature_not_enabled",
        "key revoke",
        "invalid_api_key",
    ] {
        assert!(
            text.contains(shown),
            "the tour does not show {shown}:\n{text}"
        );
    }
    assert!(!text.contains('✗'), "{text}");
    assert!(!text.contains('\x1b'), "colour outside a terminal:\n{text}");
}

#[test]
fn after_the_tour_it_stays_up_and_a_signal_stops_all_of_it() {
    let dir = tempfile::tempdir().expect("make a directory");
    let mut environment = environment(dir.path());
    environment.push(("TOUR", "".into()));
    let script = script();
    let args = ["-B", script.to_str().expect("a path in UTF-8")];
    let mut tour = Process::start_with("tour", "python3".as_ref(), &args, dir.path(), &environment);
    wait_for("the end of the tour", || {
        tour.assert_running();
        tour.log().contains("Ctrl-C stops all of it").then_some(())
    });
    let ports = environment.iter().filter(|(name, _)| PORTS.contains(name));
    let ports: Vec<u16> = ports
        .map(|(_, port)| port.to_str().and_then(|port| port.parse().ok()))
        .collect::<Option<_>>()
        .expect("ports are numbers");
    for port in &ports {
        assert!(
            TcpListener::bind(("127.0.0.1", *port)).is_err(),
            "nobody listens on {port} while the tour is up"
        );
    }
    assert_eq!(tour.terminate(), Some(0));
    for port in ports {
        // An upstream connection in TIME_WAIT would refuse a bind; nobody accepting is what counts.
        assert!(
            std::net::TcpStream::connect(("127.0.0.1", port)).is_err(),
            "somebody still listens on {port}"
        );
    }
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    for name in PORTS {
        let taken = TcpListener::bind("127.0.0.1:0").expect("take a port");
        let port = taken.local_addr().expect("has an address").port();
        let output = tour(&[(name, port)]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("port {port} is taken")), "{text}");
        assert!(text.contains(&format!("make run {name}=")), "{text}");
        assert!(!text.contains("Traceback"), "{text}");
    }
}
