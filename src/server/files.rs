//! Every file that a configuration names, read as a start would read it. Nothing is bound and nothing is written.

use crate::clock::Timestamp;
use crate::config::{Config, KeyringSource, SecretRetention, StorePlace};
use crate::crypto::keyring::Ring;
use crate::keyfile;
use crate::server::tls::Listeners;
use crate::server::{oidc, redis};
use crate::telemetry::chain;

/// What is wrong with the keyrings, the TLS files, the issuer's keys and those for Redis, each with the section that names them.
pub fn mistakes(config: &Config, now: Timestamp) -> Vec<String> {
    let keyring = &config.keyring;
    let mut all = Vec::new();
    let mut check = |section, source: &KeyringSource, ring| {
        if let Err(error) = keyfile::load(source, ring) {
            all.push(format!("{section}: {}", chain(&error)));
        }
    };
    if config.has_store() {
        check("keyring.data", keyring.data(), Ring::Data);
    }
    if let Some(vault) = &keyring.vault
        && config.tokens.secret_retention == SecretRetention::Sealed
    {
        check("keyring.vault", vault, Ring::Vault);
    }
    if let Some(signing) = &keyring.signing {
        check("keyring.signing", signing, Ring::Signing);
    }
    if let Err(mistakes) = Listeners::load(config, now) {
        all.extend(mistakes.lines());
    }
    if let Some(section) = config.admin.as_ref().and_then(|admin| admin.oidc.as_ref()) {
        all.extend(oidc::mistakes("admin.oidc.jwks", &section.jwks));
    }
    let hop = config
        .authz
        .as_ref()
        .and_then(|authz| authz.trusted_hop.as_ref());
    if let Some(jwks) = hop.and_then(|hop| hop.jwks.as_ref()) {
        all.extend(oidc::mistakes("authz.trusted_hop.jwks", jwks));
    }
    if let StorePlace::Redis(redis) = config.store.place() {
        all.extend(redis::file_mistakes(&redis));
    }
    all
}
