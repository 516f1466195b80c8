//! Decides about a proven key. Pure: no I/O, no clock, no logging, so that every rule can be tested as a table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::domain::access::TenantAccess;
use crate::domain::decision::{Denial, DenyReason, is_past};
use crate::domain::name::Feature;
use crate::domain::request::{AccessRequest, Credential, Mode, Rule, parts};
use crate::domain::tenant::TenantStatus;

/// What of a key the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct KeyFacts<'a> {
    /// Revoked is final.
    pub revoked: bool,
    /// The earlier of expiry and grace.
    pub expires_at: Option<Timestamp>,
    /// If not empty, the only networks it may be used from.
    pub networks: &'a [IpNet],
    /// If set, only these of the tenant's features.
    pub features: Option<&'a BTreeSet<Feature>>,
    /// Its scopes, joined by commas.
    pub scopes: &'a str,
}

/// Decides; of what passes, answers what a rule or plan in shadow would have refused it for. Every demand has to be met by something that is there: nothing is allowed because nothing matched.
///
/// A revoked key is refused before all else, as if it did not exist: its holder learns nothing about the tenant.
pub fn decide(
    tenant: &TenantAccess,
    key: &KeyFacts<'_>,
    request: &AccessRequest<'_>,
    now: Timestamp,
) -> Result<Option<DenyReason>, Denial> {
    if key.revoked {
        return Err(Denial::because(DenyReason::InvalidApiKey));
    }
    match tenant.status {
        TenantStatus::Suspended => return Err(Denial::because(DenyReason::TenantSuspended)),
        TenantStatus::Active => {}
    }
    if is_past(key.expires_at, now) {
        return Err(Denial::because(DenyReason::ApiKeyExpired));
    }
    if !is_inside(key.networks, request.source) {
        return Err(Denial::because(DenyReason::NetworkNotAllowed));
    }
    let missed = meets(tenant, key, &request.rule)?;
    let in_shadow = || would_refuse(tenant, key, request.shadow.as_ref()?);
    Ok(missed.or_else(in_shadow))
}

/// Holds a key that works against the demands of a rule.
fn meets(
    tenant: &TenantAccess,
    key: &KeyFacts<'_>,
    rule: &Rule<'_>,
) -> Result<Option<DenyReason>, Denial> {
    let mut in_shadow = None;
    if let Some(missing) = parts(rule.features).find(|name| !has_feature(tenant, key, name)) {
        if !tenant.plan_in_shadow {
            return Err(missing_part(DenyReason::FeatureNotEnabled, missing));
        }
        in_shadow = Some(DenyReason::FeatureNotEnabled);
    }
    if let Some(missing) = parts(rule.scopes).find(|name| !has_scope(key, name)) {
        return Err(missing_part(DenyReason::ScopeNotGranted, missing));
    }
    Ok(in_shadow)
}

fn would_refuse(tenant: &TenantAccess, key: &KeyFacts<'_>, rule: &Rule<'_>) -> Option<DenyReason> {
    if rule.mode == Mode::Off {
        return None;
    }
    meets(tenant, key, rule).unwrap_or_else(|denial| Some(denial.reason))
}

/// What a rule in shadow would refuse a request for that passes without a key. A credential that nobody has looked at
/// is given the benefit of the doubt.
pub(super) fn missed_in_shadow(request: &AccessRequest<'_>) -> Option<DenyReason> {
    let rule = request.shadow.as_ref()?;
    let lacks_key = matches!(request.credential, Credential::None)
        && rule.mode != Mode::Off
        && !takes_anonymous(rule);
    lacks_key.then_some(DenyReason::MissingApiKey)
}

/// Whether a request without a key may pass. A route that demands a feature or scope demands a key, whatever its
/// mode says.
pub(super) fn takes_anonymous(rule: &Rule<'_>) -> bool {
    rule.mode == Mode::Optional && rule.features.is_empty() && rule.scopes.is_empty()
}

/// Whether the tenant has the feature and the key does not give it up.
pub fn has_feature(tenant: &TenantAccess, key: &KeyFacts<'_>, name: &str) -> bool {
    tenant.features.contains(name) && key.features.is_none_or(|features| features.contains(name))
}

pub(super) fn has_scope(key: &KeyFacts<'_>, name: &str) -> bool {
    parts(key.scopes).any(|scope| scope == name)
}

/// An unknown source is outside every network.
pub(super) fn is_inside(networks: &[IpNet], source: Option<IpAddr>) -> bool {
    // An IPv4 caller on a dual-stack socket shows as ::ffff:a.b.c.d and is meant by an IPv4 network.
    let source = source.map(|address| address.to_canonical());
    networks.is_empty()
        || source.is_some_and(|source| networks.iter().any(|network| network.contains(&source)))
}

fn missing_part(reason: DenyReason, name: &str) -> Denial {
    Denial {
        detail: Some(name.to_owned()),
        ..Denial::because(reason)
    }
}

#[cfg(test)]
mod tests;
