//! The real admin services on a loopback port, over a store in memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use keystile::admin;
use keystile::admin::caller::{AuthFailure, AuthFuture, Authenticate, Credential, Identity};
use keystile::clock::{Clock, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::change::Actor;
use keystile::domain::name::{DisplayName, KeyId, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use keystile::registry::{NewKey, NewTenant, Registry, Settings};
use keystile::store::redb::EmbeddedStore;
use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Who holds which token. Looking tokens up for real is the authorizer's, and tested there.
#[derive(Default)]
pub(crate) struct Callers(Mutex<HashMap<Vec<u8>, Result<Identity, AuthFailure>>>);

impl Authenticate for Callers {
    fn authenticate<'a>(&'a self, token: &'a [u8]) -> AuthFuture<'a> {
        let found = self.0.lock().get(token).cloned();
        Box::pin(async move { found.unwrap_or(Err(AuthFailure::Refused)) })
    }
}

pub(crate) struct AdminServer {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    callers: Arc<Callers>,
    channel: Channel,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Authorized = InterceptedService<Channel, AsCaller>;

/// Adds a token to each call.
#[derive(Clone)]
pub(crate) struct AsCaller(MetadataValue<Ascii>);

impl tonic::service::Interceptor for AsCaller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("x-api-key", self.0.clone());
        Ok(request)
    }
}

impl AdminServer {
    pub(crate) async fn start() -> Self {
        let registry = registry();
        let callers = Arc::new(Callers::default());
        let auth = Arc::clone(&callers) as Arc<dyn Authenticate>;
        let routes = admin::routes(registry.clone(), auth, Arc::new(SystemClock), &[7; 32]);
        let router = admin::router(routes);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    // A client that goes away is no failure of the test.
                    connection.await.ok();
                });
            }
        });
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Self {
            address,
            registry,
            callers,
            channel,
            serving,
        }
    }

    /// A tenant, and a key of each role in it whose tokens are `<tenant>-<role>`.
    pub(crate) async fn with_tenant(self, tenant: &str) -> Self {
        let id = TenantId::parse(tenant).unwrap();
        let new = NewTenant::named(id.clone(), DisplayName::parse(tenant).unwrap());
        self.registry
            .create_tenant(&Actor::Operator, new)
            .await
            .unwrap();
        for role in Role::ALL {
            let owner = Owner::parse(&format!("{}-owner", role.as_str())).unwrap();
            let name = DisplayName::parse(role.as_str()).unwrap();
            let new = NewKey::named(name, owner, role);
            let made = self.registry.create_key(&Actor::Operator, &id, new).await;
            let key = made.unwrap().key;
            let token = format!("{tenant}-{}", role.as_str());
            self.recognise(&token, Ok(caller(tenant, key.id, key.owner, role)));
        }
        self
    }

    pub(crate) fn recognise(&self, token: &str, who: Result<Identity, AuthFailure>) {
        self.callers.0.lock().insert(token.into(), who);
    }

    pub(crate) fn tenants(&self, token: &str) -> TenantServiceClient<Authorized> {
        TenantServiceClient::with_interceptor(self.channel.clone(), as_caller(token))
    }

    pub(crate) fn keys(&self, token: &str) -> KeyServiceClient<Authorized> {
        KeyServiceClient::with_interceptor(self.channel.clone(), as_caller(token))
    }

    pub(crate) fn anonymous(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.channel.clone())
    }
}

fn as_caller(token: &str) -> AsCaller {
    AsCaller(token.parse().unwrap())
}

fn caller(tenant: &str, key: KeyId, owner: Owner, role: Role) -> Identity {
    let tenant = TenantId::parse(tenant).unwrap();
    Identity {
        role,
        credential: Credential::Key { tenant, key, owner },
    }
}

fn registry() -> Registry {
    let now = SystemClock.now();
    let ring = |ring| Arc::new(Keyring::generate(ring, now, &mut rand::rng()));
    let data = ring(Ring::Data);
    let lookup = Arc::new(data.lookup_key().unwrap());
    Registry::new(
        Arc::new(EmbeddedStore::in_memory().unwrap()),
        data,
        Some(ring(Ring::Vault)),
        lookup,
        Arc::new(SystemClock),
        Settings::default(),
    )
}
