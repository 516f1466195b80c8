//! Nobody grants what they do not have: a role above their own, or, as a user, more than their own key or JWT may do.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tonic::Status;
use tonic_types::FieldViolation;

use crate::admin::caller::Identity;
use crate::admin::convert::KeyChange;
use crate::clock::Timestamp;
use crate::domain::key::Key;
use crate::domain::limit::Limits;
use crate::domain::name::{Feature, KeyId, Owner, Scope};
use crate::domain::role::Role;
use crate::registry::NewKey;
use crate::status::Reason;

/// Whether the caller may hand out `role`, or act on a key that has it.
pub(super) fn check_role(caller: &Identity, role: Role) -> Result<(), Status> {
    if role <= caller.role {
        return Ok(());
    }
    Err(Reason::PermissionDenied.status(format!(
        "a {} with the role `{}` cannot give or change the role `{}`",
        caller.credential.word(),
        caller.role.as_str(),
        role.as_str()
    )))
}

/// What a user has to give.
pub(super) struct Means {
    /// By what it was recognised.
    word: &'static str,
    owner: Owner,
    scopes: BTreeSet<Scope>,
    /// None: all that the tenant has.
    features: Option<BTreeSet<Feature>>,
    /// Empty: every network.
    networks: Vec<IpNet>,
    /// From which of them a new key spends, each with the key that it is counted at; none: nothing limits it.
    budgets: Vec<Budget>,
    /// None: it never ends.
    expires_at: Option<Timestamp>,
}

/// Limits that a user was given, and at which key they are counted.
pub(super) struct Budget {
    limits: Limits,
    key: KeyId,
}

impl Budget {
    /// That of a key; none when nothing limits it.
    pub(super) fn of(key: &Key) -> Option<Self> {
        (!key.limits.is_empty()).then(|| Self {
            limits: key.limits,
            key: key.charged().clone(),
        })
    }
}

impl From<Key> for Means {
    fn from(own: Key) -> Self {
        Self {
            budgets: Budget::of(&own).into_iter().collect(),
            expires_at: own.expires_at,
            word: "key",
            owner: own.owner,
            scopes: own.scopes,
            features: own.features,
            networks: own.networks,
        }
    }
}

impl Means {
    /// Of a user with a JWT: the scopes that it names. It restricts nothing else: features, networks and limits are its
    /// tenant's.
    pub(super) fn of_jwt(owner: Owner, scopes: BTreeSet<Scope>) -> Self {
        Self {
            word: "JWT",
            owner,
            scopes,
            features: None,
            networks: Vec::new(),
            budgets: Vec::new(),
            expires_at: None,
        }
    }

    /// The same, spending from these.
    pub(super) fn spending(self, budgets: Vec<Budget>) -> Self {
        Self { budgets, ..self }
    }
}

/// What a key is asked to be able to do; what is none is not asked.
struct Asked<'a> {
    owner: Option<&'a Owner>,
    scopes: Option<&'a BTreeSet<Scope>>,
    features: Option<Option<&'a BTreeSet<Feature>>>,
    networks: Option<&'a [IpNet]>,
    limits: Option<&'a Limits>,
    expires_at: Option<Option<Timestamp>>,
}

/// Whether a user, who may make keys for itself alone, may make this one with `own`; then it spends from what `own` does.
pub(super) fn check_user(own: &Means, new: &mut NewKey, now: Timestamp) -> Result<(), Status> {
    settle_life(new, now);
    // Who names no end gets the one it may have at most.
    new.expires_at = new.expires_at.or(own.expires_at);
    let mut budgets = own.budgets.iter();
    let budget = budgets.find(|budget| new.limits.is_within(&budget.limits));
    new.budget = budget.map(|budget| budget.key.clone());
    check_asked(
        own,
        &Asked {
            owner: Some(&new.owner),
            scopes: Some(&new.scopes),
            features: Some(new.features.as_ref()),
            networks: Some(&new.networks),
            limits: Some(&new.limits),
            expires_at: Some(new.expires_at),
        },
    )
}

/// A life is counted from one moment alone: what is checked of it is what it comes to.
fn settle_life(new: &mut NewKey, now: Timestamp) {
    if let Some(ttl) = new.ttl.take() {
        new.expires_at = Some(now.plus(ttl));
    }
}

/// Whether a key that administers, and ends at `own_end`, may make this one: one that administers too does not outlive it.
pub(super) fn check_admin(
    own_end: Option<Timestamp>,
    new: &mut NewKey,
    now: Timestamp,
) -> Result<(), Status> {
    if new.role == Role::User {
        return Ok(());
    }
    settle_life(new, now);
    check_end("key.expire_time", own_end, new.expires_at)
}

/// Refuses an end after that of what gives it.
pub(super) fn check_end(
    field: &str,
    own_end: Option<Timestamp>,
    asked: Option<Timestamp>,
) -> Result<(), Status> {
    let Some(own_end) = own_end.filter(|_| !ends_within(own_end, asked)) else {
        return Ok(());
    };
    refuse(
        field,
        &format!("must be no later than that of the key that gives it, {own_end}"),
    )
}

fn ends_within(own: Option<Timestamp>, asked: Option<Timestamp>) -> bool {
    own.is_none_or(|own| asked.is_some_and(|asked| asked <= own))
}

/// Whether a user may have another token or a longer life of this key of its own with `own`: both give what the key
/// may do. That of the calling key it may, whatever that may do.
pub(super) fn check_user_gets(caller: &Identity, own: &Means, key: &Key) -> Result<(), Status> {
    if caller.holds(key) {
        return Ok(());
    }
    check_asked(
        own,
        &Asked {
            owner: Some(&key.owner),
            scopes: Some(&key.scopes),
            features: Some(key.features.as_ref()),
            networks: Some(&key.networks),
            limits: Some(&key.limits),
            expires_at: Some(key.expires_at),
        },
    )
}

/// Whether a user may change a key of its own like this: it narrows what the key may do and never widens it. What an
/// admin has forbidden a key, no other key of its owner allows it again.
pub(super) fn check_user_change(key: &Key, change: &KeyChange) -> Result<(), Status> {
    for (field, set) in [
        ("key.rate", change.rate.is_some()),
        ("key.quota", change.quota.is_some()),
    ] {
        if set {
            return refuse(field, "is for a tenant_admin to change");
        }
    }
    let access = change.admin_access.flatten();
    if change.admin_access.is_some() && access.is_none_or(|access| access > key.admin_access) {
        return refuse("key.admin_access", "must be at most what the key has");
    }
    let own = Means {
        word: "key, before the change",
        ..Means::from(key.clone())
    };
    check_asked(
        &own,
        &Asked {
            owner: None,
            scopes: change.scopes.as_ref(),
            features: change.features.as_ref().map(Option::as_ref),
            networks: change.networks.as_deref(),
            limits: None,
            expires_at: None,
        },
    )
}

fn check_asked(own: &Means, asked: &Asked<'_>) -> Result<(), Status> {
    let violation = if asked.owner.is_some_and(|owner| *owner != own.owner) {
        Some(("key.owner", "must be the owner of"))
    } else if asked.scopes.is_some_and(|new| !new.is_subset(&own.scopes)) {
        Some(("key.scopes", "must be among the scopes of"))
    } else if asked.features.is_some_and(|new| !features_within(own, new)) {
        Some(("key.features", "must be among the features of"))
    } else if asked
        .networks
        .is_some_and(|new| !networks_within(&own.networks, new))
    {
        Some(("key.allow_cidrs", "must be within the networks of"))
    } else if asked.limits.is_some_and(|new| !limits_within(own, new)) {
        Some(("key.rate", "and key.quota must be within those of"))
    } else if (asked.expires_at).is_some_and(|new| !ends_within(own.expires_at, new)) {
        Some(("key.expire_time", "must be no later than that of"))
    } else {
        None
    };
    let Some((field, problem)) = violation else {
        return Ok(());
    };
    refuse(field, &format!("{problem} the calling {}", own.word))
}

fn refuse(field: &str, problem: &str) -> Result<(), Status> {
    let violation = FieldViolation::new(field, problem);
    Err(Reason::PermissionDenied.with_fields(format!("{field} {problem}"), vec![violation]))
}

fn limits_within(own: &Means, new: &Limits) -> bool {
    let mut budgets = own.budgets.iter();
    own.budgets.is_empty() || budgets.any(|budget| new.is_within(&budget.limits))
}

fn features_within(own: &Means, new: Option<&BTreeSet<Feature>>) -> bool {
    match (&own.features, new) {
        (None, _) => true,
        (Some(own), Some(new)) => new.is_subset(own),
        (Some(_), None) => false,
    }
}

fn networks_within(own: &[IpNet], new: &[IpNet]) -> bool {
    own.is_empty()
        || !new.is_empty()
            && new
                .iter()
                .all(|new| own.iter().any(|own| own.contains(new)))
}

#[cfg(test)]
mod tests;
