//! The compose file, without Docker: what it names is there, and its parts fit together.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::matrix::list;
use super::root;
use crate::harness::keystile;
use crate::harness::process::without_our_environment;
use crate::harness::python;

/// A YAML file as Docker reads it, with its anchors and merges.
#[track_caller]
fn yaml(name: &str) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let output = Command::new(python())
        .args(["-c", script])
        .arg(root().join("docker").join(name))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{name}: {said}"))
}

fn names(value: &Value) -> BTreeSet<&str> {
    let keys = value.as_object().into_iter().flat_map(|map| map.keys());
    let keys = keys.map(String::as_str);
    keys.chain(list(value).filter_map(Value::as_str)).collect()
}

/// Services: name and what it is.
fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().unwrap().iter()
}

#[test]
fn every_service_has_what_it_names() {
    let compose = yaml("compose.yaml");
    let known = names(&compose["services"]);
    let expected = [
        "collector",
        "control-plane",
        "envoy",
        "keyring",
        "redis",
        "sidecar-1",
        "sidecar-2",
    ];
    assert_eq!(known, BTreeSet::from(expected));
    let volumes = names(&compose["volumes"]);
    for (name, service) in services(&compose) {
        assert!(
            service["image"]
                .as_str()
                .is_some_and(|image| image.contains(':')),
            "{name}"
        );
        assert!(service["command"].is_array(), "{name}");
        for needed in names(&service["depends_on"]) {
            assert!(known.contains(needed), "{name}: {needed}");
        }
        for mount in list(&service["volumes"]) {
            let mount = mount.as_str().unwrap();
            let (from, _) = mount.split_once(':').unwrap();
            let there = match from.starts_with('.') {
                true => root().join("docker").join(from).is_file(),
                false => volumes.contains(from),
            };
            assert!(there, "{name}: {mount}");
        }
    }
}

#[test]
fn every_command_reads_a_file_that_is_mounted_and_is_one_of_the_program() {
    let compose = yaml("compose.yaml");
    let mut keystiles = 0;
    for (name, service) in services(&compose) {
        let words: Vec<&str> = list(&service["command"])
            .filter_map(Value::as_str)
            .collect();
        let files = words
            .iter()
            .map(|word| word.trim_start_matches("--config="));
        for file in files.filter(|word| word.starts_with("/etc/")) {
            let mounted = list(&service["volumes"])
                .filter_map(Value::as_str)
                .any(|mount| mount.ends_with(&format!(":{file}:ro")));
            assert!(mounted, "{name}: {file}");
        }
        if !service["image"].as_str().unwrap().contains("keystile") {
            continue;
        }
        for field in ["read_only", "cap_drop", "security_opt", "user"] {
            assert!(!service[field].is_null(), "{name}: {field}");
        }
        // The command line is one that the program knows; nothing is done by it.
        let mut command = Command::new(keystile::binary());
        without_our_environment(&mut command);
        let help = command.args(&words).arg("--help").output().unwrap();
        assert!(help.status.success(), "{name}: {words:?}: {help:?}");
        keystiles += 1;
    }
    assert_eq!(keystiles, 4);
}

#[test]
fn envoy_and_the_collector_ask_where_the_processes_listen() {
    let compose = yaml("compose.yaml");
    let listens = |name: &str, section: &str| {
        let config = yaml(&format!("compose/{name}.yaml"));
        let listen = config[section]["listen"][0].as_str().unwrap().to_owned();
        listen.rsplit(':').next().unwrap().to_owned()
    };
    let file = |service: &str| match service {
        "control-plane" => "control-plane",
        "sidecar-1" | "sidecar-2" => "sidecar",
        other => panic!("{other} has no configuration"),
    };
    let envoy = yaml("compose/envoy.yaml");
    let clusters = list(&envoy["static_resources"]["clusters"]);
    let keystile = clusters
        .into_iter()
        .find(|it| it["name"] == "keystile")
        .unwrap();
    let endpoints = list(&keystile["load_assignment"]["endpoints"][0]["lb_endpoints"]);
    let mut asked = BTreeSet::new();
    for endpoint in endpoints {
        let address = &endpoint["endpoint"]["address"]["socket_address"];
        let service = address["address"].as_str().unwrap();
        assert_eq!(
            address["port_value"].to_string(),
            listens(file(service), "authz")
        );
        asked.insert(service.to_owned());
    }
    assert_eq!(
        asked,
        names(&compose["services"]["envoy"]["depends_on"])
            .iter()
            .map(|it| (*it).to_owned())
            .collect()
    );

    let collector = yaml("compose/collector.yaml");
    let pipeline = &collector["service"]["pipelines"]["metrics"];
    for kind in ["receivers", "exporters"] {
        for name in list(&pipeline[kind]).filter_map(Value::as_str) {
            assert!(!collector[kind][name].is_null(), "{kind}: {name}");
        }
    }
    let scrape = &collector["receivers"]["prometheus"]["config"]["scrape_configs"][0];
    let targets: Vec<&str> = list(&scrape["static_configs"][0]["targets"])
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(targets.len(), 3);
    for target in targets {
        let (service, port) = target.split_once(':').unwrap();
        assert_eq!(port, listens(file(service), "ops"), "{target}");
    }
}

/// The port that the host reaches is the one that Envoy listens on, and it is of this machine alone.
#[test]
fn one_port_of_one_machine_leads_to_envoy() {
    let compose = yaml("compose.yaml");
    let envoy = yaml("compose/envoy.yaml");
    let listener = &envoy["static_resources"]["listeners"][0]["address"]["socket_address"];
    let port = &listener["port_value"];
    assert_eq!(
        compose["services"]["envoy"]["ports"],
        serde_json::json!([format!("127.0.0.1:10000:{port}")])
    );
    for (name, service) in services(&compose).filter(|(name, _)| *name != "envoy") {
        assert!(service["ports"].is_null(), "{name}");
    }
    assert!(
        fs::read_to_string(root().join("docker/compose.yaml"))
            .unwrap()
            .contains("localhost:10000")
    );
}
