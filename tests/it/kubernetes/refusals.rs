//! Values that cannot work are refused before anything is installed, with a sentence that says what to do.

use super::template;

/// A values file, arguments to Helm, and what is said.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const BY_SCHEMA: &[Row] = &[
    (
        "values.yaml",
        &["--set", "controlPlain.replicas=1"],
        &["controlPlain"],
    ),
    (
        "values.yaml",
        &["--set", "checker.replica=3"],
        &["at '/checker'", "replica"],
    ),
    (
        "values.yaml",
        &["--set", "config.cache.tll=30s"],
        &["at '/config/cache'", "tll"],
    ),
    (
        "values.yaml",
        &["--set", "config.cache.ttl=soon"],
        &["at '/config/cache/ttl'"],
    ),
    (
        "values.yaml",
        &["--set-string", "controlPlane.replicas=two"],
        &["at '/controlPlane/replicas'", "want integer"],
    ),
    (
        "values.yaml",
        &["--set", "checker.replicas=0"],
        &["at '/checker/replicas'"],
    ),
    (
        "values.yaml",
        &["--set", "image.digest=latest"],
        &["at '/image/digest'"],
    ),
    (
        "values.yaml",
        &["--set", "monitoring.serviceMonitor.renderMode=sometimes"],
        &[
            "at '/monitoring/serviceMonitor/renderMode'",
            "failIfMissing",
        ],
    ),
    (
        "values.yaml",
        &["--set", "service.ipFamilyPolicy=Both"],
        &["at '/service/ipFamilyPolicy'", "RequireDualStack"],
    ),
    (
        "values.yaml",
        &["--set", "checker.pdb.maxUnavailable=few"],
        &["at '/checker/pdb/maxUnavailable'"],
    ),
    (
        "values.yaml",
        &["--set", "networkPolicy.from=all"],
        &["at '/networkPolicy'", "from"],
    ),
    (
        "values.yaml",
        &["--set", "controlPlane.persistence.size=large"],
        &["at '/controlPlane/persistence/size'"],
    ),
    (
        "values-ha.yaml",
        &["--set", "checker.hpa.minReplicas=0"],
        &["at '/checker/hpa/minReplicas'"],
    ),
    (
        "values.yaml",
        &["--set", "openshift=maybe"],
        &["at '/openshift'"],
    ),
    (
        "values.yaml",
        &["--set", "config.store.kind=mysql"],
        &["at '/config/store/kind'", "'embedded', 'redis'"],
    ),
    (
        "values.yaml",
        &["--set", "probes.type=tcp"],
        &["at '/probes/type'", "'exec'"],
    ),
    (
        "values.yaml",
        &["--set", "certManager.issuer=ca"],
        &["at '/certManager'", "issuer"],
    ),
    (
        "values.yaml",
        &["--set", "certManager.duration=soon"],
        &["at '/certManager/duration'"],
    ),
    (
        "values.yaml",
        &["--set-string", "removeSecretsOnUninstall=maybe"],
        &["at '/removeSecretsOnUninstall'", "want boolean"],
    ),
    (
        "values.yaml",
        &["--set", "monitoring.dashboard.labels=a"],
        &["at '/monitoring/dashboard/labels'"],
    ),
];

const BY_TEMPLATE: &[Row] = &[
    (
        "values.yaml",
        &["--set", "controlPlane.replicas=2"],
        &["leave it at 1, or move to Redis"],
    ),
    (
        "values.yaml",
        &["--set", "checker.hpa.enabled=true"],
        &["switch it off, or move to Redis"],
    ),
    (
        "values.yaml",
        &["--set", "config.store.redis.url=redis://r:6379"],
        &["set config.store.kind to redis, or remove config.store.redis"],
    ),
    (
        "values-ha.yaml",
        &["--set-json", "config.store.embedded={}"],
        &["remove config.store.embedded"],
    ),
    (
        "values.yaml",
        &["--set", "config.store.kind=redis"],
        &["set config.store.redis.url to redis://host:port"],
    ),
    (
        "values.yaml",
        &["--set", "keyring.generate=false"],
        &[
            "keyring.existingDataSecret is missing",
            "keystile keyring init",
        ],
    ),
    (
        "values.yaml",
        &[
            "--set",
            "keyring.generate=false,keyring.existingDataSecret=d",
        ],
        &["keyring.existingVaultSecret is missing"],
    ),
    (
        "values.yaml",
        &["--set", "keyring.existingDataSecret=d"],
        &["name both, or neither"],
    ),
    (
        "values.yaml",
        &["--set", "keyring.existingVaultSecret=v"],
        &["name both, or neither"],
    ),
    (
        "values-ha.yaml",
        &["--set", "redis.checker.existingSecret="],
        &[
            "redis.checker.existingSecret is missing",
            "put the user's password into a Secret",
        ],
    ),
    (
        "values-ha.yaml",
        &["--set", "redis.controlPlane.existingSecret="],
        &["redis.controlPlane.existingSecret is missing"],
    ),
    (
        "values-ha.yaml",
        &[
            "--set",
            "redis.tls.existingSecret=,redis.tls.clientCertificate=true",
        ],
        &["redis.tls.existingSecret is missing"],
    ),
    (
        "values.yaml",
        &["--set", "checker.tls.clientCa=true"],
        &["checker.tls.existingSecret is missing"],
    ),
    (
        "values-ha.yaml",
        &["--set-json", r#"controlPlane.tls.clientSans=["dns:a"]"#],
        &["set clientCa to true"],
    ),
    (
        "values-ha.yaml",
        &["--set", "controlPlane.maintenance=true"],
        &["by kubectl exec"],
    ),
    (
        "values.yaml",
        &["--set", "config.authz.signed_context.issuer=a"],
        &["keyring.existingSigningSecret is missing"],
    ),
    (
        "values-ha.yaml",
        &["--set", "probes.type=grpc"],
        &["say exec or http"],
    ),
    (
        "values.yaml",
        &["--set", "bootstrap.generate=true"],
        &["controlPlane.maintenance", "move to Redis"],
    ),
    (
        "values-ha.yaml",
        &["--set", "certManager.enabled=true"],
        &["certManager.issuerRef.name is missing"],
    ),
    (
        "values.yaml",
        &[
            "--set",
            "certManager.enabled=true,certManager.issuerRef.name=ca",
        ],
        &["no listener has TLS", "checker.tls.existingSecret"],
    ),
    (
        "values.yaml",
        &["--set", "config.keyring.data.file=a"],
        &["config.keyring is set by the chart"],
    ),
    (
        "values.yaml",
        &["--set-json", r#"config.authz.listen=["0.0.0.0:9001"]"#],
        &["config.authz.listen is set by the chart", "checker.tls"],
    ),
    (
        "values.yaml",
        &["--set", "config.admin.insecure=true"],
        &[
            "config.admin.insecure is set by the chart",
            "controlPlane.tls",
        ],
    ),
    (
        "values.yaml",
        &["--set-json", r#"config.ops.listen=["0.0.0.0:9003"]"#],
        &["config.ops.listen is set by the chart: remove it"],
    ),
    (
        "values.yaml",
        &["--set", "config.store.embedded.path=a.redb"],
        &["controlPlane.persistence"],
    ),
    (
        "values-ha.yaml",
        &["--set", "config.store.redis.password_file=a"],
        &[
            "config.store.redis.password_file is set by the chart",
            "redis.checker",
        ],
    ),
];

#[track_caller]
fn refused(rows: &[Row]) {
    for (values, args, sentences) in rows {
        let Err(said) = template(values, args) else {
            panic!("{values} {args:?} is accepted");
        };
        for sentence in *sentences {
            assert!(said.contains(sentence), "{values} {args:?}: {said}");
        }
    }
}

#[test]
fn a_value_of_a_wrong_name_type_or_form_is_named_with_its_place() {
    refused(BY_SCHEMA);
}

#[test]
fn values_that_contradict_each_other_are_refused_with_what_to_do() {
    refused(BY_TEMPLATE);
}
