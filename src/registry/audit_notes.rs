//! Audit entries of what changes no record.

use std::fmt;

use crate::clock::Timestamp;
use crate::domain::change::{Action, Actor};
use crate::domain::governance::limit_field;
use crate::domain::key::Key;
use crate::domain::limit::Own;
use crate::domain::name::{KeyId, TenantId};
use crate::domain::role::Role;
use crate::domain::tenant::Tenant;
use crate::registry::{Entry, Registry, RegistryError, refused};
use crate::store::CommitError;

/// How often an entry is tried whose place another one took.
const ATTEMPTS_MAX: u32 = 8;

/// A note on a change of a tenant, with the limits that it changes: `rate 10/s -> 20/s`.
pub(super) fn with_limits(note: &str, before: &Tenant, after: &Tenant) -> String {
    let mut note = note.to_owned();
    add(&mut note, "rate", &before.rate, &after.rate);
    add(&mut note, "quota", &before.quota, &after.quota);
    for role in Role::ALL {
        let of = |tenant: &Tenant| tenant.key_limits.of(role).map_or(Own::Plan, Own::At);
        add(&mut note, limit_field(role), &of(before), &of(after));
    }
    note
}

/// The same of a key, with its generation and expiry too: `generation 1 -> 2`.
pub(super) fn of_key_change(note: &str, before: &Key, after: &Key) -> String {
    let mut note = note.to_owned();
    let (old, new) = (&before.limits, &after.limits);
    add(&mut note, "rate", &Own::of(old.rate), &Own::of(new.rate));
    add(&mut note, "quota", &Own::of(old.quota), &Own::of(new.quota));
    let (old, new) = (before.admin_access, after.admin_access);
    if old != new {
        let (old, new) = (old.as_str(), new.as_str());
        push(&mut note, &format!("admin_access {old} -> {new}"));
    }
    let generation = |key: &Key| key.current().map_or(0, |current| current.number);
    if generation(before) != generation(after) {
        let (old, new) = (generation(before), generation(after));
        push(&mut note, &format!("generation {old} -> {new}"));
    }
    if let Some(pause) = &after.pause
        && before.pause.as_ref().map(|pause| pause.end) != Some(pause.end)
    {
        let end = pause.end.time();
        let end = end.map_or_else(|| "it is resumed".to_owned(), |end| end.to_string());
        push(&mut note, &format!("until {end}"));
    }
    if before.expires_at != after.expires_at {
        let shown = |end: Option<Timestamp>| match end {
            Some(end) => end.to_string(),
            None => "never".to_owned(),
        };
        let (old, new) = (shown(before.expires_at), shown(after.expires_at));
        push(&mut note, &format!("expiry {old} -> {new}"));
    }
    note
}

/// A note on a key that is made.
pub(super) fn of_new_key(key: &Key) -> String {
    let (role, access) = (key.role.as_str(), key.admin_access.as_str());
    format!("role {role}, admin_access {access}")
}

fn add<T: fmt::Display + PartialEq>(
    note: &mut String,
    name: &str,
    before: &Own<T>,
    after: &Own<T>,
) {
    if before == after {
        return;
    }
    let shown = |limit: &Own<T>| match limit {
        Own::Plan => "none of its own".to_owned(),
        Own::Unlimited | Own::At(_) => limit.to_string(),
    };
    push(
        note,
        &format!("{name} {} -> {}", shown(before), shown(after)),
    );
}

fn push(note: &mut String, more: &str) {
    let separator = if note.is_empty() { "" } else { "; " };
    note.push_str(separator);
    note.push_str(more);
}

impl Registry {
    /// Writes into the audit of an actor's tenant that it has ended blocks; who has no tenant is only in the log.
    pub async fn note_cleared_blocks(
        &self,
        actor: &Actor,
        what: &str,
    ) -> Result<(), RegistryError> {
        let Actor::Key { tenant, .. } = actor else {
            return Ok(());
        };
        let noted = self.append_entry(actor, (tenant, None), Action::BlocksCleared, what);
        noted.await.map_err(refused("tenant"))
    }

    /// Appends an entry to a tenant's audit, of what changes none of its records; about one of its keys, if it names it.
    pub(super) async fn append_entry(
        &self,
        actor: &Actor,
        about: (&TenantId, Option<&KeyId>),
        action: Action,
        note: &str,
    ) -> Result<(), CommitError> {
        for _ in 1..ATTEMPTS_MAX {
            match self.try_append(actor, about, action, note).await {
                Err(CommitError::Conflict) => {}
                noted => return noted,
            }
        }
        self.try_append(actor, about, action, note).await
    }

    async fn try_append(
        &self,
        actor: &Actor,
        (tenant, key): (&TenantId, Option<&KeyId>),
        action: Action,
        note: &str,
    ) -> Result<(), CommitError> {
        let newest = self.store.audit(tenant, 1).await?;
        let after = newest.first().map_or(0, |(number, _)| *number);
        let opened = self.open(tenant).await.map_err(|_| CommitError::NotFound)?;
        let entry = Entry {
            actor,
            action,
            at: self.now(),
            key,
            note: note.to_owned(),
        };
        let sealed = Self::audit(&opened.data_key, tenant, entry);
        let dek_id = opened.data_key.id();
        self.store
            .append_audit(tenant, dek_id, after, vec![sealed])
            .await
    }
}
