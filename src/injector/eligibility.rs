//! Whether a pod gets a sidecar: pod label, then pod annotation, then the namespace, which the API server has asked.

use super::pod::Pod;
use super::{CONTAINER, INJECT, STATUS};
use crate::config::Injector;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eligibility {
    Yes,
    No,
    /// It has one that we have put in.
    Has,
}

/// A pod without a word of its own is of a namespace that is opted in: the API server sends no other (the chart's
/// `namespaceSelector`).
pub(super) fn of(
    pod: &Pod<'_>,
    namespace: &str,
    settings: &Injector,
    warnings: &mut Vec<String>,
) -> Eligibility {
    if !asks(pod, warnings) {
        return Eligibility::No;
    }
    let mut leave = |why: String| {
        warnings.push(format!("keystile: not injected: {why}"));
        Eligibility::No
    };
    if settings
        .excluded_namespaces
        .iter()
        .any(|name| **name == *namespace)
    {
        return leave(format!("namespace {namespace} is excluded"));
    }
    if pod.is_ours() {
        warnings.push("keystile: injected already".to_owned());
        return Eligibility::Has;
    }
    if pod.has_container(CONTAINER) {
        return leave(format!(
            "the pod has a container `{CONTAINER}` already, and no annotation {STATUS}"
        ));
    }
    if pod.is_windows() {
        return leave("it is a Windows pod, and the sidecar runs on Linux".to_owned());
    }
    if pod.has_host_network() {
        return leave(
            "hostNetwork is true, and the sidecar's ports would be the node's".to_owned(),
        );
    }
    Eligibility::Yes
}

/// What the pod says, or its namespace. A word that nobody understands counts for nothing.
fn asks(pod: &Pod<'_>, warnings: &mut Vec<String>) -> bool {
    for (kind, said) in [
        ("label", pod.label(INJECT)),
        ("annotation", pod.annotation(INJECT)),
    ] {
        match said {
            Some("enabled" | "true") => return true,
            Some("disabled" | "false") => return false,
            Some(_) => warnings.push(format!(
                "keystile: {kind} {INJECT} is ignored: it must be `enabled` or `disabled`"
            )),
            None => {}
        }
    }
    true
}
