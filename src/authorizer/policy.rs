//! Decides about a proven key. Pure: no I/O, no clock, no logging, so that every rule can be tested as a table.

use std::collections::BTreeSet;
use std::iter::once_with;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::domain::access::TenantAccess;
use crate::domain::decision::{Denial, DenyReason, is_past};
use crate::domain::name::Feature;
use crate::domain::pause::PauseEnd;
use crate::domain::request::{AccessRequest, Credential, Mode, Rule, parts};
use crate::domain::tenant::TenantStatus;

/// What of a key the decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct KeyFacts<'a> {
    /// Revoked is final.
    pub revoked: bool,
    /// The earlier of expiry and grace.
    pub expires_at: Option<Timestamp>,
    /// That it does not work for a while.
    pub paused: Option<PauseEnd>,
    /// If not empty, the only networks it may be used from.
    pub networks: &'a [IpNet],
    /// If set, only these of the tenant's features.
    pub features: Option<&'a BTreeSet<Feature>>,
    /// Its scopes, joined by commas.
    pub scopes: &'a str,
}

/// What a request is held against, in the order in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// There is one way to read it.
    Request,
    /// Which configured rule the request falls under.
    Route,
    /// The route looks for a key at all.
    Mode,
    /// It carries one credential.
    Credential,
    /// It comes from nowhere that has sent too many wrong keys.
    Source,
    /// The credential is a key's token, and the key is not revoked.
    Key,
    /// The key's tenant is active.
    Tenant,
    /// The key is not past its end.
    Expiry,
    /// The key is not paused.
    Pause,
    /// It comes from a network that the key may be used from.
    Network,
    /// The key has a feature that the route needs.
    Feature,
    /// The key has a scope that the route needs.
    Scope,
    /// The request is neither too soon nor one too many.
    Limit,
}

impl Criterion {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Route => "route",
            Self::Mode => "mode",
            Self::Credential => "credential",
            Self::Source => "source",
            Self::Key => "key",
            Self::Tenant => "tenant",
            Self::Expiry => "expiry",
            Self::Pause => "pause",
            Self::Network => "network",
            Self::Feature => "feature",
            Self::Scope => "scope",
            Self::Limit => "limit",
        }
    }
}

/// One check of a proven key and how it came out.
#[derive(Clone, Copy, Debug)]
pub(super) struct PolicyCheck<'a> {
    pub(super) criterion: Criterion,
    /// What a request is refused for, if it does not meet the criterion.
    pub(super) broken: Option<DenyReason>,
    /// The feature or scope that the check is about; others have none.
    pub(super) name: Option<&'a str>,
}

impl<'a> PolicyCheck<'a> {
    fn new(criterion: Criterion, holds: bool, reason: DenyReason) -> Self {
        Self {
            criterion,
            broken: (!holds).then_some(reason),
            name: None,
        }
    }

    fn about(self, name: &'a str) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }
}

/// Every check of a proven key, in order: [`decide`] stops at the first that is broken, `explain` walks them all. Each
/// is made when it is asked for.
///
/// A revoked key is refused before all else, as if it did not exist: its holder learns nothing about the tenant.
pub(super) fn checks<'a>(
    tenant: &'a TenantAccess,
    key: &'a KeyFacts<'a>,
    request: &'a AccessRequest<'_>,
    now: Timestamp,
) -> impl Iterator<Item = PolicyCheck<'a>> {
    use DenyReason as Reason;
    let not_revoked = || PolicyCheck::new(Criterion::Key, !key.revoked, Reason::InvalidApiKey);
    let active = || {
        let is_active = matches!(tenant.status, TenantStatus::Active);
        PolicyCheck::new(Criterion::Tenant, is_active, Reason::TenantSuspended)
    };
    let in_time = move || {
        let in_time = !is_past(key.expires_at, now);
        PolicyCheck::new(Criterion::Expiry, in_time, Reason::ApiKeyExpired)
    };
    let awake = move || {
        let is_paused = key.paused.is_some_and(|pause| pause.holds(now));
        PolicyCheck::new(Criterion::Pause, !is_paused, Reason::ApiKeyPaused)
    };
    let inside = || {
        let inside = is_inside(key.networks, request.source);
        PolicyCheck::new(Criterion::Network, inside, Reason::NetworkNotAllowed)
    };
    once_with(not_revoked)
        .chain(once_with(active))
        .chain(once_with(in_time))
        .chain(once_with(awake))
        .chain(once_with(inside))
        .chain(demands(tenant, key, &request.rule))
}

/// What a rule demands of a key that works: each feature, each scope.
fn demands<'a>(
    tenant: &'a TenantAccess,
    key: &'a KeyFacts<'a>,
    rule: &'a Rule<'_>,
) -> impl Iterator<Item = PolicyCheck<'a>> {
    let features = parts(rule.features).map(move |name| {
        let holds = has_feature(tenant, key.features, name);
        PolicyCheck::new(Criterion::Feature, holds, DenyReason::FeatureNotEnabled).about(name)
    });
    let scopes = parts(rule.scopes).map(move |name| {
        let holds = has_scope(key, name);
        PolicyCheck::new(Criterion::Scope, holds, DenyReason::ScopeNotGranted).about(name)
    });
    features.chain(scopes)
}

/// Decides; of what passes, answers what a rule or plan in shadow would have refused it for. Every demand has to be met by something that is there: nothing is allowed because nothing matched.
pub fn decide(
    tenant: &TenantAccess,
    key: &KeyFacts<'_>,
    request: &AccessRequest<'_>,
    now: Timestamp,
) -> Result<Option<DenyReason>, Denial> {
    let missed = first_broken(tenant, checks(tenant, key, request, now))?;
    let in_shadow = || would_refuse(tenant, key, request.shadow.as_ref()?);
    Ok(missed.or_else(in_shadow))
}

/// Stops at the first broken check. What a plan in shadow would have refused passes, and is answered.
fn first_broken<'a>(
    tenant: &TenantAccess,
    checks: impl Iterator<Item = PolicyCheck<'a>>,
) -> Result<Option<DenyReason>, Denial> {
    let mut in_shadow = None;
    for check in checks {
        match check.broken {
            None => {}
            Some(DenyReason::FeatureNotEnabled) if tenant.plan_in_shadow => {
                in_shadow = Some(DenyReason::FeatureNotEnabled);
            }
            Some(reason) => {
                return Err(Denial {
                    detail: check.name.map(str::to_owned),
                    ..Denial::because(reason)
                });
            }
        }
    }
    Ok(in_shadow)
}

fn would_refuse(tenant: &TenantAccess, key: &KeyFacts<'_>, rule: &Rule<'_>) -> Option<DenyReason> {
    if rule.mode == Mode::Off {
        return None;
    }
    first_broken(tenant, demands(tenant, key, rule)).unwrap_or_else(|denial| Some(denial.reason))
}

/// What a rule in shadow would refuse a request for that passes without a key. A credential that nobody has looked at
/// is given the benefit of the doubt.
pub(super) fn missed_in_shadow(request: &AccessRequest<'_>) -> Option<DenyReason> {
    let rule = request.shadow.as_ref()?;
    let lacks_key = matches!(request.credential, Credential::None)
        && rule.mode != Mode::Off
        && !rule.takes_anonymous();
    lacks_key.then_some(DenyReason::MissingApiKey)
}

/// Whether the tenant has the feature and the key does not give it up.
fn has_feature(tenant: &TenantAccess, narrowed_to: Option<&BTreeSet<Feature>>, name: &str) -> bool {
    tenant.features.contains(name) && narrowed_to.is_none_or(|features| features.contains(name))
}

fn has_scope(key: &KeyFacts<'_>, name: &str) -> bool {
    parts(key.scopes).any(|scope| scope == name)
}

/// An unknown source is outside every network.
fn is_inside(networks: &[IpNet], source: Option<IpAddr>) -> bool {
    // An IPv4 caller on a dual-stack socket shows as ::ffff:a.b.c.d and is meant by an IPv4 network.
    let source = source.map(|address| address.to_canonical());
    networks.is_empty()
        || source.is_some_and(|source| networks.iter().any(|network| network.contains(&source)))
}

#[cfg(test)]
mod tests;
