//! The section `admin.oidc`: whose JWTs are accepted, and what its fields say together.

use std::collections::BTreeMap;

use super::mistake::Mistake;
use super::section::{Admin, Jwks};
use super::text::ClaimValue;

const PATH: &str = "admin.oidc";

pub(super) fn check(admin: &Admin, mistakes: &mut Vec<Mistake>) {
    let Some(oidc) = &admin.oidc else {
        if !admin.strict_api_key_mode && admin.client_roles.is_empty() {
            let message = "is false and lets nobody in who is not let in anyway; write `admin: {oidc: {issuer: …}}` to accept JWTs, or take the line out";
            mistakes.push(Mistake::new("admin.strict_api_key_mode", message).with(PATH));
        }
        return;
    };
    if admin.strict_api_key_mode {
        let message = "is not used: `admin.strict_api_key_mode` is true, the default, and refuses every JWT; write `strict_api_key_mode: false` beside it, or take the section out";
        mistakes.push(Mistake::new(PATH, message).with("admin.strict_api_key_mode"));
    }
    check_jwks(&format!("{PATH}.jwks"), &oidc.jwks, mistakes);
    let roles = oidc.roles.iter().map(|entry| &entry.value);
    check_values("roles", "a role", roles, mistakes);
    let tenants = oidc.tenants.iter().flatten().map(|entry| &entry.value);
    check_values("tenants", "a tenant", tenants, mistakes);
}

/// `section` is where it stands.
pub(super) fn check_jwks(section: &str, jwks: &Jwks, mistakes: &mut Vec<Mistake>) {
    let path = |field: &str| format!("{section}{field}");
    match (&jwks.file, &jwks.url) {
        (Some(_), Some(_)) => {
            let message = "is given beside file; keep one of the two";
            mistakes.push(Mistake::new(path(".url"), message).with(path(".file")));
        }
        (None, None) => {
            let message = "names no keys; write `url: https://…`, the `jwks_uri` of the issuer's /.well-known/openid-configuration, or `file: …`";
            mistakes.push(
                Mistake::new(path(""), message)
                    .with(path(".url"))
                    .with(path(".file")),
            );
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if jwks.ca_file.is_some()
        && !jwks
            .url
            .as_ref()
            .is_some_and(|url| url.starts_with("https:"))
    {
        let message = "is for a `url` that begins with https://; take it out";
        mistakes.push(Mistake::new(path(".ca_file"), message).with(path(".url")));
    }
    if jwks.max_stale.0 < jwks.ttl.0 {
        let message = format!(
            "{} is shorter than ttl, {}: the keys would be too old before they are read again",
            jwks.max_stale, jwks.ttl
        );
        mistakes.push(Mistake::new(path(".max_stale"), message).with(path(".ttl")));
    }
}

fn check_values<'a>(
    list: &str,
    what: &str,
    values: impl Iterator<Item = &'a ClaimValue>,
    mistakes: &mut Vec<Mistake>,
) {
    let mut seen = BTreeMap::new();
    for (index, value) in values.enumerate() {
        if let Some(first) = seen.insert(value, index) {
            let message = format!("has {what} in {PATH}.{list}[{first}] already; keep one");
            mistakes.push(Mistake::new(
                format!("{PATH}.{list}[{index}].value"),
                message,
            ));
        }
    }
}
