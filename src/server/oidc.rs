//! JWTs in a running process: whose are accepted, by the issuer's keys as they are now.

mod fetch;
mod keys;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock as _, SteadyClock};
use crate::config::{self, Config};
use crate::domain::name::Issuer;
use crate::oidc::{ClaimPath, Holder, KeySet, Mapping, Refusal, Settings, Verifier};
use crate::server::signal;
use crate::telemetry::metrics::Metrics;
pub(super) use keys::{Keys, mistakes};

/// Whose JWTs are accepted.
pub(super) struct Oidc {
    verifier: Verifier,
    keys: Arc<Keys>,
    counts: Counts,
}

/// Why nobody was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotFound {
    /// It is not acceptable.
    Refused(Refusal),
    /// There are no keys to check it with, or they are too old.
    NoKeys,
}

/// How many tokens there were, by what came of them.
#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    no_keys: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Oidc {
    /// Reads what the configuration names, before anything is bound. An issuer that has to be asked is asked later: it
    /// may be away, and keys of ours work without it.
    pub(super) fn load(config: &Config) -> anyhow::Result<Option<Arc<Self>>> {
        let section = config.admin.as_ref().and_then(|admin| admin.oidc.as_ref());
        let Some(section) = section else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            verifier: Verifier::new(settings(section)?),
            keys: Arc::new(Keys::open(&section.jwks)?),
            counts: Counts::default(),
        })))
    }

    /// Follows the key set until `stop`.
    pub(super) fn start(
        &self,
        metrics: &Metrics,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        self.keys
            .observe(metrics, "keystile_jwks_reads", "keystile_jwks_age_seconds");
        let following = Arc::clone(&self.keys).follow(signal::hangups()?, stop.clone());
        tasks.spawn(following);
        Ok(())
    }

    /// Shows what came of tokens.
    pub(super) fn observe(self: &Arc<Self>, metrics: &Metrics) {
        let this = Arc::clone(self);
        metrics.counters(
            "keystile_jwts",
            "JWTs on the admin API, by what came of them.",
            move || {
                let counts = &this.counts;
                let row = |outcome, count: &AtomicU64| {
                    let label = KeyValue::new("outcome", outcome);
                    (vec![label], count.load(Ordering::Relaxed))
                };
                let refused = Refusal::ALL.iter().zip(&counts.refused);
                let refused = refused.map(|(refusal, count)| row(refusal.as_str(), count));
                let others = [
                    row("accepted", &counts.accepted),
                    row("no_keys", &counts.no_keys),
                ];
                refused.chain(others).collect()
            },
        );
    }

    /// Whom the tokens are of.
    pub(super) fn issuer(&self) -> &Issuer {
        self.verifier.issuer()
    }

    /// Who holds the token.
    pub(super) async fn holder(&self, token: &[u8]) -> Result<Holder, NotFound> {
        let found = self.find(token).await;
        let count = match &found {
            Ok(_) => Some(&self.counts.accepted),
            Err(NotFound::NoKeys) => Some(&self.counts.no_keys),
            Err(NotFound::Refused(refusal)) => {
                tracing::debug!(reason = refusal.as_str(), "a JWT was refused");
                let at = Refusal::ALL.iter().position(|known| known == refusal);
                at.and_then(|at| self.counts.refused.get(at))
            }
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    async fn find(&self, token: &[u8]) -> Result<Holder, NotFound> {
        let keys = self.keys.current(Instant::now());
        match keys.map(|keys| self.verify(token, &keys)) {
            None | Some(Err(Refusal::UnknownKey)) => {}
            Some(found) => return found.map_err(NotFound::Refused),
        }
        // The issuer may have new keys, or be back.
        self.keys.read_again().await;
        let keys = self.keys.current(Instant::now());
        let keys = keys.ok_or(NotFound::NoKeys)?;
        self.verify(token, &keys).map_err(NotFound::Refused)
    }

    fn verify(&self, token: &[u8], keys: &KeySet) -> Result<Holder, Refusal> {
        self.verifier.verify(token, keys, SteadyClock.now())
    }
}

fn settings(section: &config::Oidc) -> anyhow::Result<Settings> {
    let algorithms = section.algorithms.iter();
    // Debug prints a variant's name, and those are the names of RFC 7518.
    let algorithms = algorithms.map(|algorithm| format!("{algorithm:?}").parse());
    let roles = section.roles.iter();
    let tenants = section.tenants.as_ref().map(|all| {
        let all = all.iter();
        all.map(|entry| (entry.value.to_string(), entry.tenant.clone()))
            .collect()
    });
    let claims = &section.claims;
    Ok(Settings {
        issuer: Issuer::parse(&section.issuer)?,
        audience: section.audience.iter().map(ToString::to_string).collect(),
        algorithms: algorithms.collect::<Result<_, _>>()?,
        leeway: section.leeway.0,
        mapping: Mapping {
            role: ClaimPath::parse(&claims.role),
            tenant: ClaimPath::parse(&claims.tenant),
            owner: ClaimPath::parse(&claims.owner),
            scopes: claims.scopes.as_deref().map(ClaimPath::parse),
            roles: roles
                .map(|entry| (entry.value.to_string(), entry.role))
                .collect(),
            tenants,
        },
    })
}
