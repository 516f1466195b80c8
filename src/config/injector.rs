//! What the section `injector` says together, and what a pod may say in its place.

use serde_json::Value;

use super::listen::ListenAddr;
use super::mistake::Mistake;
use super::schema::{SCHEMA, has_type};
use super::section::Injector;
use super::shape;

/// The value of a field of `injector.sidecar` from text, by the same rules; the error says what is wrong with it.
pub(crate) fn sidecar_value(field: &str, text: &str) -> Result<Value, String> {
    let sidecar = &SCHEMA["properties"]["injector"]["properties"]["sidecar"];
    let schema = &sidecar["properties"][field];
    let number = text
        .parse::<u64>()
        .ok()
        .filter(|_| has_type(schema, "integer"));
    let mut value = number.map_or_else(|| Value::from(text), Value::from);
    let mut mistakes = Vec::new();
    match shape::check(schema, &mut value, "", &mut mistakes) {
        true => Ok(value),
        false => Err(mistakes
            .pop()
            .map(|found| found.message)
            .unwrap_or_default()),
    }
}

pub(super) fn check(injector: &Injector, mistakes: &mut Vec<Mistake>) {
    if injector.tls.is_none() {
        let message = "is missing: the API server of Kubernetes speaks TLS alone; write `tls: {cert_file: …, key_file: …}`";
        mistakes.push(Mistake::new("injector.tls", message));
    }
    for (index, address) in injector.listen.iter().enumerate() {
        if matches!(address, ListenAddr::Unix(_)) {
            let message = "is a Unix socket, which the API server of Kubernetes cannot reach; write `0.0.0.0:9443`";
            mistakes.push(Mistake::new(format!("injector.listen[{index}]"), message));
        }
    }
    let sidecar = &injector.sidecar;
    if sidecar.authz_port == sidecar.ops_port {
        let message = format!(
            "{} is injector.sidecar.authz_port too; the two must differ",
            sidecar.ops_port
        );
        let mistake = Mistake::new("injector.sidecar.ops_port", message);
        mistakes.push(mistake.with("injector.sidecar.authz_port"));
    }
    let mut files = Vec::new();
    for (index, secret) in sidecar.secrets.iter().enumerate() {
        let path = format!("injector.sidecar.secrets[{index}]");
        let file = secret.file.as_ref().unwrap_or(&secret.entry);
        if [&*secret.entry, &**file].contains(&"vault.keyring") {
            let message =
                "is the vault keyring, which no sidecar may have; name the entry `data.keyring`";
            mistakes.push(Mistake::new(path, message));
        } else if files.contains(&file) {
            let message = format!("makes the file `{file}` a second time; choose another `file`");
            mistakes.push(Mistake::new(path, message));
        }
        files.push(file);
    }
}
