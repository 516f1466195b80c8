//! The examples of docs/API.md: each command is sent to a real server, in their order, and each answer is the one written.

use serde_json::{Value, json};

use super::ask_at;
use crate::support::program::Place;

/// What differs from one run to the next; it is there, and of the same type.
const VOLATILE: [&str; 7] = [
    "id",
    "api_key",
    "key_prefix",
    "prefix",
    "created_at",
    "expires_at",
    "updated_at",
];

/// A request that `curl` would send, and the answer to it.
struct Example {
    method: String,
    path: String,
    body: Option<String>,
    with_key: bool,
    answer: Value,
}

fn examples() -> Vec<Example> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/API.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rest = text.split("\n## REST\n").nth(1).unwrap();
    let blocks: Vec<_> = rest.split("```").skip(1).step_by(2).collect();
    blocks
        .chunks(2)
        .map(|pair| {
            let [command, answer] = pair else {
                panic!("{pair:?}")
            };
            let command = command.strip_prefix("sh\n").expect("a command first");
            let answer = answer.strip_prefix("json\n").expect("then its answer");
            let between = |from: &str, to: &str| {
                let (_, rest) = command.split_once(from)?;
                Some(rest.split_once(to)?.0.to_owned())
            };
            Example {
                method: between("-X ", " ").unwrap_or_else(|| "GET".into()),
                path: between("\"$ADDR", "\"").unwrap(),
                body: between("-d '", "'\n").map(|body| body.replace("'\"$TOKEN\"'", "$TOKEN")),
                with_key: command.contains("Bearer $KEY"),
                answer: serde_json::from_str(answer)
                    .unwrap_or_else(|error| panic!("{error}: {answer}")),
            }
        })
        .collect()
}

/// Makes what differs from run to run the same.
fn settled(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let volatile = VOLATILE.contains(&name.as_str()) && value.is_string();
                let value = if volatile {
                    json!("a text")
                } else {
                    settled(value)
                };
                (name.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(settled).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_example_does_what_is_written() {
    let place = Place::bootstrapped();
    place.edit_config("api_keys: {min_expiry_days: 0, max_expiry_days: 0}\n", "");
    let _running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    let args = [
        "key",
        "create",
        "acme",
        "--name",
        "alice",
        "--owner",
        "alice",
        "--role",
        "global_admin",
    ];
    let made = place.do_it(&[&args[..], &["-o", "json"]].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = made["plaintext"].as_str().unwrap();
    // The time that is written there will be over one day.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 30);
    let (mut id, mut token) = (String::new(), String::new());
    let examples = examples();
    for example in &examples {
        let path = example.path.replace("$ID", &id);
        let body = example.body.as_ref().map(|body| {
            let body = body.replace("$TOKEN", &token);
            let body = body.replace("2027-06-30T00:00:00Z", &soon.to_string());
            serde_json::from_str::<Value>(&body).unwrap()
        });
        let key = if example.with_key { key } else { "" };
        let (reply, said) = ask_at(place.admin, &example.method, &path, key, body.as_ref());
        let shown = format!("{} {path}: {said}", example.method);
        assert_eq!(settled(&said), settled(&example.answer), "{shown}");
        assert_eq!(reply.status >= 400, said["status"] == "error", "{shown}");
        if let Some(made) = said["data"]["api_key"].as_str() {
            made.clone_into(&mut token);
            said["data"]["id"].as_str().unwrap().clone_into(&mut id);
        }
    }
    // None is left out.
    let (_, document) = ask_at(place.admin, "GET", "/openapi.json", "", None);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let start = path.split('{').next().unwrap();
            let shown = examples.iter().any(|example| {
                example.method.eq_ignore_ascii_case(method) && example.path.starts_with(start)
            });
            assert!(shown, "{method} {path} has no example");
        }
    }
}
