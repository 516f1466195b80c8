//! What the chart renders for the injector, and that the two know each other: its certificate, its path, and the objects
//! that a patched pod names.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::matrix::On::Redis;
use super::matrix::{MATRIX, Rendered, Switch, list};
use super::template;
use super::webhook::{Injector, Known, patched};
use crate::harness::keystile;
use crate::harness::process::without_our_environment;

/// Switches beside those of `matrix.rs`.
pub(super) const SWITCHES: &[Switch] = &[
    (
        "injector",
        Redis,
        &[
            "--set",
            "injector.enabled=true,injector.namespaces={shop,pay}",
        ],
    ),
    (
        "injector-cert-manager",
        Redis,
        &[
            "--set",
            "injector.enabled=true,injector.tls.certManager.enabled=true",
        ],
    ),
    (
        "injector-of-an-issuer",
        Redis,
        &[
            "--set",
            "injector.enabled=true,injector.tls.certManager.enabled=true,injector.tls.certManager.issuerRef.name=ca",
        ],
    ),
    (
        "injector-own-certificate",
        Redis,
        &[
            "--set",
            "injector.enabled=true,injector.tls.existingSecret=mine,injector.tls.caBundle=-----BEGIN CERTIFICATE-----",
        ],
    ),
    (
        "openshift-injector",
        Redis,
        &["--set", "openshift=true,injector.enabled=true"],
    ),
    (
        "injector-with-everything",
        Redis,
        &[
            "--set",
            "injector.enabled=true,injector.namespaces={shop},injector.failurePolicy=Ignore",
            "--set",
            "keyring.existingSigningSecret=s,config.authz.signed_context.issuer=shop,redis.tls.clientCertificate=true",
            "--set",
            "service.ipFamilyPolicy=RequireDualStack,global.imagePullSecrets={login},injector.priorityClassName=high",
            "--set-json",
            r#"config.injector={"excluded_namespaces": ["legacy"], "sidecar": {"connection": "socket", "memory_limit": "1Gi"}}"#,
            "--set-json",
            r#"networkPolicy.egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 6379}]}]"#,
            "--set-json",
            r#"injector.extraEnv=[{"name": "KEYSTILE__TELEMETRY__LOG__FORMAT", "value": "json"}]"#,
        ],
    ),
    (
        "injector-alone",
        Redis,
        &[
            "--set",
            "injector.enabled=true,injector.pdb.enabled=false,injector.serviceAccount.create=false,networkPolicy.enabled=false",
        ],
    ),
];

fn all() -> impl Iterator<Item = &'static Rendered> {
    let with = |it: &&Rendered| it.name.contains("injector");
    MATRIX.all.iter().filter(with)
}

fn webhooks(rendered: &Rendered) -> Vec<&Value> {
    let configuration = rendered.of_kind("MutatingWebhookConfiguration").next();
    list(&configuration.unwrap()["webhooks"]).collect()
}

/// A ConfigMap's `keystile.yaml`.
fn config(rendered: &Rendered, namespace: &str, component: &str) -> (String, String) {
    let map = rendered.of_kind("ConfigMap").find(|it| {
        let labels = &it["metadata"]["labels"];
        it["metadata"]["namespace"] == namespace
            && labels["app.kubernetes.io/component"] == component
    });
    let map = map.unwrap_or_else(|| panic!("{}: no config of {component}", rendered.name));
    let text = map["data"]["keystile.yaml"].as_str().unwrap();
    let name = map["metadata"]["name"].as_str().unwrap();
    (name.to_owned(), text.to_owned())
}

#[test]
fn it_is_off_by_default_and_asks_nothing_of_the_cluster() {
    for values in super::matrix::VALUES {
        let text = template(values, &[]).unwrap();
        assert!(!text.contains("MutatingWebhook"), "{values}");
    }
    for rendered in all() {
        assert_eq!(
            rendered.of_kind("ClusterRole").count(),
            0,
            "{}",
            rendered.name
        );
        let deployment = rendered.deployment("injector").unwrap();
        let text = deployment.to_string();
        for word in ["keyring", "redis", "serviceAccountToken"] {
            assert!(!text.contains(word), "{}: {word}", rendered.name);
        }
        let (_, config) = config(rendered, "keystile", "injector");
        for word in ["store:", "admin:", "authz:", "\nkeyring:"] {
            assert!(!config.contains(word), "{}: {word}", rendered.name);
        }
        assert_eq!(deployment["spec"]["replicas"], 2, "{}", rendered.name);
    }
    assert!(all().count() >= 7);
}

#[test]
fn the_api_server_asks_once_for_each_pod_that_has_opted_in_and_for_no_other() {
    for rendered in all() {
        let name = &rendered.name;
        let [of_namespace, of_pod] = webhooks(rendered)[..] else {
            panic!("{name}: not two webhooks");
        };
        for webhook in [of_namespace, of_pod] {
            let lenient = name.contains("everything");
            let policy = if lenient { "Ignore" } else { "Fail" };
            assert_eq!(webhook["failurePolicy"], policy, "{name}");
            assert_eq!(webhook["reinvocationPolicy"], "IfNeeded", "{name}");
            assert_eq!(webhook["sideEffects"], "None", "{name}");
            assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]), "{name}");
            assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 5, "{name}");
            let rules = json!([{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"], "scope": "Namespaced",
            }]);
            assert_eq!(webhook["rules"], rules, "{name}");
            let excluded = &webhook["namespaceSelector"]["matchExpressions"][1];
            assert_eq!(excluded["key"], "kubernetes.io/metadata.name", "{name}");
            assert_eq!(excluded["operator"], "NotIn", "{name}");
            // Selector and process agree on them.
            let (_, config) = config(rendered, "keystile", "injector");
            let config: Value = serde_saphyr::from_str(&config).unwrap();
            let namespaces = &config["injector"]["excluded_namespaces"];
            assert_eq!(&excluded["values"], namespaces, "{name}");
            for system in ["kube-system", "kube-public", "kube-node-lease", "keystile"] {
                let there = list(namespaces).any(|it| it == system);
                assert!(there, "{name}: {system}");
            }
        }
        // Of one namespace at most one selects, so no pod is shown to both.
        let says = |webhook: &Value, selector: &str| {
            webhook[selector]["matchExpressions"][0]["operator"].clone()
        };
        assert_eq!(says(of_namespace, "namespaceSelector"), "In", "{name}");
        assert_eq!(says(of_pod, "namespaceSelector"), "NotIn", "{name}");
        assert_eq!(says(of_namespace, "objectSelector"), "NotIn", "{name}");
        assert_eq!(says(of_pod, "objectSelector"), "In", "{name}");
    }
}

#[test]
fn the_certificate_is_the_charts_or_cert_managers_or_the_users() {
    let issued = MATRIX.named("values-ha+injector-cert-manager");
    let annotation = |rendered: &Rendered| {
        let configuration = rendered.of_kind("MutatingWebhookConfiguration").next();
        configuration.unwrap()["metadata"]["annotations"]["cert-manager.io/inject-ca-from"].clone()
    };
    assert_eq!(annotation(issued), "keystile/keystile-injector");
    assert_eq!(issued.of_kind("Issuer").count(), 1);
    assert_eq!(issued.of_kind("Secret").count(), 0);
    let certificate = issued
        .of_kind("Certificate")
        .find(|it| it["metadata"]["name"] == "keystile-injector")
        .unwrap();
    assert_eq!(certificate["spec"]["secretName"], "keystile-injector-tls");
    let names = json!([
        "keystile-injector.keystile.svc",
        "keystile-injector.keystile.svc.cluster.local"
    ]);
    assert_eq!(certificate["spec"]["dnsNames"], names);
    let of_issuer = MATRIX.named("values-ha+injector-of-an-issuer");
    assert_eq!(of_issuer.of_kind("Issuer").count(), 0);

    let own = MATRIX.named("values-ha+injector-own-certificate");
    assert_eq!(own.of_kind("Secret").count(), 0);
    assert_eq!(annotation(own), Value::Null);
    let bundle = BASE64.encode(b"-----BEGIN CERTIFICATE-----");
    for webhook in webhooks(own) {
        assert_eq!(webhook["clientConfig"]["caBundle"], bundle);
    }
    let volume = &own.deployment("injector").unwrap()["spec"]["template"]["spec"]["volumes"][1];
    assert_eq!(volume["secret"]["secretName"], "mine");
}

/// The injector with what the chart has rendered for it.
fn start(rendered: &Rendered) -> Injector {
    let secret = rendered.of_kind("Secret").next().unwrap();
    let file = |name: &str| {
        let text = secret["data"][name].as_str().unwrap();
        BASE64.decode(text.as_bytes()).unwrap()
    };
    let (_, mut config) = config(rendered, "keystile", "injector");
    for (from, to) in [
        ("/etc/keystile/tls", "TLS"),
        ("0.0.0.0:9443", "WEBHOOK"),
        ("'[::]:9443'", "WEBHOOK"),
        ("0.0.0.0:9003", "OPS"),
        ("'[::]:9003'", "OPS"),
    ] {
        config = config.replace(from, to);
    }
    let client = &webhooks(rendered)[0]["clientConfig"];
    let word = |name: &str| client["service"][name].as_str().unwrap();
    let bundle = client["caBundle"].as_str().unwrap();
    let known = Known {
        host: format!("{}.{}.svc", word("name"), word("namespace")),
        path: word("path").to_owned(),
        bundle: BASE64.decode(bundle.as_bytes()).unwrap(),
    };
    Injector::start(&config, [&file("tls.crt"), &file("tls.key")], known)
}

fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0f5bf853-d633-477c-8e9b-6928b5faf6b3", "operation": "CREATE", "namespace": "shop",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "admin"}, "object": pod,
        },
    })
}

fn named<'a>(of: &'a Value, name: &str) -> &'a Value {
    let found = list(of).find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {of}"))
}

#[test]
fn a_pod_that_the_rendered_injector_has_patched_starts_with_the_rendered_config_and_secrets() {
    for name in ["values-ha+injector", "values-ha+injector-with-everything"] {
        let rendered = MATRIX.named(name);
        let injector = start(rendered);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        });
        let spec = &patched(&pod, &injector.review(&review(&pod)))["spec"];
        let (map, sidecar) = config(rendered, "shop", "sidecar");
        let volumes = &spec["volumes"];
        assert_eq!(named(volumes, "keystile-config")["configMap"]["name"], *map);
        let mut files = BTreeSet::new();
        for source in list(&named(volumes, "keystile-secrets")["projected"]["sources"]) {
            for item in list(&source["secret"]["items"]) {
                let path = item["path"].as_str().unwrap();
                files.insert(format!("/etc/keystile/secrets/{path}"));
            }
        }
        // Each secret file that the config names is there, and none beside.
        let wanted = sidecar
            .split_whitespace()
            .filter(|it| it.starts_with("/etc/keystile/"));
        let wanted: BTreeSet<String> = wanted.map(str::to_owned).collect();
        assert_eq!(files, wanted, "{name}");
        let everything = name.contains("everything");
        assert_eq!(files.len(), if everything { 6 } else { 3 }, "{name}");

        let container = named(&spec["initContainers"], "keystile");
        assert_eq!(container["image"], "keystile:0.1.0", "{name}");
        accepts(&sidecar, container);
    }
}

/// The real binary takes the config with what the injector sets beside it.
fn accepts(config: &str, container: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keystile.yaml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(keystile::binary());
    without_our_environment(&mut command);
    for variable in list(&container["env"]) {
        let word = |field: &str| variable[field].as_str().unwrap();
        command.env(word("name"), word("value"));
    }
    let output = command
        .args(["config", "check", "--no-files", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// Arguments to Helm beside `injector.enabled=true`, and what is said.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["--set", "injector.failurePolicy=Maybe"],
        "at '/injector/failurePolicy'",
    ),
    (
        &["--set", "injector.tls.caBundle=abc"],
        "at '/injector/tls/caBundle'",
    ),
    (
        &["--set", "injector.timeoutSeconds=31"],
        "at '/injector/timeoutSeconds'",
    ),
    (
        &["--set", "injector.namespaces={Shop}"],
        "at '/injector/namespaces/0'",
    ),
    (&["--set", "injector.image=a"], "at '/injector'"),
    (
        &["--set", "config.injector.sidecar.mode=daemon"],
        "at '/config/injector/sidecar/mode'",
    ),
    (
        &[
            "--set",
            "config.injector.tls.cert_file=a,config.injector.tls.key_file=b",
        ],
        "config.injector.tls is set by the chart: remove it; the certificate is set by injector.tls",
    ),
    (
        &["--set", "injector.tls.existingSecret=mine"],
        "put there the PEM of the CA that has signed the certificate",
    ),
    (
        &["--set", "injector.tls.caBundle=-----BEGIN CERTIFICATE-----"],
        "name a Secret with tls.crt and tls.key there",
    ),
    (
        &["--set", "injector.namespaces={keystile}"],
        "the release's own namespace, whose pods get no sidecar: remove it",
    ),
];

#[test]
fn values_of_the_injector_that_cannot_work_are_refused_with_what_to_do() {
    let on = ["--set", "injector.enabled=true"];
    for (args, said) in REFUSED {
        let error = template("values-ha.yaml", &[on.as_slice(), args].concat()).unwrap_err();
        assert!(error.contains(said), "{args:?}: {error}");
    }
    let error = template("values.yaml", &on).unwrap_err();
    assert!(error.contains("move to Redis"), "{error}");
}
