//! Holds fields against each other, once each is right by itself, and finds every contradiction.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::SecretRetention;
use super::listen::ListenAddr;
use super::mistake::Mistake;
use super::section::{ApiKeys, Authz, Config, KeyringSource, StoreKind};
use super::{abuse, injector, oidc, redis, route, tls};
use crate::ext_authz::credential::CredentialSource;

pub(super) fn check(raw: &Config) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    check_listeners(raw, &mut mistakes);
    tls::check(raw, &mut mistakes);
    check_keyring(raw, &mut mistakes);
    check_signing(raw, &mut mistakes);
    check_files(raw, &mut mistakes);
    if raw.store.kind == StoreKind::Redis {
        redis::check(&raw.store.redis, &mut mistakes);
    }
    if let Some(authz) = &raw.authz {
        check_credentials(authz, &mut mistakes);
        check_prefixes(authz, &mut mistakes);
        route::check(&authz.routes, &mut mistakes);
    }
    if let Some(section) = &raw.abuse {
        abuse::check(section, &mut mistakes);
    }
    if let Some(admin) = &raw.admin {
        if admin.guesses.is_shadow() {
            let message = "has no `shadow`: whoever guesses is refused";
            mistakes.push(Mistake::new("admin.guesses", message));
        }
        oidc::check(admin, &mut mistakes);
    }
    if let Some(section) = &raw.injector {
        injector::check(section, &mut mistakes);
    }
    check_cache(raw, &mut mistakes);
    check_rotations(raw, &mut mistakes);
    check_tokens(raw, &mut mistakes);
    check_api_keys(&raw.api_keys, &mut mistakes);
    mistakes
}

fn check_listeners(raw: &Config, mistakes: &mut Vec<Mistake>) {
    if raw.authz.is_none() && raw.admin.is_none() && raw.injector.is_none() {
        let message = "nothing to serve: neither `authz` nor `admin` nor `injector` is there; `authz: {}` switches a listener on with defaults";
        mistakes.push(Mistake::new("authz", message).with("admin"));
    }
    let addresses = listen_addresses(raw);
    for (index, (path, address)) in addresses.iter().enumerate() {
        let earlier = addresses
            .iter()
            .take(index)
            .find(|(_, other)| address.collides(other));
        if let Some((other_path, other)) = earlier {
            let message = format!(
                "{address} cannot be bound beside {other} of {other_path}; choose another port or path"
            );
            mistakes.push(Mistake::new(path.as_str(), message).with(other_path.as_str()));
        }
    }
}

fn listen_addresses(raw: &Config) -> Vec<(String, &ListenAddr)> {
    let mut addresses = Vec::new();
    for section in raw.listeners() {
        for (index, address) in section.listen.iter().enumerate() {
            addresses.push((format!("{}.listen[{index}]", section.name), address));
        }
    }
    addresses
}

fn check_keyring(raw: &Config, mistakes: &mut Vec<Mistake>) {
    let serves = raw.authz.is_some() || raw.admin.is_some();
    if serves && raw.keyring.data.is_none() {
        let message = "is missing: `authz` and `admin` need it to open keys; `keystile keyring init` makes one, then write `keyring: {data: {file: keys/data.keyring}}`";
        mistakes.push(Mistake::new("keyring.data", message));
    }
    let sealed = raw.tokens.secret_retention == SecretRetention::Sealed;
    if raw.admin.is_some() && sealed && raw.keyring.vault.is_none() {
        let message = "is missing: `admin` seals tokens with it; write `vault: {file: keys/vault.keyring}`, or `tokens: {secret_retention: none}` to keep no tokens";
        mistakes.push(Mistake::new("keyring.vault", message).with("tokens.secret_retention"));
    }
    if let (Some(data), Some(vault)) = (&raw.keyring.data, &raw.keyring.vault)
        && matches!(data, KeyringSource::Env(_))
        && data == vault
    {
        mistakes.push(vault_is_data("keyring.vault.env", "keyring.data.env"));
    }
}

fn check_signing(raw: &Config, mistakes: &mut Vec<Mistake>) {
    check_trusted_hop(raw, mistakes);
    let Some(signing) = &raw.keyring.signing else {
        let wanted = raw
            .authz
            .as_ref()
            .and_then(|authz| authz.signed_context.as_ref());
        if wanted.is_some() {
            let message = "is missing: `authz.signed_context` signs with it; `keystile keyring init --ring signing` makes one, then write `signing: {file: keys/signing.keyring}`";
            mistakes.push(Mistake::new("keyring.signing", message).with("authz.signed_context"));
        }
        return;
    };
    let others = [("data", &raw.keyring.data), ("vault", &raw.keyring.vault)];
    for (name, other) in others {
        let same =
            |other: &KeyringSource| matches!(other, KeyringSource::Env(_)) && signing == other;
        if other.as_ref().is_some_and(same) {
            let other = format!("keyring.{name}.env");
            mistakes.push(signing_seals("keyring.signing.env", &other));
        }
    }
}

fn check_trusted_hop(raw: &Config, mistakes: &mut Vec<Mistake>) {
    let hop = raw
        .authz
        .as_ref()
        .and_then(|authz| authz.trusted_hop.as_ref());
    let Some(hop) = hop else {
        return;
    };
    match &hop.jwks {
        Some(jwks) => oidc::check_jwks("authz.trusted_hop.jwks", jwks, mistakes),
        None if raw.keyring.signing.is_none() => {
            let message = "is missing: a context is checked with the first hop's keys; write `jwks: {url: https://…/.well-known/jwks.json}`, or `keyring.signing` where both hops have the same";
            mistakes.push(Mistake::new("authz.trusted_hop.jwks", message).with("keyring.signing"));
        }
        None => {}
    }
}

fn signing_seals(signing: &str, other: &str) -> Mistake {
    let message = format!("is the same as {other}: a key that seals may not sign; make another");
    Mistake::new(signing, message).with(other)
}

fn vault_is_data(vault: &str, data: &str) -> Mistake {
    let message = format!(
        "is the same as {data}: every sidecar has that one, and none may open the vault; make another"
    );
    Mistake::new(vault, message).with(data)
}

/// No two uses for one file: the second would overwrite the first.
fn check_files(raw: &Config, mistakes: &mut Vec<Mistake>) {
    let file = |source: &Option<KeyringSource>| match source {
        Some(KeyringSource::File(path)) => Some(plain_path(path)),
        Some(KeyringSource::Env(_)) | None => None,
    };
    let (store, data, vault, signing) = (
        (raw.store.kind == StoreKind::Embedded).then(|| plain_path(&raw.store.embedded.path)),
        file(&raw.keyring.data),
        file(&raw.keyring.vault),
        file(&raw.keyring.signing),
    );
    if data.is_some() && data == vault {
        mistakes.push(vault_is_data("keyring.vault.file", "keyring.data.file"));
    }
    for (path, other) in [("keyring.data.file", &data), ("keyring.vault.file", &vault)] {
        if signing.is_some() && signing == *other {
            mistakes.push(signing_seals("keyring.signing.file", path));
        }
    }
    for (path, file) in [
        ("keyring.data.file", data),
        ("keyring.vault.file", vault),
        ("keyring.signing.file", signing),
    ] {
        if file.is_some() && file == store {
            mistakes.push(
                Mistake::new(path, "is the store's own file (store.embedded.path)")
                    .with("store.embedded.path"),
            );
        }
    }
}

/// `./keys/a` and `keys/a` are one file.
fn plain_path(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

fn check_credentials(authz: &Authz, mistakes: &mut Vec<Mistake>) {
    let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (index, credential) in authz.credentials.iter().enumerate() {
        let place = place(credential);
        if let Some(first) = seen.get(&place) {
            let path = format!("authz.credentials[{index}]");
            let message = format!(
                "reads the same {} `{}` as authz.credentials[{first}]; keep one",
                place.0, place.1
            );
            mistakes.push(Mistake::new(path, message));
        } else {
            seen.insert(place, index);
        }
    }
}

/// Where a credential is read. A bearer is read from a header too: one header has one meaning.
fn place(credential: &CredentialSource) -> (&str, &str) {
    match credential {
        CredentialSource::Header(name) | CredentialSource::Bearer(name) => ("header", name),
        CredentialSource::Query(name) => ("query parameter", name),
        CredentialSource::Cookie(name) => ("cookie", name),
    }
}

fn check_prefixes(authz: &Authz, mistakes: &mut Vec<Mistake>) {
    let (tenant, key) = (&*authz.tenant_header_prefix, &*authz.key_header_prefix);
    if tenant.starts_with(key) || key.starts_with(tenant) {
        let message = format!(
            "`{key}` overlaps authz.tenant_header_prefix `{tenant}`; neither may begin with the other"
        );
        mistakes.push(
            Mistake::new("authz.key_header_prefix", message).with("authz.tenant_header_prefix"),
        );
    }
    for (index, credential) in authz.credentials.iter().enumerate() {
        let ("header", header) = place(credential) else {
            continue;
        };
        for (field, prefix) in [("tenant_header_prefix", tenant), ("key_header_prefix", key)] {
            // Envoy's peers read signs alike, and so does the removal of reserved headers; a name here has `_` and `-`.
            if header.replace('_', "-").starts_with(prefix) {
                let path = format!("authz.credentials[{index}]");
                let message = format!(
                    "`{header}` begins with authz.{field} `{prefix}`, which clients may not send; choose another header"
                );
                mistakes.push(Mistake::new(path, message).with(format!("authz.{field}")));
            }
        }
    }
}

fn check_cache(raw: &Config, mistakes: &mut Vec<Mistake>) {
    let (ttl, max_stale) = (raw.cache.ttl, raw.cache.max_stale);
    if max_stale < ttl {
        let message =
            format!("{max_stale} is shorter than cache.ttl {ttl}; must be at least as long");
        mistakes.push(Mistake::new("cache.max_stale", message).with("cache.ttl"));
    }
}

fn check_rotations(raw: &Config, mistakes: &mut Vec<Mistake>) {
    let not_kept = raw.admin.is_some() && raw.tokens.secret_retention == SecretRetention::None;
    for (name, plan) in &raw.plans {
        let Some(rotation) = &plan.rotation else {
            continue;
        };
        let path = format!("plans.{name}.rotation");
        if rotation.grace > rotation.every {
            let (grace, every) = (rotation.grace, rotation.every);
            let message =
                format!("{grace} is longer than {path}.every {every}; must be at most that");
            mistakes
                .push(Mistake::new(format!("{path}.grace"), message).with(format!("{path}.every")));
        }
        if not_kept {
            let message = "needs kept tokens, so that they can be claimed, and tokens.secret_retention is `none`; set that to `sealed`, or leave this out";
            mistakes.push(Mistake::new(path, message).with("tokens.secret_retention"));
        }
    }
}

fn check_tokens(raw: &Config, mistakes: &mut Vec<Mistake>) {
    if raw.tokens.live_prefix == raw.tokens.test_prefix {
        let message = format!(
            "`{}` is tokens.live_prefix too; the two must differ",
            raw.tokens.test_prefix
        );
        mistakes.push(Mistake::new("tokens.test_prefix", message).with("tokens.live_prefix"));
    }
}

fn check_api_keys(api_keys: &ApiKeys, mistakes: &mut Vec<Mistake>) {
    let (min, max) = (api_keys.min_expiry_days, api_keys.max_expiry_days);
    if max != 0 && min > max {
        let message = format!(
            "{min} is more than api_keys.max_expiry_days {max}; must be at most that (a maximum of 0 is no maximum)"
        );
        mistakes.push(
            Mistake::new("api_keys.min_expiry_days", message).with("api_keys.max_expiry_days"),
        );
    }
    let mut seen = BTreeMap::new();
    for (index, limits) in api_keys.tenant_limits.iter().enumerate() {
        let path = format!("api_keys.tenant_limits[{index}]");
        let tenant = &limits.tenant_id;
        if let Some(first) = seen.insert(tenant, index) {
            let message = format!(
                "tenant `{tenant}` has limits in api_keys.tenant_limits[{first}] already; keep one"
            );
            mistakes.push(Mistake::new(format!("{path}.tenant_id"), message));
        }
        let any = limits
            .max_keys_per_user
            .or(limits.max_keys_per_tenant_admin)
            .or(limits.max_keys_per_global_admin);
        if any.is_none() {
            let message = "sets no limit; write one of `max_keys_per_user`, `max_keys_per_tenant_admin`, `max_keys_per_global_admin`";
            mistakes.push(Mistake::new(path, message));
        }
    }
}
