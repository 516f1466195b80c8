//! Every values file with every switch, each alone, rendered once for all tests.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use super::{injector, root, switches, template};
use crate::harness::python;

/// The oldest version that the chart names, and the newest that there are schemas of.
const VERSIONS: &str = "1.29,1.37";

pub(super) const VALUES: [&str; 3] = ["values.yaml", "values-dev.yaml", "values-ha.yaml"];

/// Where a switch has a meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Any,
    Embedded,
    Redis,
}
use On::{Any, Embedded, Redis};

/// A name, where it is tried, and the arguments to Helm.
pub(super) type Switch = (&'static str, On, &'static [&'static str]);

const SWITCHES: &[Switch] = &[
    ("plain", Any, &[]),
    ("kubernetes-1.29", Any, &["--kube-version", "1.29.0"]),
    ("openshift", Any, &["--set", "openshift=true"]),
    (
        "openshift-found",
        Any,
        &["--api-versions", "security.openshift.io/v1"],
    ),
    (
        "dual-stack",
        Any,
        &["--set", "service.ipFamilyPolicy=RequireDualStack"],
    ),
    (
        "ipv6",
        Any,
        &["--set-json", r#"service.ipFamilies=["IPv6"]"#],
    ),
    (
        "service-annotations",
        Any,
        &["--set", "service.annotations.a=b"],
    ),
    (
        "digest",
        Any,
        &[
            "--set",
            "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    ("tag", Any, &["--set", "image.tag=v9"]),
    (
        "registry",
        Any,
        &[
            "--set",
            "global.imageRegistry=registry.example,global.imagePullSecrets={login}",
        ],
    ),
    (
        "own-registry",
        Any,
        &["--set", "image.registry=own.example"],
    ),
    (
        "names",
        Any,
        &["--set", "fullnameOverride=checks,nameOverride=checks"],
    ),
    (
        "own-keyrings",
        Any,
        &[
            "--set",
            "keyring.existingDataSecret=d,keyring.existingVaultSecret=v,keyring.generate=false",
        ],
    ),
    (
        "nothing-kept",
        Any,
        &["--set", "config.tokens.secret_retention=none"],
    ),
    (
        "signed-context",
        Any,
        &[
            "--set",
            "keyring.existingSigningSecret=s,config.authz.signed_context.issuer=shop",
        ],
    ),
    (
        "mutual-tls",
        Any,
        &[
            "--set",
            "checker.tls.existingSecret=t,checker.tls.clientCa=true",
            "--set-json",
            r#"checker.tls.clientSans=["uri:spiffe://mesh/ns/*/sa/envoy"]"#,
        ],
    ),
    (
        "admin-mutual-tls",
        Any,
        &[
            "--set",
            "controlPlane.tls.existingSecret=a,controlPlane.tls.clientCa=true",
            "--set-json",
            r#"config.admin.client_roles=[{"san": "dns:ops.mesh", "role": "global_admin"}]"#,
        ],
    ),
    (
        "governance",
        Any,
        &[
            "--set-json",
            r#"config.api_keys={"max_expiry_days": 90, "default_limits": {"max_keys_per_user": 3}}"#,
        ],
    ),
    (
        "longer-drain",
        Any,
        &["--set", "config.shutdown.drain_timeout=2m"],
    ),
    (
        "no-pause",
        Any,
        &[
            "--set",
            "controlPlane.preStopSeconds=0,checker.preStopSeconds=0,config.shutdown.drain_timeout=1500ms",
        ],
    ),
    (
        "no-budgets",
        Any,
        &[
            "--set",
            "controlPlane.pdb.enabled=false,checker.pdb.enabled=false",
        ],
    ),
    (
        "own-accounts",
        Any,
        &[
            "--set",
            "controlPlane.serviceAccount.create=false,checker.serviceAccount.create=false,checker.serviceAccount.name=own",
        ],
    ),
    (
        "network-policy",
        Any,
        &[
            "--set",
            "networkPolicy.enabled=true",
            "--set-json",
            r#"networkPolicy.egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 6379}]}]"#,
        ],
    ),
    (
        "closed-network",
        Any,
        &[
            "--set",
            "networkPolicy.enabled=true",
            "--set-json",
            "networkPolicy.authzFrom=[]",
            "--set-json",
            "networkPolicy.metricsFrom=[]",
        ],
    ),
    (
        "monitoring",
        Any,
        &[
            "--set",
            "monitoring.serviceMonitor.enabled=true,monitoring.serviceMonitor.renderMode=alwaysRender",
            "--set",
            "monitoring.prometheusRule.enabled=true,monitoring.prometheusRule.renderMode=alwaysRender",
            "--set",
            "monitoring.serviceMonitor.labels.release=prometheus",
        ],
    ),
    (
        "placement",
        Any,
        &[
            "--set",
            "controlPlane.priorityClassName=high,controlPlane.nodeSelector.disk=ssd,controlPlane.podLabels.team=keys,controlPlane.podAnnotations.a=b",
            "--set-json",
            r#"controlPlane.tolerations=[{"key": "keys", "operator": "Exists"}]"#,
            "--set-json",
            r#"controlPlane.affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]}}}"#,
            "--set-json",
            r#"controlPlane.topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}}]"#,
        ],
    ),
    (
        "extras",
        Any,
        &[
            "--set-json",
            r#"controlPlane.extraEnv=[{"name": "KEYSTILE__CACHE__TTL", "value": "30s"}]"#,
            "--set-json",
            r#"controlPlane.extraVolumes=[{"name": "more", "configMap": {"name": "more"}}]"#,
            "--set-json",
            r#"controlPlane.extraVolumeMounts=[{"name": "more", "mountPath": "/more", "readOnly": true}]"#,
            "--set-json",
            r#"extraObjects=[{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}]"#,
        ],
    ),
    (
        "maintenance",
        Embedded,
        &["--set", "controlPlane.maintenance=true"],
    ),
    (
        "store-in-the-pod",
        Embedded,
        &["--set", "controlPlane.persistence.enabled=false"],
    ),
    (
        "own-claim",
        Embedded,
        &["--set", "controlPlane.persistence.existingClaim=mine"],
    ),
    (
        "storage-class",
        Embedded,
        &["--set", "controlPlane.persistence.storageClass=fast"],
    ),
    (
        "fixed-size",
        Redis,
        &["--set", "checker.hpa.enabled=false,checker.replicas=5"],
    ),
    (
        "redis-client-certificate",
        Redis,
        &["--set", "redis.tls.clientCertificate=true"],
    ),
    (
        "redis-without-login",
        Redis,
        &[
            "--set-json",
            r#"redis={"controlPlane": {"username": "", "existingSecret": ""}, "checker": {"username": "", "existingSecret": ""}, "tls": {"existingSecret": ""}}"#,
        ],
    ),
    (
        "sentinel",
        Redis,
        &[
            "--set",
            "config.store.redis.mode=sentinel,config.store.redis.service=keys,config.store.redis.nodes={s1:26379,s2:26379}",
        ],
    ),
    (
        "plain-text-checks",
        Redis,
        &["--set", "checker.tls.existingSecret="],
    ),
    (
        "admin-on-loopback",
        Redis,
        &["--set", "controlPlane.tls.existingSecret="],
    ),
    (
        "checker-extras",
        Redis,
        &[
            "--set",
            "checker.priorityClassName=high,checker.podLabels.team=keys",
            "--set-json",
            r#"checker.extraEnv=[{"name": "KEYSTILE__AUTHZ__WORKERS", "value": "2"}]"#,
        ],
    ),
];

/// What one `helm template` gave.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) name: String,
    pub(super) documents: Vec<Value>,
}

impl Rendered {
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.documents.iter().filter(move |it| it["kind"] == kind)
    }

    /// Every pod: name and spec.
    pub(super) fn pods(&self) -> impl Iterator<Item = (String, &Value)> {
        self.documents.iter().filter_map(|document| {
            let spec = match document["kind"].as_str()? {
                "Pod" => &document["spec"],
                "Deployment" | "Job" => &document["spec"]["template"]["spec"],
                _ => return None,
            };
            let name = document["metadata"]["name"].as_str()?;
            Some((format!("{}: {name}", self.name), spec))
        })
    }

    pub(super) fn deployment(&self, component: &str) -> Option<&Value> {
        self.of_kind("Deployment")
            .find(|it| it["metadata"]["labels"]["app.kubernetes.io/component"] == component)
    }
}

/// Entries of a list, none where there is no list.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) all: Vec<Rendered>,
    /// What Kubernetes' schemas find.
    pub(super) mistakes: String,
}

impl Matrix {
    #[track_caller]
    pub(super) fn named(&self, name: &str) -> &Rendered {
        let found = self.all.iter().find(|it| it.name == name);
        found.unwrap_or_else(|| panic!("nothing was rendered as {name}"))
    }
}

pub(super) static MATRIX: LazyLock<Matrix> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("make a directory");
    for values in VALUES {
        let all = SWITCHES.iter().chain(switches::MORE);
        for (switch, on, args) in all.chain(injector::SWITCHES) {
            let redis = values == "values-ha.yaml";
            if (*on == Embedded && redis) || (*on == Redis && !redis) {
                continue;
            }
            let name = format!("{}+{switch}", values.trim_end_matches(".yaml"));
            let text = template(values, args).unwrap_or_else(|err| panic!("{name}: {err}"));
            fs::write(folder.path().join(format!("{name}.yaml")), text).expect("write it");
        }
    }
    let (documents, mistakes) = check(folder.path());
    let all = documents
        .into_iter()
        .map(|(name, documents)| Rendered { name, documents })
        .collect();
    Matrix { all, mistakes }
});

/// Every document of a folder, and what the schemas say against them.
pub(super) fn check(folder: &Path) -> (BTreeMap<String, Vec<Value>>, String) {
    let output = Command::new(python())
        .arg("-B")
        .arg(root().join("tests/e2e/manifests.py"))
        .args([OsStr::new(VERSIONS), folder.as_os_str()])
        .output()
        .expect("run python");
    let mistakes = String::from_utf8_lossy(&output.stderr).into_owned();
    let documents = serde_json::from_slice(&output.stdout);
    (documents.unwrap_or_else(|_| panic!("{mistakes}")), mistakes)
}
