//! What we want to know of a pod.

use serde_json::{Value, json};

use super::{CONTAINER, SOCKET_FOLDER, SOCKET_VOLUME, STATUS};

/// Istio's containers, which come before ours: they carry our traffic to the store.
const MESH: [&str; 3] = ["istio-validation", "istio-init", "istio-proxy"];
/// The proxy that asks us, where there is a container of that name.
const PROXY: &str = "istio-proxy";
const LISTS: [&str; 2] = ["initContainers", "containers"];

/// A pod as it came.
pub(super) struct Pod<'a>(pub(super) &'a Value);

impl<'a> Pod<'a> {
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        self.0["metadata"]["labels"][name].as_str()
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&'a str> {
        self.0["metadata"]["annotations"][name].as_str()
    }

    pub(super) fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.0["metadata"]["annotations"].as_object();
        let all = all.into_iter().flatten();
        all.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    pub(super) fn spec(&self) -> &'a Value {
        &self.0["spec"]
    }

    pub(super) fn has_list(&self, name: &str) -> bool {
        self.spec()[name].is_array()
    }

    /// Entries of a list of the spec.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &'a Value> {
        self.spec()[name].as_array().into_iter().flatten()
    }

    /// Every container: its list, its place there, itself.
    fn containers(&self) -> impl Iterator<Item = (&'static str, usize, &'a Value)> {
        LISTS.into_iter().flat_map(|name| {
            let all = self.list(name).enumerate();
            all.map(move |(index, container)| (name, index, container))
        })
    }

    pub(super) fn has_container(&self, name: &str) -> bool {
        self.containers().any(|(_, _, it)| it["name"] == name)
    }

    /// Whether it is ours, as we have patched it.
    pub(super) fn is_ours(&self) -> bool {
        self.annotation(STATUS).is_some() && self.has_container(CONTAINER)
    }

    pub(super) fn is_windows(&self) -> bool {
        let spec = self.spec();
        spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows"
    }

    pub(super) fn has_host_network(&self) -> bool {
        self.spec()["hostNetwork"] == true
    }

    pub(super) fn restart_policy(&self) -> &'a str {
        self.spec()["restartPolicy"].as_str().unwrap_or("Always")
    }

    /// Whether it is to complete, as a Job's.
    pub(super) fn ends(&self) -> bool {
        self.restart_policy() != "Always"
    }

    pub(super) fn pulls_with(&self, secret: &str) -> bool {
        self.list("imagePullSecrets").any(|it| it["name"] == secret)
    }

    /// The place among init containers after the last of the mesh.
    pub(super) fn after_the_mesh(&self) -> usize {
        let of_mesh = |it: &Value| MESH.iter().any(|name| it["name"] == *name);
        let last = self
            .list("initContainers")
            .enumerate()
            .filter(|(_, it)| of_mesh(it))
            .last();
        last.map_or(0, |(index, _)| index + 1)
    }

    /// The containers that ask us: the mesh's proxy, or without one every one that goes on running, as any may be it.
    pub(super) fn proxies(&self) -> Vec<(&'static str, usize, &'a Value)> {
        let runs = |list: &str, it: &Value| list == "containers" || it["restartPolicy"] == "Always";
        let all = self
            .containers()
            .filter(|(list, _, it)| it["name"] != CONTAINER && runs(list, it));
        let all: Vec<_> = all.collect();
        let named: Vec<_> = all
            .iter()
            .filter(|(_, _, it)| it["name"] == PROXY)
            .copied()
            .collect();
        if named.is_empty() { all } else { named }
    }

    /// The mount of the socket for proxies, if the pod has our socket.
    pub(super) fn own_socket_mount(&self) -> Option<Value> {
        let has = self.list("volumes").any(|it| it["name"] == SOCKET_VOLUME);
        (has && self.is_ours()).then(socket_mount)
    }

    /// Which container says that it listens on a TCP port.
    pub(super) fn user_of(&self, port: u16) -> Option<&'a str> {
        let uses = |it: &Value| {
            let ports = it["ports"].as_array().into_iter().flatten();
            ports.into_iter().any(|found| {
                let tcp = found["protocol"]
                    .as_str()
                    .is_none_or(|protocol| protocol == "TCP");
                tcp && found["containerPort"] == port
            })
        };
        let found = self.containers().find(|(_, _, it)| uses(it));
        found.map(|(_, _, it)| it["name"].as_str().unwrap_or_default())
    }
}

/// What a proxy mounts: read alone, so that it cannot put another socket there.
pub(super) fn socket_mount() -> Value {
    json!({"name": SOCKET_VOLUME, "mountPath": SOCKET_FOLDER, "readOnly": true})
}

/// Whether a container mounts the same volume.
pub(super) fn mounts(container: &Value, mount: &Value) -> bool {
    let all = container["volumeMounts"].as_array().into_iter().flatten();
    all.into_iter().any(|it| it["name"] == mount["name"])
}
