//! What Helm and Kubernetes say of the chart.

use std::fs;
use std::process::{Command, Stdio};

use super::matrix::{MATRIX, Rendered, VALUES, check, list};
use super::{chart, helm, root, template};
use crate::harness::{keystile, python};

#[test]
fn helm_lints_every_values_file_without_a_warning() {
    for values in VALUES {
        let output = helm(&["lint", ".", "--strict", "-f", values]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{values}: {text}");
        assert!(!text.contains("[WARNING]"), "{values}: {text}");
    }
}

#[test]
fn every_manifest_is_valid_on_the_oldest_and_the_newest_kubernetes() {
    assert_eq!(MATRIX.mistakes, "");
    assert!(
        MATRIX.all.iter().all(|it| it.documents.len() >= 8),
        "something rendered to almost nothing"
    );
}

#[test]
fn the_schemas_find_a_field_and_a_kind_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let text = template("values.yaml", &[]).unwrap();
    for (name, from, to) in [
        ("field", "replicas: 1", "replicaz: 1"),
        ("kind", "kind: PersistentVolumeClaim", "kind: Claim"),
        ("type", "replicas: 1", "replicas: one"),
    ] {
        assert!(text.contains(from));
        fs::write(
            folder.path().join(format!("{name}.yaml")),
            text.replace(from, to),
        )
        .unwrap();
    }
    let (_, mistakes) = check(folder.path());
    for name in ["field", "kind", "type"] {
        for version in ["1.29", "1.37"] {
            let said = format!("{name} on {version}: ");
            assert!(mistakes.contains(&said), "no {said} in {mistakes}");
        }
    }
}

#[test]
fn every_switch_changes_something() {
    let plain = |it: &Rendered| {
        let values = it.name.split('+').next().unwrap();
        MATRIX.named(&format!("{values}+plain"))
    };
    for it in &MATRIX.all {
        // There is no pause in values-dev.yaml that an older Kubernetes could not have.
        if it.name.ends_with("+plain") || it.name == "values-dev+kubernetes-1.29" {
            continue;
        }
        assert!(
            it.documents != plain(it).documents,
            "{} is as without it",
            it.name
        );
    }
}

#[test]
fn the_schema_of_the_values_has_the_configuration_as_it_is() {
    let mut schema = Command::new(keystile::binary())
        .args(["config", "schema"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let checked = Command::new(python())
        .args(["-B", "schema.py", "--check"])
        .current_dir(chart())
        .stdin(schema.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(schema.wait().unwrap().success());
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}

#[test]
fn every_alert_is_on_a_metric_that_is_documented() {
    let operations = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let rendered = MATRIX.named("values-ha+monitoring");
    let rule = rendered.of_kind("PrometheusRule").next().unwrap();
    let rules = list(&rule["spec"]["groups"][0]["rules"]);
    let mut found = 0;
    for rule in rules {
        let expression = rule["expr"].as_str().unwrap();
        let metric = expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .find(|word| word.starts_with("keystile_") || word.starts_with("api_key_"));
        let metric = metric.unwrap_or_else(|| panic!("no metric in {expression}"));
        assert!(
            operations.contains(&format!("`{metric}`"))
                || operations.contains(&format!("`{metric} - time()")),
            "{metric} is not in docs/OPERATIONS.md"
        );
        let summary = rule["annotations"]["summary"].as_str().unwrap_or_default();
        assert!(summary.len() > 30, "{metric}: {summary}");
        found += 1;
    }
    assert!(found >= 8, "{found} alerts");
}

#[test]
fn a_kind_of_the_prometheus_operator_is_rendered_where_it_is_known_or_asked_for() {
    let on = [
        "--set",
        "monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true",
    ];
    let has = |text: &str| text.contains("monitoring.coreos.com");
    assert!(!has(&template("values.yaml", &on).unwrap()));
    let known = [
        "--api-versions",
        "monitoring.coreos.com/v1/ServiceMonitor",
        "--api-versions",
        "monitoring.coreos.com/v1/PrometheusRule",
    ];
    assert!(has(&template(
        "values.yaml",
        &[on.as_slice(), &known[..2]].concat()
    )
    .unwrap()));
    let fail = [
        "--set",
        "monitoring.serviceMonitor.renderMode=failIfMissing",
    ];
    let said = template("values.yaml", &[on, fail].concat()).unwrap_err();
    assert!(
        said.contains("install the Prometheus operator first"),
        "{said}"
    );
    let all = [on.as_slice(), fail.as_slice(), known.as_slice()].concat();
    assert!(has(&template("values.yaml", &all).unwrap()));
}
