//! Tenants and keys: create, read, list, suspend, rotate, renew, revoke, delete. The only writer of records.
//!
//! Every change is one commit: the record, what is derived from it, the counters and the audit entry. Who may do
//! what is decided before, by the caller's protocol; what may exist at all is decided here.

mod audit_notes;
mod audit_writer;
mod etag;
mod fleet;
mod idempotency;
mod import;
mod indexed;
mod key_changes;
mod key_rules;
mod keys;
mod lineage;
mod lost;
mod owners;
mod pause;
mod recount;
mod rotation;
mod schedule;
mod tenants;
mod tokens;
mod verify;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::{Clock, Timestamp};
use crate::crypto::digest::LookupKey;
use crate::crypto::envelope::DataKey;
use crate::crypto::keyring::Keyring;
use crate::crypto::token::TokenPrefixes;
use crate::domain::change::{Action, Actor, Change};
use crate::domain::governance::{ExpiryProblem, KeyRules, LimitSource, OverridesDisabled};
use crate::domain::key::NoClaim;
use crate::domain::name::{KeyId, TenantId};
use crate::domain::plan::Plans;
use crate::domain::role::Role;
use crate::domain::tenant::Tenant;
use crate::registry::audit_writer::AuditWriter;
use crate::store::damage;
use crate::store::records::{self, RecordError, WrappedKeys};
use crate::store::{CommitError, CountScope, Store, StoreError};

pub use etag::Etag;
pub use idempotency::RequestId;
pub(crate) use import::not_importable;
pub use import::{TokenHolder, TokenState};
pub use key_changes::Edited;
pub use keys::{CreatedKey, NewKey, ReadKey};
pub use lineage::RevokedWith;
pub use lost::{Search, Standing};
pub use owners::OwnerIndexState;
pub use pause::NewPause;
pub use rotation::NewEnd;
pub use schedule::Rotations;
pub use tenants::NewTenant;
pub use verify::Proven;

pub use crate::store::Sidecar;

/// How often a change without an etag is tried again when somebody else was faster.
const ATTEMPTS_MAX: usize = 8;

/// Why a change or a query failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing, or none that the caller may know of.
    #[error("{what} not found")]
    NotFound {
        /// `tenant` or `key`.
        what: &'static str,
    },
    /// There is one already.
    #[error("{what} exists already")]
    AlreadyExists {
        /// `tenant` or `key`.
        what: &'static str,
    },
    /// The token of an import is or was that of a key; whose, if that can be said.
    #[error("the token is or was that of a key already")]
    TokenTaken(Option<Box<TokenHolder>>),
    /// The etag is not the current one.
    #[error("the {what} was modified concurrently; re-read it and retry")]
    Conflict {
        /// `tenant` or `key`.
        what: &'static str,
    },
    /// A value is not acceptable.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field's path.
        field: &'static str,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// A revoked key does not change any more.
    #[error("the key is revoked")]
    KeyRevoked,
    /// An expired key is renewed before anything else is done to it.
    #[error("the key has expired")]
    KeyExpired,
    /// What an admin has paused is not the owner's to resume.
    #[error("an admin has paused the key")]
    PausedByAdmin,
    /// The request id was used for something else.
    #[error("the request id was used before, for something else")]
    RequestReused,
    /// The request was done before, and the token of the key that it made is not kept.
    #[error("the request made key {key} before, and its token is not kept")]
    TokenNotKept {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: KeyId,
    },
    /// A token that is asked for is not kept.
    #[error("{0}")]
    NotKept(&'static str),
    /// A token does not get the one after it.
    #[error(transparent)]
    NoClaim(#[from] NoClaim),
    /// One more key would be too many.
    #[error("API key limit exceeded: {}", too_many(*.scope, *.limit, *.current, *.role, *.set_by))]
    CountLimit {
        /// Whose limit.
        scope: CountScope,
        /// The limit.
        limit: u64,
        /// How many there are.
        current: u64,
        /// The role of the key that was to be made.
        role: Role,
        /// Who says how high the limit is.
        set_by: LimitSource,
    },
    /// No keys can be made at all.
    #[error("API keys cannot be made: `api_keys.enabled` is false")]
    KeysDisabled,
    /// A key may not have this expiry.
    #[error("API key expiry validation failed: {0}")]
    Expiry(ExpiryProblem),
    /// Limits cannot be changed at run time.
    #[error("{disabled}; the limits stay {}/{}/{}", .kept[0], .kept[1], .kept[2])]
    OverridesDisabled {
        /// For whom.
        disabled: OverridesDisabled,
        /// The limits that hold, in the order of the roles.
        kept: [u32; 3],
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be used.
    #[error("a stored record cannot be used")]
    Record(#[from] RecordError),
}

impl RegistryError {
    /// Whether it says that a key has no record, or none that can be used.
    pub fn is_of_a_lost_key(&self) -> bool {
        match self {
            Self::NotFound { what } => *what == "key",
            Self::Record(error) => error.entry() == damage::Entry::Key,
            Self::Store(error) => matches!(error, StoreError::Damaged(_)),
            _ => false,
        }
    }
}

/// What the registry needs to know of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The words that new tokens begin with.
    pub prefixes: TokenPrefixes,
}

/// Makes, reads and changes tenants and keys.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
    data: Arc<Keyring>,
    /// None: tokens are not kept, whatever is asked.
    vault: Option<Arc<Keyring>>,
    lookup: Arc<LookupKey>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    plans: Arc<ArcSwap<Plans>>,
    rotations: Arc<Rotations>,
    key_rules: Arc<ArcSwap<KeyRules>>,
    audit_writer: AuditWriter,
    /// Held by who completes an owner index.
    unfinished: Arc<tokio::sync::Mutex<owners::Unfinished>>,
}

/// A tenant that has been read, with what is needed to change it.
struct Opened {
    tenant: Tenant,
    data_key: DataKey,
    wrapped: WrappedKeys,
}

impl Registry {
    /// A registry over a store. With `vault`, tokens are kept sealed for `RevealKey`.
    pub fn new(
        store: Arc<dyn Store>,
        data: Arc<Keyring>,
        vault: Option<Arc<Keyring>>,
        lookup: Arc<LookupKey>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        Self {
            store,
            data,
            vault,
            lookup,
            clock,
            settings,
            plans: Arc::default(),
            rotations: Arc::default(),
            key_rules: Arc::default(),
            audit_writer: AuditWriter::new(),
            unfinished: Arc::default(),
        }
    }

    /// The plans that tenants can be on.
    pub fn plans(&self) -> Arc<Plans> {
        self.plans.load_full()
    }

    /// Other plans from now on, for every copy of this registry. Tenants stay on those that they are on.
    pub fn set_plans(&self, plans: Plans) {
        self.plans.store(Arc::new(plans));
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn open(&self, id: &TenantId) -> Result<Opened, RegistryError> {
        let row = self
            .store
            .tenant(id)
            .await?
            .ok_or(RegistryError::NotFound { what: "tenant" })?;
        let opened = records::open_tenant(&self.data, &row);
        let opened = opened.inspect_err(|error| self.store.damage().unopened(id, error));
        let (tenant, data_key) = opened?;
        let wrapped = WrappedKeys {
            data: row.data_dek,
            vault: row.vault_dek,
        };
        Ok(Opened {
            tenant,
            data_key,
            wrapped,
        })
    }

    fn audit(data_key: &DataKey, tenant: &TenantId, entry: Entry<'_>) -> Vec<u8> {
        let change = Change {
            actor: entry.actor.clone(),
            action: entry.action,
            at: entry.at,
            key: entry.key.cloned(),
            note: entry.note,
        };
        records::seal_change(data_key, tenant, &change, &mut rand::rng())
    }
}

/// What goes into the audit besides the tenant.
struct Entry<'a> {
    actor: &'a Actor,
    action: Action,
    at: Timestamp,
    key: Option<&'a KeyId>,
    note: String,
}

fn too_many(
    scope: CountScope,
    limit: u64,
    current: u64,
    role: Role,
    set_by: LimitSource,
) -> String {
    match scope {
        CountScope::Owner => format!(
            "the owner has {current} of {limit} keys; the limit for the role `{}` is from {}",
            role.as_str(),
            set_by.as_str()
        ),
        CountScope::Total => format!("the platform has {current} of {limit} keys"),
    }
}

/// A commit's refusal in the registry's words.
fn refused(what: &'static str) -> impl Fn(CommitError) -> RegistryError {
    move |error| match error {
        CommitError::Conflict => RegistryError::Conflict { what },
        CommitError::Exists => RegistryError::AlreadyExists { what },
        // Where a repeated request can be answered it was, before we came here.
        CommitError::Repeated => RegistryError::Conflict { what },
        CommitError::Revoked => RegistryError::KeyRevoked,
        CommitError::NotFound => RegistryError::NotFound { what },
        CommitError::Uncounted => RegistryError::Store(StoreError::Damaged(error.to_string())),
        // Only who makes a key asks for room, and says itself for which.
        CommitError::CountLimit { .. } => {
            RegistryError::Store(StoreError::Damaged(error.to_string()))
        }
        CommitError::Store(error) => RegistryError::Store(error),
    }
}
