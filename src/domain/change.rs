//! Who changed what: the facts of one audit entry.

use std::fmt;

use crate::clock::Timestamp;
use crate::domain::name::{Issuer, KeyId, Subject, TenantId};
use crate::domain::san::San;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The holder of a key, on the admin API.
    Key {
        /// The key's tenant.
        tenant: TenantId,
        /// The key.
        key: KeyId,
    },
    /// The holder of a client certificate, on the admin API.
    Certificate {
        /// The name in it that the configuration gives a role.
        san: San,
    },
    /// The holder of a JWT, on the admin API.
    Jwt {
        /// Who signed it.
        issuer: Issuer,
        /// Whom it is about.
        subject: Subject,
    },
    /// Somebody with access to the store and the keyrings, on the command line.
    Operator,
    /// Nobody: Keystile itself.
    Keystile,
}

/// Who it is in one text, the same each time and different for each.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { tenant, key } => write!(f, "key:{tenant}/{key}"),
            Self::Certificate { san } => write!(f, "certificate:{san}"),
            // Neither holds a space: no two callers read alike.
            Self::Jwt { issuer, subject } => write!(f, "jwt:{issuer} {subject}"),
            Self::Operator => f.write_str("operator"),
            Self::Keystile => f.write_str("keystile"),
        }
    }
}

/// What was done. The words are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A tenant was made.
    TenantCreated,
    /// A tenant's facts were changed.
    TenantUpdated,
    /// A tenant's keys stopped working.
    TenantSuspended,
    /// A tenant's keys work again.
    TenantResumed,
    /// A tenant was crypto-shredded.
    TenantDeleted,
    /// A key was made.
    KeyCreated,
    /// The token of another system became a key.
    KeyImported,
    /// A key's facts were changed.
    KeyUpdated,
    /// A key got another token.
    KeyRotated,
    /// A key's expiry was put off.
    KeyRenewed,
    /// A token that was made by schedule was given to the holder of the one before.
    KeyClaimed,
    /// A key's token was shown again.
    KeyRevealed,
    /// A key stopped working for a while.
    KeyPaused,
    /// A paused key works again.
    KeyResumed,
    /// A key stopped working for good.
    KeyRevoked,
    /// Blocks of sources were ended.
    BlocksCleared,
    /// Limits on the keys of owners were changed.
    LimitsUpdated,
    /// A change of those limits was refused.
    LimitsRefused,
    /// A key was not made, or not renewed, because of the limits on keys.
    KeyRefused,
    /// The configuration of limits was read.
    ConfigRead,
    /// More happened than is written one by one.
    EntriesDropped,
}

impl Action {
    /// Its stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantCreated => "tenant.created",
            Self::TenantUpdated => "tenant.updated",
            Self::TenantSuspended => "tenant.suspended",
            Self::TenantResumed => "tenant.resumed",
            Self::TenantDeleted => "tenant.deleted",
            Self::KeyCreated => "key.created",
            Self::KeyImported => "key.imported",
            Self::KeyUpdated => "key.updated",
            Self::KeyRotated => "key.rotated",
            Self::KeyRenewed => "key.renewed",
            Self::KeyClaimed => "key.claimed",
            Self::KeyRevealed => "key.revealed",
            Self::KeyPaused => "key.paused",
            Self::KeyResumed => "key.resumed",
            Self::KeyRevoked => "key.revoked",
            Self::BlocksCleared => "blocks.cleared",
            Self::LimitsUpdated => "limits.updated",
            Self::LimitsRefused => "limits.refused",
            Self::KeyRefused => "key.refused",
            Self::ConfigRead => "config.read",
            Self::EntriesDropped => "audit.entries_dropped",
        }
    }
}

/// The circumstances of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub actor: Actor,
    /// What.
    pub action: Action,
    /// When.
    pub at: Timestamp,
    /// The key it was done to, if to a key.
    pub key: Option<KeyId>,
    /// In words: what changed, or the reason that was given.
    pub note: String,
}
