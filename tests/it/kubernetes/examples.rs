//! The examples for meshes: their Envoy is loaded and asked by the real ones, their names are the chart's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{chart, root, template};
use crate::harness::envoy::{Endpoint, Envoy, Listener, route};
use crate::harness::http1;
use crate::harness::keystile::{Keystile, Settings};
use crate::harness::upstream::Upstream;

/// Every document of an example.
fn documents(name: &str) -> Vec<Value> {
    let path = chart().join("examples").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{name}: {err}"));
    let parse =
        |text: &str| serde_saphyr::from_str(text).unwrap_or_else(|err| panic!("{name}: {err}"));
    text.split("\n---\n").map(parse).collect()
}

#[track_caller]
fn of_kind(documents: &[Value], kind: &str) -> Vec<Value> {
    let found = documents.iter().filter(|it| it["kind"] == kind);
    let found: Vec<Value> = found.cloned().collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn envoy_accepts(file: &Path) -> Result<(), String> {
    let ours = root().join(".venv/bin/envoy");
    let envoy = std::env::var_os("KEYSTILE_ENVOY").map_or(ours, Into::into);
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--log-level", "warning", "-c"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

#[test]
fn envoy_loads_its_own_example_and_the_one_of_the_compose_file() {
    for file in [
        chart().join("examples/envoy.yaml"),
        root().join("docker/compose/envoy.yaml"),
    ] {
        envoy_accepts(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        for setting in [
            "authority: keystile",
            "validate_mutations: true",
            "encode_raw_headers: true",
            "failure_mode_allow: false",
        ] {
            assert!(text.contains(setting), "{}: {setting}", file.display());
        }
    }
    let bad = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    fs::write(bad.path(), "static_resources: {listenerz: []}").unwrap();
    assert!(envoy_accepts(bad.path()).is_err());
}

#[test]
fn every_example_names_a_service_and_a_port_that_the_chart_makes() {
    let rendered = template("values-ha.yaml", &[]).unwrap();
    let services: BTreeSet<&str> = rendered
        .split("\n---\n")
        .filter(|text| text.contains("\nkind: Service\n"))
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("  name: ")))
        .collect();
    assert!(services.contains("keystile-checker"), "{services:?}");
    let mut found = 0;
    for entry in fs::read_dir(chart().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        for word in words.filter(|word| word.starts_with("keystile-checker")) {
            assert!(services.contains(word), "{}: {word}", path.display());
            found += 1;
        }
        let port = text.contains("9001") || !text.contains("keystile-checker");
        assert!(port, "{} asks at another port", path.display());
    }
    assert!(found >= 6, "{found} names");
}

/// The value of the patch of an `EnvoyFilter` that applies to `kind`.
fn patch<'a>(filters: &'a [Value], kind: &str) -> &'a Value {
    let patches = filters
        .iter()
        .flat_map(|it| it["spec"]["configPatches"].as_array().into_iter().flatten());
    let mut of_kind = patches.filter(|it| it["applyTo"] == kind);
    let found = of_kind
        .next()
        .unwrap_or_else(|| panic!("no patch of {kind}"));
    assert_eq!(found["patch"]["operation"], "MERGE");
    &found["patch"]["value"]
}

/// One way in: what the filter is beside its plain form, and what the route says.
struct Mesh {
    name: &'static str,
    filter: Value,
    context: Value,
}

/// As istiod writes the provider, and then applies the patches.
fn istio() -> Mesh {
    let mesh = documents("istio-mesh-config.yaml");
    let provider = &mesh[0]["meshConfig"]["extensionProviders"][0];
    let grpc = &provider["envoyExtAuthzGrpc"];
    let policies = of_kind(&documents("istio-sidecar.yaml"), "AuthorizationPolicy");
    let custom = policies.iter().find(|it| it["spec"]["action"] == "CUSTOM");
    assert_eq!(
        custom.unwrap()["spec"]["provider"]["name"],
        provider["name"]
    );
    let filters = of_kind(&documents("istio-sidecar.yaml"), "EnvoyFilter");
    let mut filter = patch(&filters, "HTTP_FILTER")["typed_config"].clone();
    filter["failure_mode_allow"] = grpc["failOpen"].clone();
    let status: u32 = grpc["statusOnError"].as_str().unwrap().parse().unwrap();
    filter["status_on_error"] = json!({"code": status});
    let host = &patch(&filters, "VIRTUAL_HOST")["typed_per_filter_config"];
    let settings = &host["envoy.filters.http.ext_authz"]["check_settings"];
    Mesh {
        name: "istio",
        filter,
        context: settings["context_extensions"].clone(),
    }
}

/// As Envoy Gateway writes its policy.
fn envoy_gateway() -> Mesh {
    let policies = of_kind(&documents("envoy-gateway.yaml"), "SecurityPolicy");
    let auth = &policies[0]["spec"]["extAuth"];
    let pairs = auth["contextExtensions"].as_array().unwrap().iter();
    let pairs = pairs.map(|it| (it["name"].as_str().unwrap().to_owned(), it["value"].clone()));
    Mesh {
        name: "envoy-gateway",
        filter: json!({
            "failure_mode_allow": auth["failOpen"],
            "status_on_error": {"code": auth["statusOnError"]},
        }),
        context: Value::Object(pairs.collect()),
    }
}

/// The filter and the first route with demands of the plain example.
fn plain() -> Mesh {
    let bootstrap = &documents("envoy.yaml")[0]["static_resources"];
    let manager = &bootstrap["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let mut filter = manager["http_filters"][0]["typed_config"].clone();
    let filter_fields = filter.as_object_mut().unwrap();
    // The harness has its own cluster, and patience with a busy machine.
    filter_fields.remove("grpc_service");
    Mesh {
        name: "plain",
        filter,
        context: json!({"keystile.scopes": "orders"}),
    }
}

fn get(port: u16, row: &str, headers: &str) -> http1::Reply {
    let request = format!(
        "GET / HTTP/1.1\r\nhost: shop.test\r\nx-row: {row}\r\nconnection: close\r\n{headers}\r\n"
    );
    http1::send(port, request.as_bytes(), false).expect("an answer")
}

#[test]
fn each_mesh_refuses_without_a_key_and_lets_no_forged_tenant_through() {
    let keystile = Keystile::start(Settings::default());
    keystile.cli(&[
        "tenant",
        "create",
        "acme",
        "--display-name",
        "Acme",
        "--plan",
        "pro",
    ]);
    let with = |scope| {
        let args = ["--name", scope, "--owner", "alice", "--scope", scope];
        keystile.create_key("acme", &args).token
    };
    let (orders, other) = (with("orders"), with("other"));
    for mesh in [istio(), envoy_gateway(), plain()] {
        assert_eq!(
            mesh.context,
            json!({"keystile.scopes": "orders"}),
            "{}",
            mesh.name
        );
        let app = Upstream::start();
        let envoy = Envoy::start(
            &[Listener {
                name: mesh.name,
                authz: "keystile",
                filter: mesh.filter,
                manager: json!({}),
            }],
            &[
                ("keystile", Endpoint::Port(keystile.authz_port)),
                ("upstream", Endpoint::Port(app.port)),
            ],
            &json!([route("/", &mesh.context)]),
        );
        let port = envoy.port(mesh.name);
        let forged = "x-tenant-id: victim\r\n";
        assert_eq!(get(port, "none", forged).status, 401, "{}", mesh.name);
        let key = format!("x-api-key: {other}\r\n{forged}");
        assert_eq!(get(port, "scope", &key).status, 403, "{}", mesh.name);
        let key = format!("x-api-key: {orders}\r\n{forged}");
        assert_eq!(get(port, "key", &key).status, 200, "{}", mesh.name);
        for row in ["none", "scope"] {
            assert!(app.arrived(row).is_empty(), "{}: {row}", mesh.name);
        }
        let arrived = app.arrived("key").remove(0).headers;
        let tenants: Vec<&[u8]> = arrived
            .iter()
            .filter(|(name, _)| name == "x-tenant-id")
            .map(|(_, value)| value.as_slice())
            .collect();
        assert_eq!(tenants, [b"acme"], "{}", mesh.name);
        assert!(arrived.iter().all(|(name, _)| name != "x-api-key"));
    }
}
