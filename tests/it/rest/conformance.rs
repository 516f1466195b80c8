//! The description of the API against the API: schemathesis makes up requests and reads the answers by it.

use std::process::Command;

use super::{PLACE, ask};

/// What of its checks would hold only if a schema could say it: that a time is in the future, that a scope is one of the
/// caller's own, and that a name has no control characters.
const NOT_IN_A_SCHEMA: &str = "positive_data_acceptance";

#[test]
fn the_description_is_openapi_3_1_and_names_every_path() {
    let (_, document) = ask("GET", "/openapi.json", "", None);
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{document}"
    );
    let mut paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/api/v1/auth/apikeys",
            "/api/v1/auth/apikeys/{id}",
            "/api/v1/auth/validate",
        ]
    );
}

#[test]
fn no_made_up_request_is_answered_otherwise_than_described() {
    let port = PLACE.server.admin_port;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/schemathesis");
    let run = Command::new(program)
        .args(["run", &format!("http://127.0.0.1:{port}/openapi.json")])
        .args(["--checks", "all", "--exclude-checks", NOT_IN_A_SCHEMA])
        .args(["--max-examples", "25", "--seed", "1", "--workers", "2"])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", PLACE.admin),
        ])
        .args(["--no-color", "--no-shrink"])
        .current_dir(PLACE.server.dir())
        .output()
        .expect("`make setup` installs schemathesis");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(
        said.contains("/api/v1/auth/validate") || said.contains("Operations"),
        "{said}"
    );
}
