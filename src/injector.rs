//! Puts sidecars into pods: the mutating admission webhook of Kubernetes.
//!
//! A review is parsed, [`patch`] decides without I/O, and the decision is wrapped. The pod stays untyped JSON and the
//! patch only adds, so that fields of a newer Kubernetes survive.

mod annotations;
mod container;
mod eligibility;
pub mod http;
mod pod;
mod review;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Value, json};

use crate::config::{Injector, ListenAddr, SidecarMode};
use container::Sidecar;
use eligibility::Eligibility;
use pod::Pod;

/// What a pod template says of injection, as label and as annotation; a namespace says it as label.
pub const INJECT: &str = "keystile.io/inject";
/// Where a patched pod says what was put into it.
pub const STATUS: &str = "keystile.io/status";
const MODE: &str = "keystile.io/mode";
const AUTHZ_PORT: &str = "keystile.io/authz-port";
const OPS_PORT: &str = "keystile.io/ops-port";

/// The sidecar's names in a pod.
const CONTAINER: &str = "keystile";
const SOCKET_VOLUME: &str = "keystile-socket";
const SOCKET_FOLDER: &str = "/run/keystile";

/// What comes of a pod.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// What whoever makes the pod is told.
    pub warnings: Vec<String>,
}

/// What is done with a pod.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// The pod is changed so.
    Patch(Patch),
    /// The pod stays as it is.
    Leave,
    /// The pod is not made, for this reason.
    Refuse(String),
}

/// Decides about the pod that is being made in `namespace`. Pure: nothing is asked and nothing changes, so it holds for
/// a dry run as well.
pub fn patch(pod: &Value, namespace: &str, settings: &Injector) -> Verdict {
    let pod = Pod(pod);
    let mut warnings = Vec::new();
    let action = match eligibility::of(&pod, namespace, settings, &mut warnings) {
        Eligibility::No => Action::Leave,
        Eligibility::Has => complete(&pod),
        Eligibility::Yes => inject(&pod, settings, &mut warnings).unwrap_or_else(Action::Refuse),
    };
    Verdict { action, warnings }
}

fn inject(
    pod: &Pod<'_>,
    settings: &Injector,
    warnings: &mut Vec<String>,
) -> Result<Action, String> {
    let mut wanted = settings.sidecar.clone();
    annotations::apply(pod, &mut wanted, warnings)?;
    if wanted.mode == SidecarMode::Container && pod.ends() {
        warnings.push(format!(
            "keystile: not injected: a pod with restartPolicy {} never completes beside a plain container; \
             annotate it with {}: native",
            pod.restart_policy(),
            MODE
        ));
        return Ok(Action::Leave);
    }
    let sidecar = Sidecar {
        wanted: &wanted,
        // Where the injector itself has no use for IPv6, nodes may be without.
        any: match settings
            .listen
            .iter()
            .any(|at| matches!(at, ListenAddr::Tcp(at) if at.is_ipv6()))
        {
            true => "[::]",
            false => "0.0.0.0",
        },
    };
    sidecar.check_room(pod)?;
    let mut operations = Operations::new(pod);
    operations.put_container(&sidecar);
    for volume in sidecar.volumes() {
        operations.append("volumes", volume);
    }
    for secret in &wanted.image_pull_secrets {
        if !pod.pulls_with(secret) {
            operations.append("imagePullSecrets", json!({"name": **secret}));
        }
    }
    operations.mount_socket(sidecar.socket_mount());
    operations.annotate(STATUS, sidecar.status().to_string());
    Ok(operations.done())
}

/// Of a pod that we have patched: gives the socket to proxies that another webhook has put in since.
fn complete(pod: &Pod<'_>) -> Action {
    let Some(mount) = pod.own_socket_mount() else {
        return Action::Leave;
    };
    let mut operations = Operations::new(pod);
    operations.mount_socket(Some(mount));
    match operations.operations.is_empty() {
        true => Action::Leave,
        false => operations.done(),
    }
}

/// The patch in the making.
struct Operations<'a> {
    pod: &'a Pod<'a>,
    operations: Vec<PatchOperation>,
    /// Lists of the spec that the patch has made.
    made: Vec<&'static str>,
}

impl<'a> Operations<'a> {
    fn new(pod: &'a Pod<'a>) -> Self {
        Self {
            pod,
            operations: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Pointers escape `~` and `/` of names themselves.
    fn add(&mut self, path: &[&str], value: Value) {
        let path = PointerBuf::from_tokens(path.iter().copied());
        let add = AddOperation { path, value };
        self.operations.push(PatchOperation::Add(add));
    }

    /// A list of the spec, made if it is not there.
    fn need_list(&mut self, name: &'static str) {
        if !self.pod.has_list(name) && !self.made.contains(&name) {
            self.made.push(name);
            self.add(&["spec", name], json!([]));
        }
    }

    fn append(&mut self, name: &'static str, value: Value) {
        self.need_list(name);
        self.add(&["spec", name, "-"], value);
    }

    /// A native sidecar goes before the application's init containers, and after the mesh's own; a plain container last,
    /// so that `kubectl exec` still means the application.
    fn put_container(&mut self, sidecar: &Sidecar<'_>) {
        let container = sidecar.container(self.pod);
        match sidecar.wanted.mode {
            SidecarMode::Container => self.append("containers", container),
            SidecarMode::Native => {
                self.need_list("initContainers");
                let place = self.pod.after_the_mesh().to_string();
                self.add(&["spec", "initContainers", &place], container);
            }
        }
    }

    /// Mounts the socket where the proxy is. Places are those of before the patch, so ours counts among init containers.
    fn mount_socket(&mut self, mount: Option<Value>) {
        let Some(mount) = mount else { return };
        let pod = self.pod;
        let is_new = !pod.has_container(CONTAINER);
        let native = self.operations.iter().any(|operation| {
            matches!(operation, PatchOperation::Add(add) if add.path.as_str().starts_with("/spec/initContainers/"))
        });
        let ours = (is_new && native).then(|| pod.after_the_mesh());
        for (list, index, container) in pod.proxies() {
            let shifted = list == "initContainers" && ours.is_some_and(|ours| index >= ours);
            let index = (index + usize::from(shifted)).to_string();
            if pod::mounts(container, &mount) {
                continue;
            }
            if !container["volumeMounts"].is_array() {
                self.add(&["spec", list, &index, "volumeMounts"], json!([]));
            }
            self.add(&["spec", list, &index, "volumeMounts", "-"], mount.clone());
        }
    }

    fn annotate(&mut self, name: &str, value: String) {
        if !self.pod.0["metadata"].is_object() {
            self.add(&["metadata"], json!({}));
        }
        if !self.pod.0["metadata"]["annotations"].is_object() {
            self.add(&["metadata", "annotations"], json!({}));
        }
        self.add(&["metadata", "annotations", name], value.into());
    }

    fn done(self) -> Action {
        Action::Patch(Patch(self.operations))
    }
}
