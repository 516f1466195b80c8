//! A small world for the tests of this module: one tenant, one key, an in-memory store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use prost::Message;

use crate::authorizer::Authorizer;
use crate::cache::{self, Cache};
use crate::clock::{Clock, SystemClock};
use crate::crypto::keyring::{Keyring, Ring};
use crate::crypto::token::TokenPrefixes;
use crate::domain::change::Actor;
use crate::domain::name::{
    Description, DisplayName, Feature, MetadataName, Owner, PlanName, Scope, TenantId,
};
use crate::domain::plan::Plan;
use crate::domain::role::Role;
use crate::ext_authz::response::Answer;
use crate::ext_authz::{CheckService, Settings};
use crate::registry::{self, NewKey, NewTenant, Registry};
use crate::store::Store;
use crate::store::redb::EmbeddedStore;
use crate::telemetry::metrics::Metrics;

pub(super) struct World {
    service: CheckService,
    pub(super) token: String,
    pub(super) key_id: String,
}

fn features(names: &[&str]) -> BTreeSet<Feature> {
    names
        .iter()
        .map(|name| Feature::parse(name).unwrap())
        .collect()
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let data = Arc::new(Keyring::generate(Ring::Data, clock.now(), &mut rand::rng()));
        let lookup = Arc::new(data.lookup_key().unwrap());
        let registry = Registry::new(
            Arc::clone(&store),
            Arc::clone(&data),
            None,
            Arc::clone(&lookup),
            Arc::clone(&clock),
            registry::Settings::default(),
        );
        let acme = TenantId::parse("acme").unwrap();
        let mut tenant = NewTenant::named(
            acme.clone(),
            DisplayName::parse("Acme & Söhne 100%").unwrap(),
        );
        tenant.plan = Some(PlanName::parse("pro").unwrap());
        tenant.features = features(&["export", "denied"]);
        tenant.denied_features = features(&["denied", "video"]);
        tenant.metadata.insert(
            MetadataName::parse("region").unwrap(),
            Description::parse("eu").unwrap(),
        );
        registry
            .create_tenant(&Actor::Operator, tenant)
            .await
            .unwrap();
        let owner = Owner::parse("alice@example.com").unwrap();
        let mut key = NewKey::named(DisplayName::parse("ci").unwrap(), owner, Role::User);
        key.scopes = ["write", "read"]
            .map(|scope| Scope::parse(scope).unwrap())
            .into();
        let created = registry
            .create_key(&Actor::Operator, &acme, key)
            .await
            .unwrap();
        let plans = BTreeMap::from([(
            PlanName::parse("pro").unwrap(),
            Plan {
                features: features(&["images", "video"]),
                ..Plan::default()
            },
        )]);
        let cache = Cache::new(
            Arc::<dyn Store>::clone(&store),
            data,
            plans,
            cache::Settings::default(),
        );
        let timeout = std::time::Duration::from_secs(1);
        let authorizer = Arc::new(Authorizer::new(
            cache,
            lookup,
            TokenPrefixes::default(),
            clock,
            timeout,
        ));
        Self {
            service: CheckService::new(authorizer, settings, Metrics::new().unwrap()),
            token: created.token.expose().to_owned(),
            key_id: created.key.id.to_string(),
        }
    }

    pub(super) async fn check(
        &self,
        headers: &[(&str, &str)],
        extensions: &[(&str, &str)],
    ) -> Answer {
        let headers = [&[(":method", "GET")], headers].concat();
        self.service
            .check(&message(&headers, extensions), None)
            .await
            .0
    }

    /// As from an Envoy with `allowed_headers`: no pseudo-headers.
    pub(super) async fn check_filtered(&self, headers: &[(&str, &str)]) -> Answer {
        self.service.check(&message(headers, &[]), None).await.0
    }

    pub(super) fn service(&self) -> CheckService {
        self.service.clone()
    }
}

pub(super) fn message(headers: &[(&str, &str)], extensions: &[(&str, &str)]) -> Vec<u8> {
    let owned = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let http = HttpRequest {
        headers: owned(headers),
        method: "GET".into(),
        host: "API.example.com:8443".into(),
        path: "/v1/orders?page=2".into(),
        ..Default::default()
    };
    let attributes = AttributeContext {
        request: Some(Request {
            http: Some(http),
            ..Default::default()
        }),
        context_extensions: owned(extensions),
        ..Default::default()
    };
    CheckRequest {
        attributes: Some(attributes),
    }
    .encode_to_vec()
}
