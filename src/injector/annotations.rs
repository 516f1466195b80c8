//! What a pod may say of its own sidecar.

use serde_json::Value;

use super::pod::Pod;
use super::{AUTHZ_PORT, INJECT, MODE, OPS_PORT, STATUS};
use crate::config::{Sidecar, nearest, sidecar_value};

const PREFIX: &str = "keystile.io/";

/// Annotations, and the field of `injector.sidecar` that each replaces.
const FIELDS: &[(&str, &str)] = &[
    (MODE, "mode"),
    ("keystile.io/connection", "connection"),
    (AUTHZ_PORT, "authz_port"),
    (OPS_PORT, "ops_port"),
    ("keystile.io/config-map", "config_map"),
    ("keystile.io/cpu-request", "cpu_request"),
    ("keystile.io/memory-request", "memory_request"),
    ("keystile.io/cpu-limit", "cpu_limit"),
    ("keystile.io/memory-limit", "memory_limit"),
];

/// Replaces fields of `sidecar` by what the pod's annotations say. The error names the annotation.
pub(super) fn apply(
    pod: &Pod<'_>,
    sidecar: &mut Sidecar,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    for (name, text) in pod.annotations() {
        if !name.starts_with(PREFIX) || name == INJECT || name == STATUS {
            continue;
        }
        let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
            let hint = nearest(name, FIELDS.iter().map(|(known, _)| *known));
            let hint = hint.map_or(String::new(), |near| format!("; did you mean {near}?"));
            warnings.push(format!("keystile: annotation {name} is unknown{hint}"));
            continue;
        };
        replace(sidecar, field, text)
            .map_err(|why| format!("keystile: annotation {name} {why}"))?;
    }
    Ok(())
}

/// By the rules of the configuration, so that the two say the same.
fn replace(sidecar: &mut Sidecar, field: &str, text: &str) -> Result<(), String> {
    let value: Value = sidecar_value(field, text)?;
    let mut all = serde_json::to_value(&*sidecar).map_err(|why| why.to_string())?;
    all[field] = value;
    *sidecar = serde_json::from_value(all).map_err(|why| why.to_string())?;
    Ok(())
}
