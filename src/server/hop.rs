//! The public keys of the hop before: our own signing keyring, or the key set that the first hop publishes.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Timestamp;
use crate::config::{self, Config, HopListeners};
use crate::crypto::signing::ContextKeys;
use crate::ext_authz::hop::{HopSettings, PublicKeys, TrustedHop};
use crate::server::oidc::Keys;
use crate::server::signal;
use crate::server::signing::SigningKeys;
use crate::telemetry::metrics::Metrics;

/// Whose contexts are believed, and where their keys come from.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) trusted: Arc<TrustedHop>,
    /// To be followed; none for our own.
    keys: Option<Published>,
}

impl Hop {
    /// Reads what the configuration names, before anything is bound. A first hop that has to be asked is asked later.
    pub(super) fn load(
        config: &Config,
        signing: Option<&SigningKeys>,
    ) -> anyhow::Result<Option<Self>> {
        let section = config
            .authz
            .as_ref()
            .and_then(|authz| authz.trusted_hop.as_ref());
        let Some(section) = section else {
            return Ok(None);
        };
        let keys = section.jwks.as_ref().map(open).transpose()?;
        let public: Box<dyn PublicKeys> = match (&keys, signing) {
            (Some(keys), _) => Box::new(keys.clone()),
            (None, Some(signing)) => Box::new(Own(signing.keys())),
            (None, None) => {
                anyhow::bail!("authz.trusted_hop has no keys: write `jwks`, or `keyring.signing`")
            }
        };
        let trusted = Arc::new(TrustedHop::new(public, settings(section)));
        Ok(Some(Self { trusted, keys }))
    }

    /// Follows the key set until `stop`.
    pub(super) fn start(
        &self,
        metrics: &Metrics,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        self.trusted.observe(metrics);
        if let Some(Published(keys)) = &self.keys {
            keys.observe(
                metrics,
                "keystile_trusted_hop_jwks_reads",
                "keystile_trusted_hop_jwks_age_seconds",
            );
            tasks.spawn(Arc::clone(keys).follow(signal::hangups()?, stop.clone()));
        }
        Ok(())
    }
}

fn open(config: &config::Jwks) -> anyhow::Result<Published> {
    Ok(Published(Arc::new(Keys::open(config)?)))
}

fn settings(section: &config::TrustedHop) -> HopSettings {
    HopSettings {
        all_listeners: section.listeners == HopListeners::All,
        issuer: section.issuer.to_string(),
        audience: section.audience.iter().map(ToString::to_string).collect(),
        max_age: section.max_age.0,
    }
}

/// The first hop signs with a keyring that this process has.
#[derive(Debug)]
struct Own(Arc<ArcSwap<ContextKeys>>);

impl PublicKeys for Own {
    fn verify(&self, kid: &str, message: &[u8], signature: &[u8], now: Timestamp) -> Option<bool> {
        self.0.load().verify(kid, message, signature, now)
    }
}

/// The first hop publishes its keys.
#[derive(Clone)]
struct Published(Arc<Keys>);

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Published")
    }
}

impl PublicKeys for Published {
    fn verify(&self, kid: &str, message: &[u8], signature: &[u8], _: Timestamp) -> Option<bool> {
        let known = self.0.current(Instant::now());
        let verified = known.and_then(|keys| keys.verify_ed25519(kid, message, signature));
        if verified.is_none() {
            // It may be a new one. This request does not wait for it.
            self.0.ask_soon();
        }
        verified
    }
}
