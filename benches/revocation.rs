//! Revocation on a real Redis: one control plane, three sidecars under load, two hundred keys revoked one by one.
//!
//! From the start of each `RevokeKey`, which waits for all sidecars: until its answer, and until every sidecar
//! refuses the key, which each asks itself every millisecond. `make bench-revocation` takes seconds; each revocation
//! must be over within five.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench is a program of its own"
)]

#[path = "world/server.rs"]
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use keystile::abuse::{self, Blocks};
use keystile::admin;
use keystile::admin::caller::{AuthFuture, Authenticate, Credential, Identity};
use keystile::authorizer::Authorizer;
use keystile::cache::{self, Cache};
use keystile::clock::{Clock as _, SystemClock};
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::crypto::token::TokenPrefixes;
use keystile::domain::block::Presenter;
use keystile::domain::change::Actor;
use keystile::domain::name::{DisplayName, Owner, TenantId};
use keystile::domain::role::Role;
use keystile::domain::san::San;
use keystile::proto::admin as pb;
use keystile::proto::admin::fleet_service_client::FleetServiceClient;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::registry::{NewKey, NewTenant, Registry, Settings};
use keystile::store::redis::Access;
use keystile::store::{SidecarReport, Store};
use mimalloc::MiMalloc;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::transport::Endpoint;
use zeroizing_alloc::ZeroAlloc;

use server::{Server, store};

#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const SIDECARS: usize = 3;
const REVOCATIONS: usize = 200;
/// The keys that the load asks for.
const OTHERS: usize = 1_000;
/// How many of them each sidecar checks in a millisecond.
const LOAD: usize = 10;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let redis = Server::start();
    let data = Keyring::generate(Ring::Data, SystemClock.now(), &mut rand::rng());
    let data = Arc::new(data);
    let (told, mut made) = mpsc::channel(1);
    on_a_thread(control_plane(redis.port, Arc::clone(&data), told));
    let (address, keys) = made.recv().await.unwrap();
    let (doomed, others) = keys.split_at(REVOCATIONS);

    let (trials, trial) = watch::channel(Trial::default());
    let (tell, mut told) = mpsc::channel(SIDECARS);
    for number in 0..SIDECARS {
        let others = others.iter().map(|key| key.token.clone()).collect();
        let sidecar = Sidecar {
            number,
            redis: redis.port,
            data: Arc::clone(&data),
            others,
        };
        on_a_thread(sidecar.run(trial.clone(), tell.clone()));
    }

    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect_lazy();
    let mut fleet = FleetServiceClient::with_interceptor(channel.clone(), with_key);
    soon(async {
        let list = pb::ListSidecarsRequest::default();
        while fleet
            .list_sidecars(list.clone())
            .await
            .unwrap()
            .get_ref()
            .sidecars
            .len()
            < SIDECARS
        {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    for key in doomed {
        trials.send_replace(Trial::of(key));
        for _ in 0..SIDECARS {
            assert!(matches!(soon(told.recv()).await, Some(Told::Works)));
        }
        let begun = Instant::now();
        let revoke = pb::RevokeKeyRequest {
            name: key.name.clone(),
            wait: prost_types::Duration::try_from(PATIENCE).ok(),
            ..Default::default()
        };
        let mut client = KeyServiceClient::with_interceptor(channel.clone(), with_key);
        let answer = client.revoke_key(revoke).await.unwrap().into_inner();
        answered.push(begun.elapsed());
        assert_eq!(answer.unconfirmed_sidecars, Vec::<String>::new());
        let mut last = begun;
        for _ in 0..SIDECARS {
            let Some(Told::Refused(at)) = soon(told.recv()).await else {
                panic!("it is revoked")
            };
            last = last.max(at);
        }
        refused.push(last - begun);
    }
    println!(
        "{REVOCATIONS} revocations, {SIDECARS} sidecars, each with up to {} checks/s",
        LOAD * 1000
    );
    show("confirmed by every sidecar", answered);
    show("refused on every sidecar", refused);
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

#[expect(clippy::unnecessary_wraps, reason = "the form of an interceptor")]
fn with_key(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    request
        .metadata_mut()
        .insert("x-api-key", "bench".parse().unwrap());
    Ok(request)
}

fn show(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1].as_secs_f64() * 1000.0;
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
}

/// Runs something in a runtime of its own, as a process would.
fn on_a_thread(what: impl Future<Output = ()> + Send + 'static) {
    thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(what);
    });
}

#[derive(Clone)]
struct Made {
    name: String,
    token: String,
}

/// Whoever asks may do everything.
struct Anybody;

impl Authenticate for Anybody {
    fn authenticate<'a>(&'a self, _: &'a [u8], _: Presenter) -> AuthFuture<'a> {
        let identity = Identity {
            role: Role::GlobalAdmin,
            credential: Credential::Certificate {
                san: San::Dns("bench".to_owned()),
                tenant: None,
            },
        };
        Box::pin(async move { Ok(identity) })
    }
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// Makes the keys, tells where it listens, and serves the admin API.
async fn control_plane(
    redis: u16,
    data: Arc<Keyring>,
    tell: mpsc::Sender<(SocketAddr, Vec<Made>)>,
) {
    let store = store(redis, Access::Write).await;
    store.keyring_id(data.id()).await.unwrap();
    let lookup = Arc::new(data.lookup_key().unwrap());
    let clock = Arc::new(SystemClock);
    let store: Arc<dyn Store> = store;
    let blocks = Blocks::new(abuse::Settings::default(), Arc::<dyn Store>::clone(&store));
    let registry = Registry::new(store, data, None, lookup, clock, Settings::default());
    let name = DisplayName::parse("Acme").unwrap();
    let new = NewTenant::named(tenant(), name.clone());
    registry.create_tenant(&Actor::Operator, new).await.unwrap();
    let mut keys = Vec::new();
    for number in 0..REVOCATIONS + OTHERS {
        let owner = Owner::parse(&format!("user-{number}")).unwrap();
        let new = NewKey::named(name.clone(), owner, Role::User);
        let made = registry.create_key(&Actor::Operator, &tenant(), new).await;
        let made = made.unwrap();
        keys.push(Made {
            name: format!("tenants/{}/keys/{}", made.key.tenant, made.key.id),
            token: made.token.expose().to_owned(),
        });
    }
    let clock = Arc::new(SystemClock);
    let routes = admin::routes(registry, Arc::new(Anybody), blocks, clock, &[7; 32]);
    let router = admin::router(routes);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    tell.send((listener.local_addr().unwrap(), keys))
        .await
        .unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

/// The key that is going to be revoked.
#[derive(Clone, Default)]
struct Trial {
    token: Arc<str>,
}

impl Trial {
    fn of(key: &Made) -> Self {
        Self {
            token: key.token.as_str().into(),
        }
    }
}

/// What a sidecar says of the key of a trial.
#[derive(Debug)]
enum Told {
    Works,
    Refused(Instant),
}

struct Sidecar {
    number: usize,
    redis: u16,
    data: Arc<Keyring>,
    others: Vec<String>,
}

impl Sidecar {
    /// Checks keys for as long as the bench runs.
    async fn run(self, mut trial: watch::Receiver<Trial>, tell: mpsc::Sender<Told>) {
        let authorizer = self.start().await;
        let mut others = self.others.iter().cycle();
        let mut ticks = interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        trial.changed().await.unwrap();
        // Of the key of the trial: none when it is known to be refused.
        let mut worked = Some(false);
        loop {
            ticks.tick().await;
            for token in others.by_ref().take(LOAD) {
                assert!(works(&authorizer, token).await, "it is not revoked");
            }
            if trial.has_changed().unwrap_or(false) {
                worked = Some(false);
            }
            let token = Arc::clone(&trial.borrow_and_update().token);
            let Some(before) = worked else { continue };
            match (before, works(&authorizer, &token).await) {
                (false, true) => {
                    worked = Some(true);
                    tell.send(Told::Works).await.unwrap();
                }
                (_, false) => {
                    worked = None;
                    tell.send(Told::Refused(Instant::now())).await.unwrap();
                }
                (true, true) => {}
            }
        }
    }

    async fn start(&self) -> Authorizer {
        let store = store(self.redis, Access::Read).await;
        let report = SidecarReport {
            version: "bench".to_owned(),
            started_at: SystemClock.now(),
            lag: Duration::ZERO,
            cached_keys: 0,
        };
        store.join_fleet(format!("sidecar-{}", self.number), move || report.clone());
        let store: Arc<dyn Store> = store;
        let data = Arc::clone(&self.data);
        let settings = cache::Settings::default();
        let lookup = Arc::new(data.lookup_key().unwrap());
        Authorizer::new(
            Cache::new(
                Arc::<dyn Store>::clone(&store),
                data,
                Default::default(),
                settings,
            ),
            lookup,
            TokenPrefixes::default(),
            Arc::new(SystemClock),
            PATIENCE,
        )
    }
}

async fn works(authorizer: &Authorizer, token: &str) -> bool {
    authorizer
        .authenticate(token.as_bytes(), Presenter::Recognised(None))
        .await
        .unwrap()
        .is_ok()
}
