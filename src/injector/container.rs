//! The sidecar: its container, its volumes, and what the pod says of it afterwards.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::pod::{self, Pod};
use super::{AUTHZ_PORT, CONTAINER, OPS_PORT, SOCKET_FOLDER, SOCKET_VOLUME};
use crate::config::{self, Connection, SidecarMode};

const CONFIG_VOLUME: &str = "keystile-config";
const SECRETS_VOLUME: &str = "keystile-secrets";
/// Istio's proxy runs as this user, and traffic of its user passes it by.
const ISTIO_USER: u64 = 1337;

/// A sidecar as this pod gets it.
pub(super) struct Sidecar<'a> {
    pub(super) wanted: &'a config::Sidecar,
    /// Every address of the pod.
    pub(super) any: &'static str,
}

impl Sidecar<'_> {
    fn is_native(&self) -> bool {
        self.wanted.mode == SidecarMode::Native
    }

    fn has_socket(&self) -> bool {
        self.wanted.connection == Connection::Socket
    }

    /// The ports that it listens on, and the annotation for each.
    pub(super) fn ports(&self) -> impl Iterator<Item = (u16, &'static str)> {
        let authz = (!self.has_socket()).then_some((self.wanted.authz_port, AUTHZ_PORT));
        authz.into_iter().chain([(self.wanted.ops_port, OPS_PORT)])
    }

    pub(super) fn socket_mount(&self) -> Option<Value> {
        self.has_socket().then(pod::socket_mount)
    }

    pub(super) fn volumes(&self) -> Vec<Value> {
        let wanted = self.wanted;
        let sources = wanted.secrets.iter().map(|secret| {
            let file = secret.file.as_deref().unwrap_or(&secret.entry);
            json!({"secret": {"name": *secret.name, "items": [{"key": *secret.entry, "path": file}]}})
        });
        let sources: Vec<Value> = sources.collect();
        let mut volumes = vec![
            json!({"name": CONFIG_VOLUME, "configMap": {"name": *wanted.config_map}}),
            json!({"name": SECRETS_VOLUME, "projected": {"defaultMode": 0o440, "sources": sources}}),
        ];
        if self.has_socket() {
            let memory = json!({"medium": "Memory", "sizeLimit": "1Mi"});
            volumes.push(json!({"name": SOCKET_VOLUME, "emptyDir": memory}));
        }
        volumes
    }

    pub(super) fn container(&self, pod: &Pod<'_>) -> Value {
        let wanted = self.wanted;
        let mut container = json!({
            "name": CONTAINER,
            "image": *wanted.image,
            "imagePullPolicy": wanted.image_pull_policy,
            "args": ["serve", "-c", "/etc/keystile/config/keystile.yaml"],
            "env": self.environment(),
            "ports": [{"name": "keystile-ops", "containerPort": wanted.ops_port, "protocol": "TCP"}],
            "readinessProbe": self.probe(&[], &json!({"periodSeconds": 5, "failureThreshold": 2})),
            "livenessProbe": self.probe(&["--live"], &json!({"periodSeconds": 10, "failureThreshold": 6})),
            "resources": self.resources(),
            "securityContext": self.security(pod),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": self.mounts(),
        });
        if self.is_native() {
            container["restartPolicy"] = "Always".into();
            // Containers after it start when it listens. Whether it has reached the store is the readiness probe's
            // question: an application need not be held up by that.
            container["startupProbe"] = self.probe(
                &["--live"],
                &json!({"periodSeconds": 1, "failureThreshold": 60}),
            );
        }
        container
    }

    /// Before the file of the ConfigMap: what hangs on this pod.
    fn environment(&self) -> Vec<Value> {
        let wanted = self.wanted;
        let mut set = vec![(
            "KEYSTILE__AUTHZ__LISTEN",
            match wanted.connection {
                Connection::Port => format!("127.0.0.1:{}", wanted.authz_port),
                Connection::Socket => format!("unix:{SOCKET_FOLDER}/authz.sock"),
            },
        )];
        if self.has_socket() {
            // The proxy has a user of its own; nobody else has the folder.
            set.push(("KEYSTILE__AUTHZ__UNIX_SOCKET__MODE", "0666".to_owned()));
        }
        set.push((
            "KEYSTILE__OPS__LISTEN",
            format!("{}:{}", self.any, wanted.ops_port),
        ));
        set.push(("KEYSTILE__OPS__INSECURE", "true".to_owned()));
        let variable = |(name, value): (&str, String)| json!({"name": name, "value": value});
        set.into_iter().map(variable).collect()
    }

    /// Run in the container: a mesh that wants mTLS on every port does not stand in the way.
    fn probe(&self, more: &[&str], times: &Value) -> Value {
        let address = format!("127.0.0.1:{}", self.wanted.ops_port);
        let mut command = vec!["/usr/bin/keystile", "health", "--addr", &address];
        command.extend(more);
        let mut probe = json!({"exec": {"command": command}, "timeoutSeconds": 3});
        for (name, value) in times.as_object().into_iter().flatten() {
            probe[name] = value.clone();
        }
        probe
    }

    fn resources(&self) -> Value {
        let wanted = self.wanted;
        let all = [
            ("requests", "cpu", &wanted.cpu_request),
            ("requests", "memory", &wanted.memory_request),
            ("limits", "cpu", &wanted.cpu_limit),
            ("limits", "memory", &wanted.memory_limit),
        ];
        let mut resources = Map::new();
        for (kind, name, amount) in all {
            if let Some(amount) = amount {
                let kind = resources.entry(kind).or_insert_with(|| json!({}));
                kind[name] = (**amount).into();
            }
        }
        Value::Object(resources)
    }

    /// Whether nothing that the sidecar brings is in the pod already.
    pub(super) fn check_room(&self, pod: &Pod<'_>) -> Result<(), String> {
        if !pod.has_list("containers") {
            return Err("keystile: the pod has no spec.containers".to_owned());
        }
        for volume in self.volumes() {
            let name = &volume["name"];
            if pod.list("volumes").any(|it| it["name"] == *name) {
                let name = name.as_str().unwrap_or_default();
                return Err(format!(
                    "keystile: the pod has a volume `{name}`, which is the sidecar's: give it another name"
                ));
            }
        }
        let mut seen = BTreeSet::new();
        for (port, annotation) in self.ports() {
            if !seen.insert(port) {
                return Err(format!(
                    "keystile: port {port} is wanted twice: annotate the pod with another {annotation}"
                ));
            }
            if let Some(container) = pod.user_of(port) {
                return Err(format!(
                    "keystile: port {port} of the sidecar is taken by container `{container}`: annotate the pod \
                     with another {annotation}, such as {annotation}: \"{}\"",
                    another_port(port)
                ));
            }
        }
        Ok(())
    }

    /// As the restricted Pod Security profile wants it, with the pod's own user where that can be ours.
    fn security(&self, pod: &Pod<'_>) -> Value {
        let of_pod = &pod.spec()["securityContext"];
        let mut security = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
        });
        if !of_pod["seccompProfile"].is_object() {
            security["seccompProfile"] = json!({"type": "RuntimeDefault"});
        }
        // 0: the cluster chooses, as OpenShift does.
        let user = self.wanted.run_as_user;
        if user != 0 {
            let theirs = of_pod["runAsUser"].as_u64();
            if theirs.is_none_or(|user| user == 0 || user == ISTIO_USER) {
                security["runAsUser"] = user.into();
            }
            // Files of a Secret belong to root and to the pod's fsGroup, or without one to group 0. A fsGroup of ours
            // would change who owns the application's volumes.
            if !of_pod["fsGroup"].is_u64() {
                security["runAsGroup"] = 0.into();
            }
        }
        security
    }

    fn mounts(&self) -> Vec<Value> {
        let mut mounts = vec![
            json!({"name": CONFIG_VOLUME, "mountPath": "/etc/keystile/config", "readOnly": true}),
            json!({"name": SECRETS_VOLUME, "mountPath": "/etc/keystile/secrets", "readOnly": true}),
        ];
        if self.has_socket() {
            mounts.push(json!({"name": SOCKET_VOLUME, "mountPath": SOCKET_FOLDER}));
        }
        mounts
    }

    /// What the pod says of it afterwards.
    pub(super) fn status(&self) -> Value {
        let volumes = self.volumes();
        let volumes: Vec<&Value> = volumes.iter().map(|volume| &volume["name"]).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "container": CONTAINER,
            "mode": self.wanted.mode,
            "connection": self.wanted.connection,
            "image": *self.wanted.image,
            "volumes": volumes,
        })
    }
}

/// A port to propose in the place of another.
fn another_port(port: u16) -> u16 {
    port.checked_add(10_000).unwrap_or(1024)
}
