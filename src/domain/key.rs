//! A key: a named credential of a tenant, with one secret a generation.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Timestamp;
use crate::domain::change::Actor;
use crate::domain::decision::is_past;
use crate::domain::limit::Limits;
use crate::domain::name::{Description, DisplayName, Feature, KeyId, Owner, Scope, TenantId};
use crate::domain::pause::Pause;
use crate::domain::plan::Rotation;
use crate::domain::role::{AdminAccess, Role};
use crate::domain::version::Version;

/// The most scopes a key may have.
pub const SCOPES_MAX: usize = 64;
/// The most networks in a key's allow-list.
pub const NETWORKS_MAX: usize = 64;
/// The longest grace window of a rotation.
pub const GRACE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many generations before the current one a key remembers: their tokens are answered as expired, not as unknown.
const PAST_GENERATIONS_MAX: usize = 8;
/// How many lookup ids of generations before those it remembers, so that a copy of the store refuses their tokens too:
/// 16 KB at most.
const FORGOTTEN_MAX: usize = 1024;
/// How long it remembers one that has ended.
const PAST_GENERATION_KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How a record is found without storing the token: the first 16 bytes of its HMAC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub [u8; 16]);

impl LookupId {
    /// Of the text that it is shown as, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut id = [0; 16];
        let is_hex = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
        for (at, byte) in id.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).filter(|_| is_hex)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for LookupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LookupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookupId({self})")
    }
}

/// Whether a key's token is for production or for trying out; it shows in the token's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `ks_live_…`
    Live,
    /// `ks_test_…`
    Test,
    /// A token that another system made.
    Imported,
}

/// Whether a key works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// It works until it expires.
    Active,
    /// It never works again.
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why, in the words of who revoked it; may be empty.
        reason: Description,
    },
}

/// How the token of a generation comes to the key's holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Who made it was given it.
    Handed,
    /// It was made by schedule and waits for the holder of the one before, while that works.
    Waiting,
    /// It waited and was given out.
    Claimed,
}

/// Why a token is not given to the holder of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoClaim {
    /// None waits for it.
    #[error("no token waits for the holder of this one")]
    Nothing,
    /// It was given out before.
    #[error("the token was claimed before")]
    Claimed,
}

/// One secret of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// 1 for the first, one more at each rotation.
    pub number: u32,
    /// Where its index record is.
    pub lookup_id: LookupId,
    /// The whole HMAC of the token, from which the index record is made again.
    pub digest: [u8; 32],
    /// The token's first characters, enough to recognise it and too few to guess it, for example `ks_live_9fK2`.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The end of its grace window, when a newer generation has taken over.
    pub retires_at: Option<Timestamp>,
    /// The token itself, sealed so that only the vault keyring opens it; none when retention is off.
    pub sealed_token: Option<Vec<u8>>,
    /// How it comes to the key's holder.
    pub delivery: Delivery,
}

/// What operators know of a key. The source of truth; index records are derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The identifier; survives rotation.
    pub id: KeyId,
    /// For people.
    pub display_name: DisplayName,
    /// For people; may be empty.
    pub description: Description,
    /// The user it belongs to.
    pub owner: Owner,
    /// What its holder may do on the admin API.
    pub role: Role,
    /// Whether it opens the admin API at all.
    pub admin_access: AdminAccess,
    /// Live, test or imported.
    pub kind: KeyKind,
    /// Whether it works.
    pub status: KeyStatus,
    /// That it does not work for a while; a key that is revoked has none, or one that says nothing any more.
    pub pause: Option<Box<Pause>>,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// If set, only these of the tenant's features: narrows, never widens.
    pub features: Option<BTreeSet<Feature>>,
    /// If not empty, the only networks it may be used from.
    pub networks: Vec<IpNet>,
    /// Limits of its own, beside its tenant's: narrow, never widen.
    pub limits: Limits,
    /// The key whose budgets its requests are charged to; none: its own. A key that spends from limits which another one
    /// was given has no budget of its own: or making keys would make requests.
    pub budget: Option<KeyId>,
    /// Who made it; none in records of before it was kept.
    pub created_by: Option<Actor>,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
    /// The newest last; never empty.
    pub generations: Vec<Generation>,
    /// Where generations are found that it remembers nothing else of: their tokens never become those of a key again.
    pub forgotten: Vec<LookupId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The change that it comes from; the etag is made of it.
    pub version: Version,
}

impl Key {
    /// Whether it counts against its owner's limit: not revoked. An expired or a paused key still counts, since it can be
    /// renewed or resumed.
    pub fn is_live(&self) -> bool {
        matches!(self.status, KeyStatus::Active)
    }

    /// Whether it never works again.
    pub fn is_revoked(&self) -> bool {
        matches!(self.status, KeyStatus::Revoked { .. })
    }

    /// Whether it is paused now.
    pub fn is_paused(&self, now: Timestamp) -> bool {
        (self.pause.as_ref()).is_some_and(|pause| pause.end.holds(now))
    }

    /// The generation in use.
    ///
    /// A key without a generation cannot be made: `registry` and `store::codec` refuse it.
    pub fn current(&self) -> Option<&Generation> {
        self.generations.last()
    }

    /// The generation before the current one, while its grace lasts.
    pub fn retiring(&self, now: Timestamp) -> Option<&Generation> {
        let before = self.generations.iter().rev().nth(1)?;
        before
            .retires_at
            .is_some_and(|end| end > now)
            .then_some(before)
    }

    /// Whether a schedule replaces the token now. Not of a key that does not work, nor while the token before still
    /// works; not where nobody could claim the next one, since a key that is bound to networks, or has no access, is
    /// refused there; and never of a global admin: who could let everybody in again is not shut out by a clock.
    pub fn is_due(&self, schedule: &Rotation, now: Timestamp) -> bool {
        let old_enough = self
            .current()
            .is_some_and(|current| current.created_at.plus(schedule.every) <= now);
        old_enough
            && self.is_live()
            && !is_past(self.expires_at, now)
            && !self.is_paused(now)
            && self.retiring(now).is_none()
            && self.can_claim()
            && self.role != Role::GlobalAdmin
    }

    /// The key that its limits are counted at.
    pub fn charged(&self) -> &KeyId {
        self.budget.as_ref().unwrap_or(&self.id)
    }

    /// The key of the same tenant that made it, if one did.
    pub fn maker(&self) -> Option<&KeyId> {
        match &self.created_by {
            Some(Actor::Key { tenant, key }) if *tenant == self.tenant => Some(key),
            _ => None,
        }
    }

    /// Whether its holder can call the admin API at all, to claim its next token there.
    pub fn can_claim(&self) -> bool {
        self.networks.is_empty() && self.admin_access != AdminAccess::None
    }

    /// Gives the current token to the holder of generation `holder`; answers which it is.
    pub fn claim(&mut self, holder: u32, now: Timestamp) -> Result<u32, NoClaim> {
        let is_next = self.retiring(now).is_some_and(|old| old.number == holder);
        let current = self.generations.last_mut().filter(|_| is_next);
        let current = current.ok_or(NoClaim::Nothing)?;
        match current.delivery {
            Delivery::Handed => Err(NoClaim::Nothing),
            Delivery::Claimed => Err(NoClaim::Claimed),
            Delivery::Waiting => {
                current.delivery = Delivery::Claimed;
                Ok(current.number)
            }
        }
    }

    /// Makes `next` the current generation. The one that was works on for `grace`, never past the key's expiry; one
    /// that was retiring before ends now. No kept token but that of `next` stays. What ended long ago is forgotten.
    pub fn rotate(&mut self, next: Generation, grace: Duration) {
        let now = next.created_at;
        let forget_until = now.minus(PAST_GENERATION_KEPT);
        let was_current = self.generations.last().map(|last| last.number);
        for past in &mut self.generations {
            let end = match Some(past.number) == was_current {
                true => now.plus(grace),
                false => now,
            };
            past.retires_at = [Some(end), past.retires_at, self.expires_at]
                .into_iter()
                .flatten()
                .min();
            past.sealed_token = None;
        }
        let too_many = self.generations.len().saturating_sub(PAST_GENERATIONS_MAX);
        let mut place = 0;
        let gone = self.generations.extract_if(.., |past| {
            place += 1;
            place <= too_many || past.retires_at.is_some_and(|end| end <= forget_until)
        });
        self.forgotten.extend(gone.map(|past| past.lookup_id));
        let too_many = self.forgotten.len().saturating_sub(FORGOTTEN_MAX);
        self.forgotten.drain(..too_many);
        self.generations.push(next);
    }
}

#[cfg(test)]
mod tests;
