//! One real Envoy with a listener for each way in which people configure `ext_authz`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::process::Process;
use super::{http1, wait_for};

/// Where a cluster's endpoint is. All but `upstream` and those whose name ends in `-http1` are asked by HTTP/2.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    Port(u16),
    Socket(PathBuf),
    Tls(u16, TlsFiles),
}

/// What a client of TLS has in files. Its connections are short, so that there are many handshakes.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Requests on one TLS connection, before the next is made.
const REQUESTS_PER_TLS_CONNECTION: u32 = 3;

/// One listener: a name, the cluster that decides, and what differs from the plain configuration.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: &'static str,
    pub(crate) authz: &'static str,
    /// Fields of `ExtAuthz`.
    pub(crate) filter: Value,
    /// Fields of `HttpConnectionManager`.
    pub(crate) manager: Value,
}

#[derive(Debug)]
pub(crate) struct Envoy {
    _process: Process,
    ports: BTreeMap<String, u16>,
    access_log: PathBuf,
    _dir: TempDir,
}

const ADMIN_GET: &str =
    "GET /listeners?format=json HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";

impl Envoy {
    pub(crate) fn start(
        listeners: &[Listener],
        clusters: &[(&str, Endpoint)],
        routes: &Value,
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("envoy-").tempdir();
        let dir = dir.expect("make a directory");
        let access_log = dir.path().join("access.log");
        let config = bootstrap(listeners, clusters, routes, &access_log);
        let config_path = dir.path().join("envoy.json");
        fs::write(&config_path, format!("{config:#}")).expect("write the config");
        let args = [
            "-c",
            "envoy.json",
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--file-flush-interval-msec",
            "20",
            "--admin-address-path",
            "admin.address",
        ];
        let mut process = Process::start("envoy", &binary(), &args, dir.path());
        let ports = wait_for("Envoy to listen", || {
            process.assert_running();
            let address = fs::read_to_string(dir.path().join("admin.address")).ok()?;
            let port = address.trim().rsplit(':').next()?.parse().ok()?;
            let reply = http1::send(port, ADMIN_GET.as_bytes(), false).ok()?;
            let found = listener_ports(&serde_json::from_slice(&reply.body).ok()?);
            (found.len() == listeners.len()).then_some(found)
        });
        Self {
            _process: process,
            ports,
            access_log,
            _dir: dir,
        }
    }

    #[track_caller]
    pub(crate) fn port(&self, listener: &str) -> u16 {
        let port = self.ports.get(listener);
        *port.unwrap_or_else(|| panic!("no listener {listener}"))
    }

    /// What the access log says of one request, once Envoy has written it.
    pub(crate) fn logged(&self, row: &str) -> Value {
        wait_for("the access log", || {
            let log = fs::read_to_string(&self.access_log).ok()?;
            let entries = log
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            entries
                .into_iter()
                .find(|entry: &Value| entry["row"] == row)
        })
    }
}

/// `KEYSTILE_ENVOY`, else the one that `make setup` put into the project.
fn binary() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/envoy");
    let path = std::env::var_os("KEYSTILE_ENVOY").map_or(ours, PathBuf::from);
    assert!(
        path.exists(),
        "no Envoy at {}: run `make setup`, or name one in KEYSTILE_ENVOY",
        path.display()
    );
    path
}

fn listener_ports(found: &Value) -> BTreeMap<String, u16> {
    let statuses = found["listener_statuses"].as_array().into_iter().flatten();
    let ports = statuses.filter_map(|status| {
        let port = status["local_address"]["socket_address"]["port_value"].as_u64()?;
        Some((
            status["name"].as_str()?.to_owned(),
            u16::try_from(port).ok()?,
        ))
    });
    ports.collect()
}

fn bootstrap(
    listeners: &[Listener],
    clusters: &[(&str, Endpoint)],
    routes: &Value,
    log: &Path,
) -> Value {
    let listeners = listeners.iter().map(|each| listener(each, routes, log));
    let clusters = clusters.iter().map(|(name, at)| cluster(name, at));
    json!({
        "admin": {"address": socket_address(0)},
        "static_resources": {
            "listeners": listeners.collect::<Vec<_>>(),
            "clusters": clusters.collect::<Vec<_>>(),
        },
    })
}

fn socket_address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn listener(listener: &Listener, routes: &Value, log: &Path) -> Value {
    let mut filter = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        // The default of 200 ms would test how busy the machine is.
        "grpc_service": {
            "envoy_grpc": {"cluster_name": listener.authz, "authority": "keystile"},
            "timeout": "60s",
        },
    });
    merge(&mut filter, &listener.filter);
    if filter["http_service"].is_object() {
        filter
            .as_object_mut()
            .expect("an object")
            .remove("grpc_service");
    }
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.\
            http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": listener.name,
        "use_remote_address": true,
        "normalize_path": false,
        "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
        "access_log": [access_log(log)],
        "route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": routes},
            // Envoy merges what a virtual host says with what its routes say.
            {
                "name": "off",
                "domains": ["off.test"],
                "routes": routes,
                "typed_per_filter_config": told(&json!({"keystile.mode": "off"})),
            },
        ]},
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": filter},
            {"name": "envoy.filters.http.router", "typed_config":
                {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
        ],
    });
    merge(&mut manager, &listener.manager);
    let manager = json!({"name": "http", "typed_config": manager});
    json!({
        "name": listener.name,
        "address": socket_address(0),
        "filter_chains": [{"filters": [manager]}],
    })
}

fn merge(into: &mut Value, more: &Value) {
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
}

fn access_log(path: &Path) -> Value {
    let format: Map<String, Value> = [
        ("row", "%REQ(x-row)%"),
        ("request_id", "%REQ(x-request-id)%"),
        ("details", "%RESPONSE_CODE_DETAILS%"),
        ("meta", "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), json!(value)))
    .collect();
    json!({
        "name": "file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"json_format": format},
        },
    })
}

fn cluster(name: &str, at: &Endpoint) -> Value {
    let address = match at {
        Endpoint::Port(port) | Endpoint::Tls(port, _) => socket_address(*port),
        Endpoint::Socket(path) => json!({"pipe": {"path": path}}),
    };
    let endpoint = json!({"endpoint": {"address": address}});
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "60s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    });
    if name != "upstream" && !name.ends_with("-http1") {
        let mut http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
        if let Endpoint::Tls(_, files) = at {
            cluster["transport_socket"] = transport_socket(files);
            http2["common_http_protocol_options"] =
                json!({"max_requests_per_connection": REQUESTS_PER_TLS_CONNECTION});
        }
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": with_type(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                http2,
            ),
        });
    }
    cluster
}

fn transport_socket(files: &TlsFiles) -> Value {
    let context = json!({
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [{
                "certificate_chain": {"filename": files.cert},
                "private_key": {"filename": files.key},
            }],
            "validation_context": {
                "trusted_ca": {"filename": files.ca},
                "match_typed_subject_alt_names":
                    [{"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}],
            },
        },
    });
    let name = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
    json!({"name": "tls", "typed_config": with_type(name, context)})
}

fn with_type(name: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/{name}"));
    value
}

/// A route to the upstream, with what its `ext_authz` is told.
pub(crate) fn route(prefix: &str, context: &Value) -> Value {
    let mut route = match prefix {
        "CONNECT" => json!({"match": {"connect_matcher": {}}}),
        _ => json!({"match": {"prefix": prefix}}),
    };
    route["route"] = json!({"cluster": "upstream"});
    route["typed_per_filter_config"] = told(context);
    route
}

/// What `ext_authz` is told for one route, or for all of a virtual host.
fn told(context: &Value) -> Value {
    let settings = if context.is_null() {
        json!({"disabled": true})
    } else {
        json!({"check_settings": {"context_extensions": context}})
    };
    let name = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute";
    json!({"envoy.filters.http.ext_authz": with_type(name, settings)})
}
