//! Kinds that are not Kubernetes' own, against the types that their projects publish.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::matrix::MATRIX;
use super::{chart, root};

/// What nobody publishes types of where a test can have them. Envoy Gateway's CRDs are only in its repository; what its
/// policy makes of the filter is in the real Envoy (`examples.rs`).
const WITHOUT_TYPES: [&str; 1] = ["gateway.envoyproxy.io/v1alpha1 SecurityPolicy"];

type Documents = BTreeMap<String, Vec<Value>>;

fn kind(document: &Value) -> String {
    let word = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    format!("{} {}", word("apiVersion"), word("kind"))
}

/// Groups of others have a dot, and do not end as Kubernetes' do.
fn is_of_others(document: &Value) -> bool {
    let group = document["apiVersion"].as_str().unwrap_or_default();
    let group = group.split('/').next().unwrap_or_default();
    // `gateway.networking.k8s.io` is one of those that Kubernetes does not bring.
    group == "gateway.networking.k8s.io" || (group.contains('.') && !group.ends_with(".k8s.io"))
}

/// Everything of others that the chart renders, and that its examples have.
fn all() -> Documents {
    let mut all = Documents::new();
    for rendered in &MATRIX.all {
        let of_others = rendered.documents.iter().filter(|it| is_of_others(it));
        all.insert(rendered.name.clone(), of_others.cloned().collect());
    }
    for entry in fs::read_dir(chart().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".yaml") {
            continue;
        }
        let documents = text.split("\n---\n").map(|text| {
            let parsed = serde_saphyr::from_str::<Value>(text);
            parsed.unwrap_or_else(|err| panic!("{name}: {err}"))
        });
        let documents = documents.filter(is_of_others).collect();
        all.insert(name, documents);
    }
    all
}

/// The kinds that were held, and the mistakes.
fn check(documents: &Documents) -> (BTreeSet<String>, String) {
    let folder = root().join(".venv/crds");
    assert!(folder.exists(), "no {}: run `make setup`", folder.display());
    let mut node = Command::new("node")
        .arg(root().join("tests/e2e/crds/check.mjs"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run node");
    let text = serde_json::to_vec(documents).unwrap();
    node.stdin.take().unwrap().write_all(&text).unwrap();
    let output = node.wait_with_output().unwrap();
    let mistakes = String::from_utf8_lossy(&output.stderr).into_owned();
    let held = serde_json::from_slice(&output.stdout);
    (held.unwrap_or_else(|_| panic!("{mistakes}")), mistakes)
}

#[test]
fn every_manifest_of_others_has_the_fields_that_they_know() {
    let documents = all();
    let (held, mistakes) = check(&documents);
    assert_eq!(mistakes, "");
    let there: BTreeSet<String> = documents.values().flatten().map(kind).collect();
    let unheld: Vec<&String> = there.difference(&held).collect();
    assert_eq!(unheld, WITHOUT_TYPES);
    assert!(held.len() >= 8, "{held:?}");
}

#[test]
fn a_field_or_a_value_that_they_do_not_know_is_found() {
    let documents = all();
    for (of, from, to) in [
        ("AuthorizationPolicy", "\"principals\"", "\"principalz\""),
        ("AuthorizationPolicy", "\"CUSTOM\"", "\"CUSTOMS\""),
        ("EnvoyFilter", "\"applyTo\"", "\"applyOn\""),
        ("HTTPRoute", "\"externalAuth\"", "\"extAuth\""),
        ("ReferenceGrant", "\"kind\":\"Service\"", "\"kind\":7"),
        ("Certificate", "\"secretName\"", "\"secret\""),
        ("ServiceMonitor", "\"endpoints\"", "\"endpoint\""),
        ("PrometheusRule", "\"expr\"", "\"expression\""),
    ] {
        let original = documents
            .values()
            .flatten()
            .find(|it| it["kind"] == of && it.to_string().contains(from));
        let text = original
            .unwrap_or_else(|| panic!("no {of} with {from}"))
            .to_string();
        let broken = serde_json::from_str(&text.replace(from, to)).unwrap();
        let (_, mistakes) = check(&BTreeMap::from([("broken".to_owned(), vec![broken])]));
        assert!(mistakes.starts_with("broken: "), "{of}: {from}: {mistakes}");
    }
}
