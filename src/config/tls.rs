//! What TLS fields say together: where plain text may be spoken, and who is asked for a certificate.

use std::collections::BTreeMap;

use super::ClientRole;
use super::mistake::Mistake;
use super::section::{Admin, ClientEntry, Config, ListenerSection, Tls};

pub(super) fn check(raw: &Config, mistakes: &mut Vec<Mistake>) {
    for section in raw.listeners() {
        check_plain_text(&section, mistakes);
        if let Some(tls) = section.tls {
            check_clients(section.name, tls, mistakes);
        }
    }
    if let Some(admin) = &raw.admin {
        check_admin(admin, mistakes);
    }
}

fn check_plain_text(section: &ListenerSection<'_>, mistakes: &mut Vec<Mistake>) {
    let ListenerSection { name, insecure, .. } = section;
    if section.tls.is_some() {
        if *insecure {
            let message = format!("{name}.tls is on; keep one of the two");
            let mistake = Mistake::new(format!("{name}.insecure"), message);
            mistakes.push(mistake.with(format!("{name}.tls")));
        }
        return;
    }
    for (index, address) in section.listen.iter().enumerate() {
        if *insecure || !address.leaves_the_machine() {
            continue;
        }
        let message = format!(
            "{address} is not loopback and would carry keys in plain text; write `{name}: {{tls: {{cert_file: …, key_file: …}}}}`, or `{name}: {{insecure: true}}` to do so all the same"
        );
        let mistake = Mistake::new(format!("{name}.listen[{index}]"), message);
        mistakes.push(
            mistake
                .with(format!("{name}.tls"))
                .with(format!("{name}.insecure")),
        );
    }
}

fn check_clients(name: &str, tls: &Tls, mistakes: &mut Vec<Mistake>) {
    if !tls.client_sans.is_empty() && tls.client_ca_file.is_none() {
        let message =
            "needs client_ca_file beside it: without that no client is asked for a certificate";
        let mistake = Mistake::new(format!("{name}.tls.client_sans"), message);
        mistakes.push(mistake.with(format!("{name}.tls.client_ca_file")));
    }
}

fn check_admin(admin: &Admin, mistakes: &mut Vec<Mistake>) {
    let asks = |tls: &Tls| tls.client_ca_file.is_some();
    if !admin.client_roles.is_empty() && !admin.tls.as_ref().is_some_and(asks) {
        let message =
            "needs admin.tls.client_ca_file: without that no client is asked for a certificate";
        mistakes.push(Mistake::new("admin.client_roles", message).with("admin.tls.client_ca_file"));
    }
    let mut seen = BTreeMap::new();
    for (index, entry) in admin.client_roles.iter().enumerate() {
        let path = format!("admin.client_roles[{index}]");
        if let Some(first) = seen.insert(entry.san.to_string(), index) {
            let message = format!(
                "`{}` has a role in admin.client_roles[{first}] already; keep one",
                entry.san
            );
            mistakes.push(Mistake::new(format!("{path}.san"), message));
        }
        mistakes.extend(wrong_tenant(entry, &path));
    }
}

fn wrong_tenant(entry: &ClientEntry, path: &str) -> Option<Mistake> {
    match (entry.role, &entry.tenant) {
        (ClientRole::TenantAdmin, None) => {
            let message = "is missing: a tenant_admin administers one tenant; write `tenant: acme`";
            Some(Mistake::new(format!("{path}.tenant"), message))
        }
        (ClientRole::GlobalAdmin, Some(_)) => {
            let message = "is not for a global_admin, who administers every tenant; remove it";
            Some(Mistake::new(format!("{path}.tenant"), message))
        }
        (ClientRole::TenantAdmin, Some(_)) | (ClientRole::GlobalAdmin, None) => None,
    }
}
