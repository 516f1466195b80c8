//! The description of the API against the API: schemathesis makes up requests, good ones and bad ones, and reads the
//! answers by the description. What it is told is in `tests/e2e/schemathesis.toml`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{PLACE, ask};
use crate::harness::python;

/// Where everything is that OpenAPI demands of a document and of the schemas in it.
const IS_VALID: &str = r#"
import json, sys
import jsonschema_rs
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
document = json.load(open(sys.argv[1]))
wrong = [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(document)]
for name, schema in document["components"]["schemas"].items():
    if not jsonschema_rs.meta.is_valid(schema):
        wrong.append(f"{name} is no JSON Schema")
print("\n".join(wrong))
"#;

fn described() -> Value {
    let (reply, document) = ask("GET", "/openapi.json", "", None);
    assert_eq!(reply.status, 200);
    document
}

/// Puts a document where the programs find it.
fn save(name: &str, document: &Value) -> PathBuf {
    let path = PLACE.server.dir().join(name);
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

fn mistakes(document: &Path) -> String {
    let checked = Command::new(python())
        .args(["-c", IS_VALID])
        .arg(document)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{stderr}");
    String::from_utf8_lossy(&checked.stdout).trim().to_owned()
}

#[test]
fn the_description_is_openapi_3_1_and_names_every_path() {
    let mut document = described();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(mistakes(&save("right.json", &document)), "");
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/api/v1/auth/apikey-config",
            "/api/v1/auth/apikey-limits",
            "/api/v1/auth/apikeys",
            "/api/v1/auth/apikeys/{id}",
            "/api/v1/auth/validate",
        ]
    );
    // This check can fail.
    document["components"]["responses"]["NotFound"]["headers"] = json!([]);
    document["components"]["schemas"]["Problem"]["type"] = json!("sentence");
    let said = mistakes(&save("wrong.json", &document));
    assert!(said.contains("Problem is no JSON Schema"), "{said}");
    assert!(said.lines().count() > 1, "{said}");
}

/// Runs schemathesis as the holder of a key, against the description in a file.
fn run(name: &str, description: &Value, token: &str, args: &[&str]) -> (Output, Value) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report = PLACE.server.dir().join(format!("{name}.report"));
    let output = Command::new("timeout")
        .arg("900")
        .arg(project.join(".venv/bin/schemathesis"))
        .arg("--config-file")
        .arg(project.join("tests/e2e/schemathesis.toml"))
        .arg("run")
        .arg(save(&format!("{name}.json"), description))
        .arg("--url")
        .arg(format!("http://127.0.0.1:{}", PLACE.server.admin_port))
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .args(["--no-color", "--seed", "1", "--request-timeout", "60"])
        .args(args)
        .env("KEYSTILE_API_KEY", token)
        .env("SCHEMATHESIS_HOOKS", project.join("tests/e2e/rest_data.py"))
        .current_dir(PLACE.server.dir())
        .output()
        .expect("`make setup` installs schemathesis");
    let report = std::fs::read(report).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output, serde_json::from_slice(&report).unwrap())
}

/// Whoever calls, everything that is asked is answered as described. `refused` are the operations that are not for the
/// role.
fn check_conforms(tenant: &str, role: &str, scopes: &[&str], refused: &[&str]) {
    let server = &PLACE.server;
    server.cli(&["tenant", "create", tenant]);
    server.cli(&["limits", "set", tenant, "--max-keys-per-user", "100000"]);
    let args = [&["--name", role, "--owner", role, "--role", role], scopes].concat();
    let key = server.create_key(tenant, &args);
    let description = described();
    let args = ["--max-examples", "60", "--max-failures", "20"];
    let (output, report) = run(role, &description, &key.token, &args);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    // And that it did ask.
    let operations = description["paths"].as_object().unwrap().values();
    let operations: usize = operations.map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(report["operations"]["tested"], operations, "{report}");
    for phase in ["coverage", "fuzzing", "stateful"] {
        assert_eq!(report["phases"][phase]["status"], "success", "{phase}");
    }
    let refused: Vec<_> = refused.iter().map(|operation| json!(operation)).collect();
    for (warning, about) in report["warnings"].as_object().unwrap() {
        let mut about = about.as_array().unwrap().clone();
        about.retain(|operation| !refused.contains(operation));
        assert_eq!(about, [""; 0], "{warning}");
    }
    assert!(report["test_cases"]["generated"].as_u64() > Some(500));
    for (operation, rates) in report["valid_rates"].as_object().unwrap() {
        let accepted = ["coverage", "fuzzing"].map(|phase| rates[phase]["accepted"].as_u64());
        let is_refused = refused.contains(&json!(operation));
        assert!(
            is_refused || accepted.iter().any(|number| *number > Some(0)),
            "{role} {operation}: {rates}"
        );
    }
}

#[test]
fn no_made_up_request_of_an_admin_is_answered_otherwise_than_described() {
    check_conforms("conform-admin", "global_admin", &[], &[]);
}

#[test]
fn no_made_up_request_of_a_user_is_answered_otherwise_than_described() {
    let not_for_users = [
        "GET /api/v1/auth/apikey-config",
        "PUT /api/v1/auth/apikey-limits",
    ];
    check_conforms("conform-user", "user", &["--scope", "read"], &not_for_users);
}

/// A description that is not true is found to be so, in each of its parts.
#[test]
fn a_description_that_is_not_true_is_found_out() {
    let key = PLACE
        .server
        .create_key("acme", &["--name", "liar", "--owner", "liar"]);
    type Lie = fn(&mut Value);
    let lies: [(&str, Lie, &str); 4] = [
        (
            "status",
            |doc| {
                let revoke = &mut doc["paths"]["/api/v1/auth/apikeys/{id}"]["delete"];
                revoke["responses"].as_object_mut().unwrap().remove("404");
            },
            "ST103",
        ),
        (
            "header",
            |doc| {
                let absent = &mut doc["components"]["responses"]["NotFound"];
                absent["headers"]["x-missing"] = json!({"required": true, "schema": {}});
            },
            "ST107",
        ),
        (
            "value",
            |doc| {
                let bad = &mut doc["components"]["responses"]["BadRequest"];
                bad["headers"]["x-frame-options"]["schema"] = json!({"const": "SAMEORIGIN"});
            },
            "ST108",
        ),
        (
            "body",
            |doc| {
                let problem = &mut doc["components"]["schemas"]["Problem"];
                problem["required"] = json!(["cause"]);
            },
            "violates schema",
        ),
    ];
    for (name, lie, expected) in lies {
        let mut description = described();
        lie(&mut description);
        let args = ["--phases", "coverage"];
        let (output, _) = run(name, &description, &key.token, &args);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
    }
}
