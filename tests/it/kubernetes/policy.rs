//! What no rendered pod may do, and what each must have.

use serde_json::{Value, json};

use super::matrix::{MATRIX, Rendered, list};

/// Containers of a pod, those that run first included.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(&spec["initContainers"]).chain(list(&spec["containers"]))
}

fn every_pod(hold: impl Fn(&Rendered, &str, &Value)) {
    let mut pods = 0;
    for rendered in &MATRIX.all {
        for (name, spec) in rendered.pods() {
            hold(rendered, &name, spec);
            pods += 1;
        }
    }
    assert!(pods > 100, "{pods} pods");
}

#[test]
fn every_pod_meets_the_restricted_profile_with_a_read_only_root() {
    every_pod(|rendered, name, spec| {
        let security = &spec["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(
            security["seccompProfile"]["type"], "RuntimeDefault",
            "{name}"
        );
        let openshift = rendered.name.contains("+openshift");
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            let want = if openshift { Value::Null } else { json!(65532) };
            assert_eq!(security[field], want, "{name}: {field}");
        }
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(spec[host], Value::Null, "{name}: {host}");
        }
        for container in containers(spec) {
            let want = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(container["securityContext"], want, "{name}");
            for port in list(&container["ports"]) {
                assert_eq!(port["hostPort"], Value::Null, "{name}");
            }
        }
        for volume in list(&spec["volumes"]) {
            assert_eq!(volume["hostPath"], Value::Null, "{name}");
        }
    });
}

#[test]
fn every_container_says_what_it_needs_and_has_a_bound_on_memory() {
    every_pod(|_, name, spec| {
        for container in containers(spec) {
            let resources = &container["resources"];
            for field in ["cpu", "memory"] {
                let asked = resources["requests"][field].is_string();
                assert!(asked, "{name}: no request for {field}");
            }
            assert!(resources["limits"]["memory"].is_string(), "{name}");
        }
    });
}

#[test]
fn no_pod_has_a_token_of_the_cluster_but_for_the_containers_that_store_secrets() {
    every_pod(|_, name, spec| {
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        for volume in list(&spec["volumes"]) {
            let tokens = list(&volume["projected"]["sources"])
                .any(|source| source["serviceAccountToken"].is_object());
            let stores = ["-keyring", "-bootstrap", "-removal"];
            assert!(
                !tokens || stores.iter().any(|job| name.ends_with(job)),
                "{name}"
            );
        }
        for container in containers(spec) {
            let token = list(&container["volumeMounts"]).any(|mount| mount["name"] == "token");
            let kubectl = container["command"][0] == "kubectl";
            assert_eq!(token, kubectl, "{name}: {}", container["name"]);
        }
    });
}

/// How the kubelet asks: a store that is away makes a server not ready, and is never a reason to restart it.
fn probe_of(rendered: &Rendered, deployment: &Value, ready: bool) -> Value {
    let component = &deployment["metadata"]["labels"]["app.kubernetes.io/component"];
    let answers = match rendered.name.starts_with("values-ha") {
        true => component == "checker",
        false => component == "control-plane",
    };
    let path = if ready { "/readyz" } else { "/healthz" };
    match rendered.name.split('+').nth(1) {
        Some("grpc-probes") if ready && answers => json!({"grpc": {"port": 9001}}),
        Some(switch) if switch.starts_with("exec-probes") => {
            let mut command = vec!["/usr/bin/keystile", "health"];
            command.extend((!ready).then_some("--live"));
            command.push("--addr=127.0.0.1:9003");
            json!({"exec": {"command": command}})
        }
        _ => json!({"httpGet": {"path": path, "port": "http-ops"}}),
    }
}

#[test]
fn every_server_is_probed_and_has_time_to_drain() {
    let mut servers = 0;
    for rendered in &MATRIX.all {
        for deployment in rendered.of_kind("Deployment") {
            let spec = &deployment["spec"]["template"]["spec"];
            let container = &spec["containers"][0];
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let want = probe_of(rendered, deployment, probe == "readinessProbe");
                let found = container[probe].as_object().unwrap();
                for (how, asked) in want.as_object().unwrap() {
                    assert_eq!(found.get(how), Some(asked), "{}: {probe}", rendered.name);
                }
            }
            let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
            let pauses = !["kubernetes-1.29", "no-pause"]
                .iter()
                .any(|it| rendered.name.ends_with(it))
                && !rendered.name.starts_with("values-dev");
            assert_eq!(sleep.is_some(), pauses, "{}", rendered.name);
            let drain = match rendered.name.split('+').nth(1) {
                Some("longer-drain") => 120,
                Some("no-pause") => 2,
                _ => 10,
            };
            let grace = spec["terminationGracePeriodSeconds"].as_u64();
            let want = sleep.unwrap_or(0) + drain + 5;
            assert_eq!(grace, Some(want), "{}", rendered.name);
            servers += 1;
        }
    }
    assert!(servers > 50, "{servers} servers");
}

#[test]
fn a_checker_has_the_data_keyring_and_neither_the_vault_nor_the_admin_api() {
    let mut checkers = 0;
    for rendered in &MATRIX.all {
        let Some(checker) = rendered.deployment("checker") else {
            continue;
        };
        let text = checker.to_string();
        assert!(text.contains("data.keyring"), "{}", rendered.name);
        for word in ["vault", "9002", "tls-admin"] {
            assert!(!text.contains(word), "{}: {word}", rendered.name);
        }
        let config = rendered
            .of_kind("ConfigMap")
            .find(|it| it["metadata"]["name"] == checker["metadata"]["name"])
            .unwrap();
        let config = config["data"]["keystile.yaml"].as_str().unwrap();
        for word in ["vault:", "\nadmin:", "vault.keyring"] {
            assert!(!config.contains(word), "{}: {word}", rendered.name);
        }
        assert!(config.contains("authz:"), "{}", rendered.name);
        checkers += 1;
    }
    assert!(checkers > 20, "{checkers} checkers");
}

#[test]
fn every_secret_is_mounted_so_that_keystile_accepts_it_and_is_in_no_variable() {
    every_pod(|_, name, spec| {
        for volume in list(&spec["volumes"]) {
            let secret = &volume["secret"];
            if secret.is_object() {
                assert_eq!(secret["defaultMode"], 0o440, "{name}: {volume}");
            }
        }
        for container in containers(spec) {
            for variable in list(&container["env"]) {
                let from = &variable["valueFrom"]["secretKeyRef"];
                assert_eq!(from, &Value::Null, "{name}");
            }
            assert_eq!(container["envFrom"], Value::Null, "{name}");
        }
    });
}

#[test]
fn keyrings_are_made_once_and_nothing_of_the_release_can_overwrite_or_remove_them() {
    let rendered = MATRIX.named("values-ha+plain");
    assert_eq!(rendered.of_kind("Secret").count(), 0);
    let job = rendered.of_kind("Job").next().unwrap();
    assert_eq!(
        job["metadata"]["annotations"]["helm.sh/hook"],
        "pre-install"
    );
    let role = rendered.of_kind("Role").next().unwrap();
    assert_eq!(
        role["rules"],
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}])
    );
    assert_eq!(rendered.of_kind("Role").count(), 1);
    assert_eq!(rendered.of_kind("ClusterRole").count(), 0);
    let own = MATRIX.named("values-ha+own-keyrings");
    for kind in ["Job", "Role", "RoleBinding"] {
        assert_eq!(own.of_kind(kind).count(), 0, "{kind}");
    }
    let upgrade = super::template("values-ha.yaml", &["--is-upgrade", "--no-hooks"]).unwrap();
    assert!(!upgrade.contains("kind: Job"), "{upgrade}");
    for claim in MATRIX
        .all
        .iter()
        .flat_map(|it| it.of_kind("PersistentVolumeClaim"))
    {
        let policy = &claim["metadata"]["annotations"]["helm.sh/resource-policy"];
        assert_eq!(policy, "keep");
    }
}

#[test]
fn an_embedded_store_has_one_pod_that_is_stopped_before_the_next() {
    for rendered in &MATRIX.all {
        let checker = rendered.deployment("checker");
        let control = rendered.deployment("control-plane").unwrap();
        let service = rendered
            .of_kind("Service")
            .find(|it| {
                it["metadata"]["name"]
                    .as_str()
                    .unwrap()
                    .ends_with("-checker")
            })
            .unwrap();
        let asked = &service["spec"]["selector"]["app.kubernetes.io/component"];
        if rendered.name.starts_with("values-ha") {
            assert!(checker.is_some(), "{}", rendered.name);
            assert_eq!(asked, "checker", "{}", rendered.name);
        } else {
            assert!(checker.is_none(), "{}", rendered.name);
            assert_eq!(asked, "control-plane", "{}", rendered.name);
            assert_eq!(control["spec"]["replicas"], 1);
            assert_eq!(control["spec"]["strategy"]["type"], "Recreate");
        }
    }
}

#[test]
fn without_tls_the_admin_api_is_reached_from_its_pod_alone() {
    for rendered in &MATRIX.all {
        let control = rendered.deployment("control-plane").unwrap();
        let config = rendered
            .of_kind("ConfigMap")
            .find(|it| it["metadata"]["name"] == control["metadata"]["name"])
            .unwrap();
        let config = config["data"]["keystile.yaml"].as_str().unwrap();
        let config: Value = serde_saphyr::from_str(config).unwrap();
        let service = rendered.of_kind("Service").any(|it| {
            let name = it["metadata"]["name"].as_str().unwrap();
            name.ends_with("-admin")
        });
        let tls = config["admin"]["tls"].is_object();
        assert_eq!(service, tls, "{}", rendered.name);
        if !tls {
            let listen = &config["admin"]["listen"];
            assert_eq!(listen, &json!(["127.0.0.1:9002"]), "{}", rendered.name);
        }
        assert_eq!(config["admin"]["insecure"], Value::Null);
    }
}

#[test]
fn an_empty_list_of_peers_admits_nobody() {
    for rendered in &MATRIX.all {
        for policy in rendered.of_kind("NetworkPolicy") {
            for rule in list(&policy["spec"]["ingress"]) {
                let peers = list(&rule["from"]).count();
                assert!(peers > 0, "{}: {rule} is for everybody", rendered.name);
            }
        }
    }
    let closed = MATRIX.named("values-ha+closed-network");
    assert!(closed.of_kind("NetworkPolicy").count() == 2);
}
