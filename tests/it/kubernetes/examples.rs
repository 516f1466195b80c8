//! The examples for meshes: their Envoy is loaded and asked by the real ones, their names are the chart's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{chart, root, template};
use crate::harness::envoy::{Endpoint, Envoy, Listener, route};
use crate::harness::http1;
use crate::harness::keystile::{self, Keystile, Settings};
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

/// An ACL file has no comments: docs/KUBERNETES.md says what it is for. Real Redis takes such lines in `redis_store::acl`.
#[test]
fn the_redis_users_are_those_that_the_program_prints() {
    let printed = ["control-plane", "checker"].map(|user| {
        let process = if user == "checker" { "sidecar" } else { user };
        let name = format!("keystile-{user}");
        let mut command = Command::new(keystile::binary());
        let command = command.args(["redis-acl", process, "--format", "aclfile", "--user", &name]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    });
    let users = fs::read_to_string(chart().join("examples/redis-users.acl")).unwrap();
    assert_eq!(users, printed.concat());
    let values = fs::read_to_string(chart().join("values-ha.yaml")).unwrap();
    for line in users.lines() {
        let name = line.split(' ').nth(1).unwrap();
        assert!(values.contains(&format!("username: {name},")), "{name}");
    }
}

/// A gRPC server gets these filters by xDS; they are whole where Envoy takes them for its own.
#[test]
fn envoy_loads_the_filters_of_proxyless_grpc() {
    let filters = documents("grpc-xds.yaml").remove(0)["http_filters"].clone();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
        }]},
        "http_filters": filters,
    });
    let mut config = json!({"static_resources": {"listeners": [{
        "name": "grpc",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
        }]}],
    }]}});
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    fs::write(file.path(), config.to_string()).unwrap();
    envoy_accepts(file.path()).unwrap();
    let filter = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    let filter = &mut filter["typed_config"]["http_filters"][0]["typed_config"];
    filter["failure_mode_alow"] = json!(false);
    fs::write(file.path(), config.to_string()).unwrap();
    assert!(envoy_accepts(file.path()).is_err());
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
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
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

/// The filter that istiod makes of a provider, which the policy of an example names.
fn provided(example: &str, name: &str) -> Value {
    let mesh = documents("istio-mesh-config.yaml");
    let providers = mesh[0]["meshConfig"]["extensionProviders"].as_array();
    let mut providers = providers.unwrap().iter();
    let provider = providers.find(|it| it["name"] == name).unwrap();
    let policies = of_kind(&documents(example), "AuthorizationPolicy");
    let custom = policies.iter().find(|it| it["spec"]["action"] == "CUSTOM");
    let custom = &custom.unwrap()["spec"];
    assert_eq!(custom["provider"]["name"], name);
    assert_eq!(
        custom["rules"],
        json!([{}]),
        "a request that no rule matches is not checked"
    );
    let grpc = &provider["envoyExtAuthzGrpc"];
    let status: u32 = grpc["statusOnError"].as_str().unwrap().parse().unwrap();
    json!({
        "failure_mode_allow": grpc["failOpen"],
        "status_on_error": {"code": status},
    })
}

/// As istiod writes the provider, and then applies the patches.
fn istio() -> Mesh {
    let filters = of_kind(&documents("istio-sidecar.yaml"), "EnvoyFilter");
    let mut filter = provided("istio-sidecar.yaml", "keystile");
    let patched = patch(&filters, "HTTP_FILTER")["typed_config"].as_object();
    let all = filter.as_object_mut().unwrap();
    all.extend(patched.unwrap().clone());
    let host = &patch(&filters, "VIRTUAL_HOST")["typed_per_filter_config"];
    let settings = &host["envoy.filters.http.ext_authz"]["check_settings"];
    Mesh {
        name: "istio",
        filter,
        context: settings["context_extensions"].clone(),
    }
}

/// What a route asks is in Keystile's configuration.
fn without_context(name: &'static str, filter: Value) -> Mesh {
    Mesh {
        name,
        filter,
        context: json!({}),
    }
}

/// A waypoint, which has policies by target alone.
fn istio_ambient() -> Mesh {
    let policies = of_kind(&documents("istio-ambient.yaml"), "AuthorizationPolicy");
    let custom = policies.iter().find(|it| it["spec"]["action"] == "CUSTOM");
    let custom = &custom.unwrap()["spec"];
    assert_eq!(custom["selector"], Value::Null);
    let gateways = of_kind(&documents("istio-ambient.yaml"), "Gateway");
    assert_eq!(
        custom["targetRefs"][0]["name"],
        gateways[0]["metadata"]["name"]
    );
    without_context("istio-ambient", provided("istio-ambient.yaml", "keystile"))
}

/// The checker of the same pod, whom the mesh knows by an entry of its own.
fn istio_in_pod() -> Mesh {
    let entries = of_kind(&documents("istio-in-pod.yaml"), "ServiceEntry");
    let entry = &entries[0]["spec"];
    let mesh = documents("istio-mesh-config.yaml");
    let provider = &mesh[0]["meshConfig"]["extensionProviders"][1];
    let grpc = &provider["envoyExtAuthzGrpc"];
    assert_eq!(entry["hosts"], json!([grpc["service"]]));
    assert_eq!(entry["ports"][0]["number"], grpc["port"]);
    assert_eq!(entry["endpoints"], json!([{"address": "127.0.0.1"}]));
    without_context(
        "istio-in-pod",
        provided("istio-in-pod.yaml", "keystile-in-pod"),
    )
}

/// The filter of an `HTTPRoute`, which must refuse when nobody answers.
fn gateway_api() -> Mesh {
    let routes = of_kind(&documents("gateway-api.yaml"), "HTTPRoute");
    let filter = &routes[0]["spec"]["rules"][0]["filters"][0];
    assert_eq!(filter["type"], "ExternalAuth");
    let auth = &filter["externalAuth"];
    assert_eq!(auth["protocol"], "GRPC");
    assert_eq!(auth["grpc"], json!({}), "hidden headers are not removed");
    assert_eq!(auth["forwardBody"], Value::Null);
    without_context("gateway-api", json!({"failure_mode_allow": false}))
}

/// The filter that a gRPC server gets by xDS; here Envoy has it, with the harness's own cluster.
fn grpc_xds() -> Mesh {
    let mut filter = documents("grpc-xds.yaml")[0]["http_filters"][0]["typed_config"].clone();
    let grpc = filter
        .as_object_mut()
        .unwrap()
        .remove("grpc_service")
        .unwrap();
    let target = grpc["google_grpc"]["target_uri"].as_str().unwrap();
    assert!(
        target.starts_with("dns:///keystile-checker-pods."),
        "{target}"
    );
    without_context("grpc-xds", filter)
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

/// A Keystile with a key of the scope that is asked for, and one without.
struct Asked {
    keystile: Keystile,
    orders: String,
    other: String,
}

impl Asked {
    fn start(settings: Settings) -> Self {
        let keystile = Keystile::start(settings);
        let tenant = ["tenant", "create", "acme", "--display-name", "Acme"];
        keystile.cli(&[tenant.as_slice(), &["--plan", "pro"]].concat());
        let with = |scope| {
            let args = ["--name", scope, "--owner", "alice", "--scope", scope];
            keystile.create_key("acme", &args).token
        };
        let (orders, other) = (with("orders"), with("other"));
        Self {
            keystile,
            orders,
            other,
        }
    }
}

#[test]
fn each_mesh_refuses_without_a_key_and_lets_no_forged_tenant_through() {
    let by_mesh = Asked::start(Settings::default());
    let by_rules = Asked::start(Settings {
        authz: "  routes: [{path: \"/{*rest}\", scopes: [orders]}]",
        ..Settings::default()
    });
    for mesh in [
        istio(),
        istio_in_pod(),
        istio_ambient(),
        envoy_gateway(),
        gateway_api(),
        grpc_xds(),
        plain(),
    ] {
        // What a route asks comes from the mesh, where it can say that, and from the configuration elsewhere.
        let asks = json!({"keystile.scopes": "orders"});
        let asked = match &mesh.context {
            context if *context == asks => &by_mesh,
            context if *context == json!({}) => &by_rules,
            other => panic!("{}: {other}", mesh.name),
        };
        let Asked {
            keystile,
            orders,
            other,
        } = asked;
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
