//! Switches beside those of `matrix.rs`.

use super::matrix::On::{Any, Redis};
use super::matrix::Switch;

pub(super) const MORE: &[Switch] = &[
    ("exec-probes", Any, &["--set", "probes.type=exec"]),
    (
        "grpc-probes",
        Any,
        &["--set", "probes.type=grpc,checker.tls.existingSecret="],
    ),
    (
        "exec-probes-in-a-fixed-size",
        Redis,
        &["--set", "probes.type=exec,checker.hpa.enabled=false"],
    ),
    (
        "monitoring-dashboard",
        Any,
        &[
            "--set",
            "monitoring.dashboard.enabled=true,monitoring.dashboard.annotations.k8s-sidecar-target-directory=keystile",
        ],
    ),
    (
        "remove-secrets",
        Any,
        &["--set", "removeSecretsOnUninstall=true"],
    ),
    ("bootstrap", Redis, &["--set", "bootstrap.generate=true"]),
    (
        "bootstrap-with-extras",
        Redis,
        &[
            "--set",
            "bootstrap.generate=true,global.imagePullSecrets={login},controlPlane.nodeSelector.disk=ssd",
            "--set-json",
            r#"controlPlane.tolerations=[{"key": "keys", "operator": "Exists"}]"#,
            "--set-json",
            r#"controlPlane.extraEnv=[{"name": "KEYSTILE__CACHE__TTL", "value": "30s"}]"#,
            "--set-json",
            r#"controlPlane.extraVolumes=[{"name": "more", "configMap": {"name": "more"}}]"#,
            "--set-json",
            r#"controlPlane.extraVolumeMounts=[{"name": "more", "mountPath": "/more", "readOnly": true}]"#,
        ],
    ),
    (
        "cert-manager",
        Any,
        &[
            "--set",
            "certManager.enabled=true,certManager.issuerRef.name=ca,certManager.issuerRef.kind=ClusterIssuer",
            "--set",
            "checker.tls.existingSecret=keystile-checker-tls,checker.tls.clientCa=true",
        ],
    ),
];
