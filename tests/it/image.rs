//! The container image: built by the real buildah of a static debug binary, looked into, and run.

mod built;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::envoy::{Endpoint, Envoy, Listener, route};
use crate::harness::upstream::Upstream;
use crate::harness::{free_port, http1, wait_for};
use built::{IMAGE, USER};

const KEYSTILE: &str = "/usr/bin/keystile";

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// Every path below a folder, from it.
fn paths(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        if path.is_dir() && !path.is_symlink() {
            paths(root, &path, found);
        }
        found.push(shown);
    }
}

#[test]
fn two_images_of_one_binary_have_one_id() {
    let Some(image) = IMAGE.as_ref() else { return };
    assert_eq!(image.id, image.again);
    assert_eq!(image.id.len(), 64, "{}", image.id);
}

#[test]
fn there_is_one_program_and_neither_a_shell_nor_a_package_manager() {
    let Some(image) = IMAGE.as_ref() else { return };
    let container = image.container();
    let mut found = Vec::new();
    paths(&container.root, &container.root, &mut found);
    found.retain(|path| !matches!(path.as_str(), "etc" | "usr" | "var"));
    found.sort();
    assert_eq!(
        found,
        [
            "etc/ssl",
            "etc/ssl/certs",
            "etc/ssl/certs/ca-certificates.crt",
            "usr/bin",
            "usr/bin/keystile",
            "var/lib",
            "var/lib/keystile",
        ]
    );
    let bundle = fs::read(container.root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(bundle.starts_with(b"-----BEGIN CERTIFICATE-----"));
    let shell = container.run(&["/bin/sh", "-c", "true"]);
    assert!(!shell.status.success(), "{shell:?}");
}

#[test]
fn it_says_what_it_is_and_does_not_run_as_root() {
    let Some(image) = IMAGE.as_ref() else { return };
    let config = &image.config;
    assert_eq!(config["User"], USER);
    assert_eq!(config["Entrypoint"], json!(["/usr/bin/keystile"]));
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("title"), "keystile");
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("revision"), "of-the-test");
    assert_eq!(label("created"), "2026-01-01T00:00:00Z");
}

#[test]
fn the_configuration_is_checked_inside() {
    let Some(image) = IMAGE.as_ref() else { return };
    let container = image.container();
    let version = said(&container.run(&[KEYSTILE, "--version"]));
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let folder = "/var/lib/keystile/keys";
    let made = container.run(&[KEYSTILE, "keyring", "init", "--dir", folder]);
    assert!(made.status.success(), "{}", said(&made));
    let keyring = fs::metadata(container.root.join("var/lib/keystile/keys/data.keyring")).unwrap();
    let owner = format!("{}:{}", keyring.uid(), keyring.gid());
    assert_eq!(owner, USER, "whom it ran as");
    let config = container.root.join("etc/keystile.yaml");
    for (more, code, sentence) in [
        (
            "ops: {}",
            0,
            "authz on 127.0.0.1:9001, ops on 127.0.0.1:9003",
        ),
        ("cache: {tll: 1s}", 78, "tll"),
    ] {
        let keyring = format!("keyring: {{data: {{file: {folder}/data.keyring}}}}");
        fs::write(&config, format!("authz: {{}}\n{more}\n{keyring}\n")).unwrap();
        let checked = container.run(&[KEYSTILE, "config", "check", "-c", "/etc/keystile.yaml"]);
        let said = said(&checked);
        assert_eq!(checked.status.code(), Some(code), "{said}");
        assert!(said.contains(sentence), "{said}");
    }
}

#[test]
fn a_request_of_the_tour_passes_by_dev_inside() {
    let Some(image) = IMAGE.as_ref() else { return };
    let (authz, admin, ops) = (free_port(), free_port(), free_port());
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let container = image.container();
    let (_folder, mut process) = container.serve(&[
        "dev",
        "--dir=/var/lib/keystile/dev",
        "--output=json",
        &format!("--authz-listen={}", listen(authz)),
        &format!("--admin-listen={}", listen(admin)),
        &format!("--ops-listen={}", listen(ops)),
    ]);
    let greeting: Value = wait_for("dev to greet", || {
        process.assert_running();
        let log = process.log();
        serde_json::from_str(log.lines().find(|line| line.starts_with('{'))?).ok()
    });
    // As the Dockerfile's HEALTHCHECK does, which has the default address.
    let address = format!("--addr={}", listen(ops));
    let healthy = container.run(&[KEYSTILE, "health", &address]);
    assert!(healthy.status.success(), "{}", said(&healthy));
    let application = Upstream::start();
    let envoy = Envoy::start(
        &[Listener {
            name: "tour",
            authz: "keystile",
            filter: json!({}),
            manager: json!({}),
        }],
        &[
            ("keystile", Endpoint::Port(authz)),
            ("upstream", Endpoint::Port(application.port)),
        ],
        &json!([route("/", &json!({}))]),
    );
    let token = greeting["tokens"]["user"].as_str().unwrap();
    for (headers, status) in [
        (String::new(), 401),
        (format!("x-api-key: {token}\r\n"), 200),
    ] {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: shop.test\r\nx-row: tour\r\nconnection: close\r\n{headers}\r\n"
        );
        let reply = http1::send(envoy.port("tour"), request.as_bytes(), false).unwrap();
        assert_eq!(reply.status, status);
    }
    let arrived = &application.arrived("tour")[0].headers;
    let tenant = arrived.iter().find(|(name, _)| name == "x-tenant-id");
    assert_eq!(
        tenant.map(|(_, value)| value.as_slice()),
        Some(&b"demo"[..])
    );
}

/// It is not compiled here: that would take the network, and minutes.
#[test]
fn the_dockerfile_compiles_for_the_architecture_of_its_builder() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/Dockerfile"));
    let text = text.unwrap();
    assert!(text.contains("target=\"$(uname -m)-unknown-linux-gnu\""));
    assert!(!text.contains("x86_64"), "an architecture is fixed");
    assert!(text.contains("+crt-static"));
    assert!(text.contains("CMD [\"/usr/bin/keystile\", \"health\"]"));
}
