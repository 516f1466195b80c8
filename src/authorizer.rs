//! One request, one decision: find the credential, prove it, decide. The whole pipeline on one screen.
//!
//! A decision is data. An [`Outage`] means that *we* failed; what is answered then is the protocol's matter.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod explain;
mod guess;
mod limits;
pub mod policy;

use std::sync::Arc;
use std::time::Duration;

use crate::abuse::Blocks;
use crate::abuse::guesses::Guesses;
use crate::cache::{Cache, CachedKey, Found, LoadError};
use crate::clock::{Clock, Timestamp};
use crate::crypto::digest::{LookupKey, TokenDigest};
use crate::crypto::token::{PresentedToken, TokenPrefixes};
use crate::domain::block::Source;
use crate::domain::decision::{Denial, DenyReason, Keyless, Subject};
use crate::domain::limit::{LimitState, Rate};
use crate::domain::name::KeyId;
use crate::domain::request::{AccessRequest, Charge, Credential, Mode, Proven};
use crate::limiter::{Limiter, LimiterDown};

/// Compared with when there is no record, so that an unknown token costs the work of a wrong one.
const NO_RECORD: [u8; 32] = [0; 32];

/// We could not decide.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// The key could not be had.
    #[error("cannot decide")]
    Key(#[from] LoadError),
    /// The limits could not be counted.
    #[error("cannot decide")]
    Limits(#[from] LimiterDown),
}

impl Outage {
    /// Whether the store did not answer. That it has lost its data, or has a record that cannot be used, is no such
    /// outage: whoever can write to the store could bring that about, so no policy may let a request pass for it.
    /// Limits have a policy of their own, which has been asked.
    pub fn is_of_the_store(&self) -> bool {
        match self {
            Self::Key(LoadError::Store(error)) => !error.is_lost(),
            Self::Key(LoadError::Timeout(_)) => true,
            Self::Key(
                LoadError::Damaged(_) | LoadError::Record(_) | LoadError::Rollback { .. },
            )
            | Self::Limits(_) => false,
        }
    }
}

/// What a Check ends in.
#[derive(Debug)]
pub enum Decision {
    Allow(Allowed),
    Deny(Denial),
}

/// That a request passes.
#[derive(Debug)]
pub struct Allowed {
    /// Who passes.
    pub grant: Grant,
    /// What a rule, plan or limit in shadow would have refused it for.
    pub shadow: Option<DenyReason>,
    /// How the limits of the tenant and the key stand, where they were asked.
    pub limits: Vec<LimitState>,
}

/// Who passes.
#[derive(Debug)]
pub enum Grant {
    /// The holder of a key.
    Key(Found),
    /// Nobody that we know.
    Keyless(Keyless),
}

#[derive(Debug)]
pub struct Authorizer {
    cache: Arc<Cache>,
    lookup: Arc<LookupKey>,
    prefixes: TokenPrefixes,
    clock: Arc<dyn Clock>,
    store_timeout: Duration,
    /// Who has failed too often; none where nobody is counted.
    blocks: Option<Arc<Blocks>>,
    /// Who counts against limits; none where nothing is limited.
    limiter: Option<Arc<Limiter>>,
    /// How often strangers may be wrong where nobody is blocked; none where they may always.
    guesses: Option<Guesses>,
    rehearsals: Guesses,
}

impl Authorizer {
    /// An authorizer over a cache; one check waits for the store at most `store_timeout`.
    pub fn new(
        cache: Arc<Cache>,
        lookup: Arc<LookupKey>,
        prefixes: TokenPrefixes,
        clock: Arc<dyn Clock>,
        store_timeout: Duration,
    ) -> Self {
        Self {
            cache,
            lookup,
            prefixes,
            clock,
            store_timeout,
            blocks: None,
            limiter: None,
            guesses: None,
            rehearsals: guess::rehearsals(),
        }
    }

    /// The same, counting who fails and refusing who has failed too often.
    pub fn with_blocks(self, blocks: Arc<Blocks>) -> Self {
        Self {
            blocks: Some(blocks),
            ..self
        }
    }

    /// The same, holding requests against the limits of their tenant and key.
    pub fn with_limiter(self, limiter: Arc<Limiter>) -> Self {
        Self {
            limiter: Some(limiter),
            ..self
        }
    }

    /// The same, with a bound on what strangers may guess of the admin API's keys. Where failures are counted, blocks are
    /// that bound.
    pub fn with_guesses(self, rate: Rate) -> Self {
        Self {
            guesses: Some(Guesses::new(rate)),
            ..self
        }
    }

    /// The words that our tokens begin with.
    pub fn prefixes(&self) -> &TokenPrefixes {
        &self.prefixes
    }

    /// The time, by the clock that decisions use.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time, for what others are told.
    pub fn time_of_day(&self) -> Timestamp {
        self.clock.time_of_day()
    }

    /// The cache behind it.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Decides one request, and counts it against its caller if it has no valid key and is not only looked at.
    pub async fn authorize(&self, request: &AccessRequest<'_>) -> Result<Decision, Outage> {
        let now = self.clock.now();
        let decision = self.decide(request, now).await?;
        if let Decision::Deny(denial) = &decision
            && denial.reason == DenyReason::InvalidApiKey
            // What another hop has proven is no guess.
            && matches!(request.credential, Credential::One(_))
            && request.charge != Charge::Look
            && let Some((blocks, caller)) = self.blocks.as_ref().zip(request.caller)
        {
            blocks.failed(caller, now);
        }
        Ok(decision)
    }

    async fn decide(
        &self,
        request: &AccessRequest<'_>,
        now: Timestamp,
    ) -> Result<Decision, Outage> {
        if let Some(why) = request.ambiguity {
            return Ok(deny(Denial {
                detail: Some(why.to_owned()),
                ..Denial::because(DenyReason::AmbiguousRequest)
            }));
        }
        if request.rule.mode == Mode::Off {
            return Ok(allow_keyless(Keyless::Exempt, request));
        }
        let proven = match request.credential {
            Credential::One(token) => self.prove(token, now, request).await?,
            Credential::None => match self.proven_elsewhere(now, request).await? {
                Some(found) => Ok(found),
                None => return Ok(without_key(request)),
            },
            Credential::Ambiguous => return Ok(deny(ambiguous_credential())),
        };
        let found = match proven {
            Ok(found) => found,
            Err(denial) => return Ok(deny(denial)),
        };
        let free;
        let request = if is_charged_already(&found, request) {
            free = AccessRequest {
                charge: Charge::Nothing,
                ..request.clone()
            };
            &free
        } else {
            request
        };
        match policy::decide(found.tenant.access(), &facts(&found.key), request, now) {
            Ok(shadow) => self.charge(found, shadow, request).await,
            Err(denial) => Ok(deny(Denial {
                subject: subject(&found),
                ..denial
            })),
        }
    }

    /// The key that another hop of ours has proven, as it is now; none if there is no such key any more.
    async fn proven_elsewhere(
        &self,
        now: Timestamp,
        request: &AccessRequest<'_>,
    ) -> Result<Option<Found>, Outage> {
        let Some(proven) = request.proven else {
            return Ok(None);
        };
        let most = self.store_timeout;
        let time_limit = request.time_left.map_or(most, |left| left.min(most));
        let found = self.cache.get(proven.lookup_id, now, time_limit).await?;
        Ok(found.filter(|found| is_of(found, proven)))
    }

    /// The key whose token this is. A malformed token is refused with no I/O, as is a blocked caller; an unknown one
    /// after one look.
    async fn prove(
        &self,
        token: &[u8],
        now: Timestamp,
        request: &AccessRequest<'_>,
    ) -> Result<Result<Found, Denial>, Outage> {
        let token = PresentedToken::parse(token, &self.prefixes).ok();
        let digest = token.map(|token| self.lookup.digest(token.expose()));
        if let Some(denial) = self.blocked(request.caller, digest.as_ref(), now) {
            return Ok(Err(denial));
        }
        let invalid = || Denial::because(DenyReason::InvalidApiKey);
        let Some(digest) = digest else {
            return Ok(Err(invalid()));
        };
        let most = self.store_timeout;
        let time_limit = request.time_left.map_or(most, |left| left.min(most));
        let found = self.cache.get(digest.lookup_id(), now, time_limit).await?;
        Ok(verify(found, &digest).ok_or_else(invalid))
    }

    /// Why a caller is not served, whatever its token: unless that is a key's that is in memory, so that valid keys
    /// behind one address with somebody who guesses keep working.
    fn blocked(
        &self,
        caller: Option<Source>,
        digest: Option<&TokenDigest>,
        now: Timestamp,
    ) -> Option<Denial> {
        let blocks = self.blocks.as_ref()?;
        let wait = blocks.wait(caller?, now)?;
        let is_known = |digest: &TokenDigest| self.cache.knows(digest.lookup_id());
        if blocks.known_keys_pass() && digest.is_some_and(is_known) {
            return None;
        }
        Some(guess::blocked_for(wait))
    }
}

fn verify(found: Option<Found>, digest: &TokenDigest) -> Option<Found> {
    let recorded = found
        .as_ref()
        .map_or(&NO_RECORD, |found| found.key.digest());
    let matches = digest.matches(recorded);
    found.filter(|_| matches)
}

fn is_of(found: &Found, proven: &Proven) -> bool {
    found.key.tenant().as_str() == proven.tenant && found.key.key() == proven.key
}

/// Whether another hop has charged this request for this very key.
fn is_charged_already(found: &Found, request: &AccessRequest<'_>) -> bool {
    let is_first = |proven: &&Proven| proven.first_use && is_of(found, proven);
    request.charge == Charge::Cost && request.proven.as_ref().is_some_and(is_first)
}

fn without_key(request: &AccessRequest<'_>) -> Decision {
    if request.rule.takes_anonymous() {
        allow_keyless(Keyless::Anonymous, request)
    } else {
        deny(Denial::because(DenyReason::MissingApiKey))
    }
}

fn allow_keyless(keyless: Keyless, request: &AccessRequest<'_>) -> Decision {
    Decision::Allow(Allowed {
        grant: Grant::Keyless(keyless),
        shadow: policy::missed_in_shadow(request),
        limits: Vec::new(),
    })
}

fn ambiguous_credential() -> Denial {
    let detail = "the request carries more than one API key".to_owned();
    Denial {
        detail: Some(detail),
        ..Denial::because(DenyReason::AmbiguousRequest)
    }
}

fn facts(key: &CachedKey) -> policy::KeyFacts<'_> {
    policy::KeyFacts {
        revoked: key.is_revoked(),
        expires_at: key.expires_at(),
        paused: key.paused(),
        networks: key.networks(),
        features: key.features(),
        scopes: key.scopes(),
    }
}

fn subject(found: &Found) -> Option<Subject> {
    let key = KeyId::parse(found.key.key()).ok()?;
    let tenant = found.tenant.access();
    Some(Subject {
        tenant: tenant.id.clone(),
        key,
        plan: tenant.plan.clone(),
    })
}

fn deny(denial: Denial) -> Decision {
    Decision::Deny(denial)
}
