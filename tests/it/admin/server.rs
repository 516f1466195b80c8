//! The real admin services on a loopback port, over a store in memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use keystile::abuse::{self, Blocks};
use keystile::admin;
use keystile::admin::caller::{AuthFailure, AuthFuture, Authenticate, Credential, Identity};
use keystile::clock::{Clock, SystemClock};
use keystile::crypto::envelope::{self, Kind, Place};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::domain::block::Presenter;
use keystile::domain::change::Actor;
use keystile::domain::name::{DisplayName, KeyId, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::proto::admin as pb;
use keystile::proto::admin::block_service_client::BlockServiceClient;
use keystile::proto::admin::fleet_service_client::FleetServiceClient;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::proto::admin::limit_service_client::LimitServiceClient;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use keystile::registry::{NewKey, NewTenant, Registry, Settings};
use keystile::store::redb::EmbeddedStore;
use keystile::store::{Store, records};
use parking_lot::Mutex;
use prost::Message as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::support::generous_rules;

/// Who holds which token. Looking tokens up for real is the authorizer's, and tested there.
#[derive(Default)]
pub(crate) struct Callers(Mutex<HashMap<Vec<u8>, Result<Identity, AuthFailure>>>);

impl Authenticate for Callers {
    fn authenticate<'a>(&'a self, token: &'a [u8], _: Presenter) -> AuthFuture<'a> {
        let found = self.0.lock().get(token).cloned();
        Box::pin(async move { found.unwrap_or(Err(AuthFailure::Refused)) })
    }
}

pub(crate) struct AdminServer {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    /// What the records of the store are sealed with.
    pub(crate) data: Arc<Keyring>,
    callers: Arc<Callers>,
    channel: Channel,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) type Authorized = InterceptedService<Channel, AsCaller>;

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
        Self::over(Arc::new(EmbeddedStore::in_memory().unwrap()), true).await
    }

    /// A server over that store; tokens are kept when it has a vault.
    pub(crate) async fn over(store: Arc<dyn Store>, vault: bool) -> Self {
        let data = Arc::new(Keyring::generate(
            Ring::Data,
            SystemClock.now(),
            &mut rand::rng(),
        ));
        let blocks = Blocks::new(abuse::Settings::default(), Arc::<dyn Store>::clone(&store));
        let registry = registry(store, Arc::clone(&data), vault);
        let callers = Arc::new(Callers::default());
        let auth = Arc::clone(&callers) as Arc<dyn Authenticate>;
        let routes = admin::routes(
            registry.clone(),
            auth,
            blocks,
            Arc::new(SystemClock),
            &[7; 32],
        );
        let router = admin::router(routes);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
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
            data,
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

    /// A key of `platform` for a call that ends it: its token.
    pub(crate) async fn spare(&self) -> &'static str {
        let id = TenantId::parse("platform").unwrap();
        let name = DisplayName::parse("spare").unwrap();
        let new = NewKey::named(name, Owner::parse("spare").unwrap(), Role::User);
        let made = self.registry.create_key(&Actor::Operator, &id, new).await;
        let key = made.unwrap().key;
        self.recognise("spare", Ok(caller("platform", key.id, key.owner, key.role)));
        "spare"
    }

    pub(crate) fn recognise(&self, token: &str, who: Result<Identity, AuthFailure>) {
        self.callers.0.lock().insert(token.into(), who);
    }

    /// The notes of the audit entries of `platform` that are of an action, oldest first.
    pub(crate) async fn notes(&self, action: &str) -> Vec<String> {
        let tenant = TenantId::parse("platform").unwrap();
        let store = self.registry.store();
        let row = store.tenant(&tenant).await.unwrap().unwrap();
        let (_, data_key) = records::open_tenant(&self.data, &row).unwrap();
        let place = Place {
            kind: Kind::Audit,
            tenant: tenant.as_str(),
            key: "",
            generation: 0,
            lookup_id: None,
        };
        let entries = store.audit_after(&tenant, 0, 1000).await.unwrap();
        let changes = entries.iter().map(|(_, sealed)| {
            let plain = envelope::open(&data_key, &place, sealed).unwrap();
            Change::decode(plain.as_slice()).unwrap()
        });
        let of_action = changes.filter(|change| change.action == action);
        of_action.map(|change| change.note).collect()
    }

    /// The key of `platform` that a token stands for.
    pub(crate) async fn own_key(&self, token: &str) -> pb::Key {
        let found = self.callers.0.lock().get(token.as_bytes()).cloned();
        let Some(Ok(Identity {
            credential: Credential::Key { tenant, key, .. },
            ..
        })) = found
        else {
            panic!("{token} stands for no key")
        };
        let name = format!("tenants/{tenant}/keys/{key}");
        let get = pb::GetKeyRequest { name };
        self.keys(token).get_key(get).await.unwrap().into_inner()
    }

    pub(crate) fn tenants(&self, token: &str) -> TenantServiceClient<Authorized> {
        TenantServiceClient::with_interceptor(self.channel.clone(), as_caller(token))
    }

    pub(crate) fn keys(&self, token: &str) -> KeyServiceClient<Authorized> {
        KeyServiceClient::with_interceptor(self.channel.clone(), as_caller(token))
    }

    pub(crate) fn limits(&self, token: &str) -> LimitServiceClient<Authorized> {
        LimitServiceClient::with_interceptor(self.channel.clone(), as_caller(token))
    }

    pub(crate) fn blocks(&self, token: &str) -> BlockServiceClient<Authorized> {
        BlockServiceClient::with_interceptor(self.channel.clone(), as_caller(token))
    }

    pub(crate) fn fleet(&self, token: &str) -> FleetServiceClient<Authorized> {
        FleetServiceClient::with_interceptor(self.channel.clone(), as_caller(token))
    }

    /// Sends bytes as the message of a method, whatever they are, and answers those that come back.
    pub(crate) async fn raw(
        &self,
        token: &str,
        method: &str,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let mut request = Request::new(message);
        let token: MetadataValue<Ascii> = token.parse().unwrap();
        request.metadata_mut().insert("x-api-key", token);
        let answer = client
            .server_streaming(request, method.parse().unwrap(), Bytes)
            .await?;
        let first = answer.into_inner().message().await?;
        Ok(first.unwrap_or_default())
    }

    pub(crate) fn anonymous(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.channel.clone())
    }
}

/// Of a stored audit entry, what tests look at.
#[derive(Clone, PartialEq, prost::Message)]
struct Change {
    #[prost(string, tag = "3")]
    action: String,
    #[prost(string, tag = "6")]
    note: String,
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

fn as_caller(token: &str) -> AsCaller {
    AsCaller(token.parse().unwrap())
}

fn caller(tenant: &str, key: KeyId, owner: Owner, role: Role) -> Identity {
    let tenant = TenantId::parse(tenant).unwrap();
    Identity {
        role,
        credential: Credential::Key {
            tenant,
            key,
            generation: 1,
            owner,
        },
    }
}

fn registry(store: Arc<dyn Store>, data: Arc<Keyring>, vault: bool) -> Registry {
    let now = SystemClock.now();
    let vault = vault.then(|| Arc::new(Keyring::generate(Ring::Vault, now, &mut rand::rng())));
    let lookup = Arc::new(data.lookup_key().unwrap());
    let clock = Arc::new(SystemClock);
    let registry = Registry::new(store, data, vault, lookup, clock, Settings::default());
    registry.set_key_rules(generous_rules());
    registry
}
