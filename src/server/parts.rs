//! What both `serve` and the commands that work on the store themselves are made of.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::abuse::Blocks;
use crate::authorizer::Authorizer;
use crate::cache::Cache;
use crate::clock::{Clock, SteadyClock, SystemClock};
use crate::config::{
    self, Authz, Config, OnOutage, PathVariants, Route, SecretRetention, StorePlace,
};
use crate::crypto::keyring::{Keyring, Ring};
use crate::crypto::token::TokenPrefixes;
use crate::domain::plan::{Plan, Plans, Rotation};
use crate::ext_authz::reserved::ReservedHeaders;
use crate::ext_authz::routes::{RouteRule, RouteSettings};
use crate::ext_authz::signed::SignedContext;
use crate::ext_authz::{self, CheckService};
use crate::keyfile::{self, KeyfileError};
use crate::limiter::Limiter;
use crate::registry::{self, Registry};
use crate::server::health::Health;
use crate::server::hop::Hop;
use crate::server::redis::{Running, is_away};
use crate::server::signing::SigningKeys;
use crate::server::{abuse, cache, damage, fleet, limits};
use crate::store::redb::{EmbeddedStore, Facts};
use crate::store::redis::{Access, Settings};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// The opened store and keyrings and what stands directly on them.
#[derive(Debug)]
pub struct Parts {
    /// The store, checked against the keyring.
    pub store: Arc<dyn Store>,
    /// The `data` keyring.
    pub data: Arc<Keyring>,
    /// Makes, reads and changes tenants and keys.
    pub registry: Registry,
    /// Decides requests.
    pub authorizer: Arc<Authorizer>,
    cache: Arc<Cache>,
    blocks: Arc<Blocks>,
    limiter: Arc<Limiter>,
    page_token_key: [u8; 32],
    redis: Option<Redis>,
}

/// What there is beside the store when it is on Redis.
#[derive(Debug)]
struct Redis {
    running: Running,
    /// To compare with what the store keeps; none where that may not be read.
    vault: Option<Arc<Keyring>>,
}

/// The keyrings that the configuration names.
struct Keyrings {
    data: Arc<Keyring>,
    vault: Option<Arc<Keyring>>,
}

impl Keyrings {
    fn load(config: &Config) -> Result<Self, KeyfileError> {
        let data = Arc::new(keyfile::load(config.keyring.data(), Ring::Data)?);
        let vault = match &config.keyring.vault {
            Some(source) if config.tokens.secret_retention == SecretRetention::Sealed => {
                Some(Arc::new(keyfile::load(source, Ring::Vault)?))
            }
            Some(_) | None => None,
        };
        Ok(Self { data, vault })
    }
}

impl Parts {
    /// Opens what the configuration names, to write. Writes nothing itself but a new store's first facts.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let keyrings = Keyrings::load(config)?;
        match config.store.place() {
            StorePlace::Embedded { path } => Self::open_embedded(config, &path, keyrings).await,
            StorePlace::Redis(redis) => {
                let (parts, connected) =
                    Self::start_redis(config, &redis, keyrings, Access::Write).await?;
                connected
                    .with_context(|| format!("cannot use the Redis store {}", redis.location()))?;
                parts.check().await?;
                Ok(parts)
            }
        }
    }

    /// The same for a server, which writes when it has `admin`, and for which Redis may be away: see
    /// [`Self::usable`].
    pub async fn open_to_serve(config: &Config) -> anyhow::Result<Self> {
        let StorePlace::Redis(redis) = config.store.place() else {
            return Self::open(config).await;
        };
        let access = match config.admin {
            Some(_) => Access::Write,
            None => Access::Read,
        };
        let keyrings = Keyrings::load(config)?;
        let (parts, connected) = Self::start_redis(config, &redis, keyrings, access).await?;
        if connected.is_ok() {
            match parts.check().await {
                Err(error) if is_away(&error) => {}
                checked => checked?,
            }
        }
        Ok(parts)
    }

    async fn open_embedded(
        config: &Config,
        path: &Path,
        Keyrings { data, vault }: Keyrings,
    ) -> anyhow::Result<Self> {
        let store = EmbeddedStore::open_if(path, |facts| -> anyhow::Result<()> {
            check_keyrings(&path.display().to_string(), facts, &data, vault.as_deref())?;
            Ok(())
        })?;
        let store: Arc<dyn Store> = Arc::new(store);
        Self::assemble(config, store, data, vault).await
    }

    /// With the store's work begun, and how the first attempt to connect went.
    async fn start_redis(
        config: &Config,
        redis: &Settings,
        Keyrings { data, vault }: Keyrings,
        access: Access,
    ) -> anyhow::Result<(Self, Result<(), StoreError>)> {
        let (running, connected) = Running::start(redis, access, &data).await;
        let store = Arc::clone(&running.store) as Arc<dyn Store>;
        let mut parts = Self::build(config, store, data, vault.clone())?;
        let vault = vault.filter(|_| access == Access::Write);
        parts.redis = Some(Redis { running, vault });
        Ok((parts, connected))
    }

    /// Whether the keyrings are those of the store.
    async fn check(&self) -> anyhow::Result<()> {
        if let Some(Redis { running, vault }) = &self.redis {
            return running.check(&self.data, vault.as_deref()).await;
        }
        let remembered = self.store.keyring_id(self.data.id()).await?;
        keyfile::check_belongs(&self.store.info().location, &remembered, &self.data)?;
        Ok(())
    }

    /// Waits until the store can be used. An error is one that waiting does not mend.
    pub(super) async fn usable(&self) -> anyhow::Result<()> {
        match &self.redis {
            Some(Redis { running, vault }) => running.usable(&self.data, vault.as_deref()).await,
            None => self.store.ping().await.context("the store is not usable"),
        }
    }

    /// Keeps the process not ready while the store is without its data.
    pub(super) async fn follow_problem(&self, health: Arc<Health>) {
        match &self.redis {
            Some(Redis { running, .. }) => running.follow_problem(health).await,
            None => std::future::pending().await,
        }
    }

    /// Ends only when the store has stopped by itself, which it never should.
    pub(super) async fn store_ended(&self) {
        match &self.redis {
            Some(Redis { running, .. }) => running.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Lets control planes see this process, if it checks requests from a shared store, and wait for it. Once, when
    /// the store can be used.
    pub(super) fn join_fleet(&self, config: &Config) {
        if let Some(Redis { running, .. }) = &self.redis {
            fleet::join(config, &running.store, &self.cache);
        }
    }

    /// Says goodbye to the fleet; a store that does not answer holds nothing up.
    pub(super) async fn leave_fleet(&self) {
        if let Some(Redis { running, .. }) = &self.redis {
            let left = tokio::time::timeout(GOODBYE_TIMEOUT, running.store.leave_fleet());
            left.await.ok();
        }
    }

    /// Shows how the store is.
    pub(super) fn observe_store(&self, metrics: &Metrics) {
        damage::observe(metrics, &self.store);
        if let Some(Redis { running, .. }) = &self.redis {
            running.observe(metrics);
        }
    }

    /// Puts the parts together over a store that is open.
    pub async fn assemble(
        config: &Config,
        store: Arc<dyn Store>,
        data: Arc<Keyring>,
        vault: Option<Arc<Keyring>>,
    ) -> anyhow::Result<Self> {
        let parts = Self::build(config, store, data, vault)?;
        parts.check().await?;
        Ok(parts)
    }

    fn build(
        config: &Config,
        store: Arc<dyn Store>,
        data: Arc<Keyring>,
        vault: Option<Arc<Keyring>>,
    ) -> anyhow::Result<Self> {
        let lookup = Arc::new(
            data.lookup_key()
                .context("the data keyring has no lookup key")?,
        );
        let page_tokens = lookup.digest("keystile/v1/page-tokens");
        let prefixes = TokenPrefixes {
            live: config.tokens.live_prefix.to_string(),
            test: config.tokens.test_prefix.to_string(),
        };
        let registry = Registry::new(
            Arc::clone(&store),
            Arc::clone(&data),
            vault,
            Arc::clone(&lookup),
            Arc::new(SystemClock),
            registry::Settings {
                prefixes: prefixes.clone(),
            },
        );
        let plans = plans(config);
        registry.set_plans(plans.clone());
        registry.set_key_rules(config.key_rules());
        // What decides; the registry writes down when something was done, by the time of day.
        let clock: Arc<dyn Clock> = Arc::new(SteadyClock);
        let cache = Cache::new(
            Arc::<dyn Store>::clone(&store),
            Arc::clone(&data),
            plans,
            cache::settings(config),
        );
        let limiter = Limiter::new(
            Arc::<dyn Store>::clone(&store),
            Arc::clone(&clock),
            limits::settings(config),
        );
        let blocks = Blocks::new(abuse::settings(config), Arc::<dyn Store>::clone(&store));
        let timeout = store_timeout(config);
        let authorizer = Authorizer::new(Arc::clone(&cache), lookup, prefixes, clock, timeout);
        let authorizer = with_protection(authorizer, config, &limiter, &blocks);
        let page_token_key = *page_tokens.as_bytes();
        Ok(Self {
            store,
            data,
            registry,
            authorizer: Arc::new(authorizer),
            cache,
            blocks,
            limiter,
            page_token_key,
            redis: None,
        })
    }

    /// Under which page tokens are authenticated: the same for every control plane with this keyring.
    pub fn page_token_key(&self) -> [u8; 32] {
        self.page_token_key
    }

    /// What a new configuration changes without a restart.
    pub(super) fn live(&self, check: Option<CheckService>) -> Live {
        Live {
            check,
            registry: self.registry.clone(),
            cache: Arc::clone(&self.cache),
            blocks: Arc::clone(&self.blocks),
            limiter: Arc::clone(&self.limiter),
        }
    }

    /// Who counts against limits.
    pub(super) fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    /// Lets others have what this process was lent of their budgets; a store that does not answer holds nothing up.
    pub(super) async fn give_back_limits(&self) {
        let given = tokio::time::timeout(GOODBYE_TIMEOUT, self.limiter.give_back());
        given.await.ok();
    }

    /// Who has failed too often.
    pub(super) fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// The `Check` service, counted in `metrics`.
    pub(super) fn check_service(
        &self,
        config: &Config,
        metrics: &Arc<Metrics>,
        signing: Option<&SigningKeys>,
        hop: Option<&Hop>,
    ) -> CheckService {
        cache::observe(metrics, &self.cache);
        CheckService::new(
            Arc::clone(&self.authorizer),
            ext_authz_settings(config, signing, hop),
            Arc::clone(metrics),
        )
    }
}

/// What can be changed while it works.
#[derive(Debug)]
pub(super) struct Live {
    check: Option<CheckService>,
    registry: Registry,
    cache: Arc<Cache>,
    blocks: Arc<Blocks>,
    limiter: Arc<Limiter>,
}

impl Live {
    /// Puts a configuration to work, as far as it can change without a restart.
    pub(super) fn apply(&self, config: &Config) {
        let plans = plans(config);
        self.registry.set_plans(plans.clone());
        self.registry.set_key_rules(config.key_rules());
        self.cache.set_plans(plans);
        self.limiter.configure(limits::settings(config));
        if let Some((check, authz)) = self.check.as_ref().zip(config.authz.as_ref()) {
            check.set_routes(route_settings(authz));
        }
        if config.abuse.is_some() {
            self.blocks.set(abuse::settings(config));
        }
    }
}

/// Longest wait for each word of goodbye to the store.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long authenticating on a control plane without `authz` waits for the store.
const DEFAULT_STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the keyrings belong to a store; asked before anything is written to it.
pub(super) fn check_keyrings(
    location: &str,
    facts: &Facts,
    data: &Keyring,
    vault: Option<&Keyring>,
) -> Result<(), KeyfileError> {
    if let Some(remembered) = &facts.keyring_id {
        keyfile::check_belongs(location, remembered, data)?;
    }
    // The store does not remember the vault keyring, but what that has wrapped shows whether it is the one.
    let wrapped = facts.tenants.iter().find(|row| !row.vault_dek.is_empty());
    if let (Some(vault), Some(row)) = (vault, wrapped) {
        vault
            .unwrap(row.id.as_str(), &row.vault_dek)
            .map_err(|source| KeyfileError::ForeignVault {
                location: location.to_owned(),
                source,
            })?;
    }
    Ok(())
}

/// How long authenticating waits for the store.
fn store_timeout(config: &Config) -> Duration {
    let authz = config.authz.as_ref();
    authz.map_or(DEFAULT_STORE_TIMEOUT, |authz| authz.store_timeout.0)
}

/// Limits always; blocks and the rate of guesses where the configuration has them.
fn with_protection(
    authorizer: Authorizer,
    config: &Config,
    limiter: &Arc<Limiter>,
    blocks: &Arc<Blocks>,
) -> Authorizer {
    let mut authorizer = authorizer.with_limiter(Arc::clone(limiter));
    if config.abuse.is_some() {
        authorizer = authorizer.with_blocks(Arc::clone(blocks));
    }
    if let Some(admin) = &config.admin {
        authorizer = authorizer.with_guesses(admin.guesses);
    }
    authorizer
}

fn plans(config: &Config) -> Plans {
    let plan = |plan: &config::Plan| Plan {
        features: plan.features.iter().cloned().collect(),
        limits: plan.limits(),
        shadow: plan.shadow,
        rotation: plan.rotation.as_ref().map(|rotation| Rotation {
            every: rotation.every.0,
            grace: rotation.grace.0,
        }),
    };
    let plans = config.plans.iter();
    plans
        .map(|(name, section)| (name.clone(), plan(section)))
        .collect()
}

fn ext_authz_settings(
    config: &Config,
    signing: Option<&SigningKeys>,
    hop: Option<&Hop>,
) -> ext_authz::Settings {
    let defer_on_outage = config.failure_policy.store_outage == OnOutage::Defer;
    let Some(authz) = &config.authz else {
        return ext_authz::Settings {
            defer_on_outage,
            ..ext_authz::Settings::default()
        };
    };
    ext_authz::Settings {
        credentials: authz.credentials.clone(),
        forward_key: authz.forward_key,
        headers: ReservedHeaders::new(&authz.tenant_header_prefix, &authz.key_header_prefix),
        max_message_bytes: authz.max_message_bytes.0,
        defer_on_outage,
        trusted_hops: config.abuse.as_ref().map_or(0, |abuse| abuse.trusted_hops),
        nat64_prefixes: abuse::nat64_prefixes(config),
        routes: route_settings(authz),
        signed_context: authz
            .signed_context
            .as_ref()
            .zip(signing)
            .map(signed_context),
        trusted_hop: hop.map(|hop| Arc::clone(&hop.trusted)),
    }
}

fn route_settings(authz: &Authz) -> RouteSettings {
    RouteSettings {
        rules: authz.routes.iter().map(route_rule).collect(),
        method_override: authz.method_override,
        path_override: authz.path_override,
        refuse_variants: authz.path_variants == PathVariants::Refuse,
    }
}

fn route_rule(section: &Route) -> RouteRule {
    fn joined(names: &[impl ToString]) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.join(",")
    }
    RouteRule {
        pattern: section.pattern(),
        mode: section.mode,
        features: joined(&section.features),
        scopes: joined(&section.scopes),
        cost: section.cost,
        shadow: section.shadow,
    }
}

fn signed_context((section, signing): (&config::SignedContext, &SigningKeys)) -> SignedContext {
    SignedContext {
        keys: signing.keys(),
        issuer: section.issuer.to_string(),
        audience: section.audience.iter().map(ToString::to_string).collect(),
        ttl: section.ttl.0,
        key_ref: section.key_ref,
    }
}
