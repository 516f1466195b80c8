//! Revoking and waiting over the admin API, and the list of sidecars, with sidecars on a real Redis.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use keystile::cache::Cache;
use keystile::clock::{Clock as _, SystemClock};
use keystile::config::Config;
use keystile::crypto::keyring::{Keyring, Ring};
use keystile::proto::admin as pb;
use keystile::server::fleet;
use keystile::store::Store;
use keystile::store::redis::{Access, RedisStore, Settings, Topology};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fleet::{Process, report, start, until_live};
use crate::admin::server::AdminServer;
use crate::cli::world::{Account, Ended};
use crate::harness::redis::RedisServer;
use crate::harness::wait_until;
use crate::store_contract::redis_address;

const ROOT: &str = "platform-global_admin";
/// Longer than any live sidecar takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

/// A sidecar on a thread of its own.
struct Sidecar {
    thread: Handle,
    end: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Drop for Sidecar {
    /// It answers nothing more.
    fn drop(&mut self) {
        if let Some((end, thread)) = self.end.take() {
            drop(end);
            thread.join().unwrap_or_default();
        }
    }
}

impl Sidecar {
    fn start(port: u16, id: &str) -> Self {
        Self::run(port, |store| store.join_fleet(id.to_owned(), report))
    }

    fn run(port: u16, join: impl FnOnce(&Arc<RedisStore>)) -> Self {
        let store = RedisStore::new(Settings::standalone(redis_address(port)), Access::Read);
        join(&store);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let thread = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let running = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = store.run() => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            thread,
            end: Some((end, running)),
        }
    }

    /// It does nothing more until what is returned is dropped, as after a SIGSTOP.
    fn pause(&self) -> std::sync::mpsc::Sender<()> {
        let (paused, until_then) = std::sync::mpsc::channel();
        self.thread.spawn(async move { until_then.recv().ok() });
        paused
    }
}

/// A control plane on a Redis of its own.
struct Control {
    redis: RedisServer,
    store: Arc<dyn Store>,
    admin: AdminServer,
    _running: Process,
}

impl Control {
    async fn start() -> Self {
        let redis = tokio::task::block_in_place(RedisServer::start);
        let address = redis_address(redis.port());
        let running = start(Topology::Standalone(address), "ks:", None).await;
        let store = Arc::clone(&running.store) as Arc<dyn Store>;
        let admin = AdminServer::over(Arc::clone(&store), false).await;
        Self {
            redis,
            store,
            admin: admin.with_tenant("platform").await,
            _running: running,
        }
    }

    async fn with_sidecars(&self, ids: &[&str]) -> Vec<Sidecar> {
        let sidecars = ids.iter().map(|id| Sidecar::start(self.redis.port(), id));
        let sidecars = sidecars.collect();
        until_live(&self.store, ids).await;
        sidecars
    }

    async fn new_key(&self) -> pb::Key {
        let request = pb::CreateKeyRequest {
            parent: "tenants/platform".into(),
            key: Some(pb::Key {
                display_name: "k".into(),
                owner: "alice".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let made = self.admin.keys(ROOT).create_key(request).await.unwrap();
        made.into_inner().key.unwrap()
    }

    async fn revoke(&self, key: &pb::Key, wait: Duration) -> pb::Key {
        revoke(&self.admin, key, wait).await
    }

    /// Whoever stands still or is gone stays live: this machine may be slower than a heartbeat's age.
    fn keep_live(&self, ids: &[&str]) {
        let later = SystemClock.now().as_millis() + 3_600_000;
        for id in ids {
            let live = ["ZADD", "ks:fleet:{fleet}:live", &later.to_string(), id];
            tokio::task::block_in_place(|| self.redis.cli(&live));
        }
    }

    /// Revokes, and waits for a moment, until these alone have not confirmed: they never do, and on a busy machine
    /// others may take several moments.
    async fn revoke_until_late(&self, key: &pb::Key, ids: &[&str]) -> pb::Key {
        wait_until("the others confirm", async || {
            let revoked = self.revoke(key, SHORT).await;
            let late = revoked.unconfirmed_sidecars.clone();
            for id in ids {
                assert!(late.iter().any(|late| late == id), "{id} not in {late:?}");
            }
            if late == ids { Ok(revoked) } else { Err(late) }
        })
        .await
    }

    /// A line of the client, which is told where the control plane is.
    async fn cli(&self, line: String) -> Ended {
        let account = Account::new()
            .with("KEYSTILE_ADDR", &self.admin.address.to_string())
            .with("KEYSTILE_API_KEY", ROOT);
        let ended = tokio::task::spawn_blocking(move || account.run(&line));
        ended.await.unwrap()
    }
}

async fn revoke(admin: &AdminServer, key: &pb::Key, wait: Duration) -> pb::Key {
    let request = pb::RevokeKeyRequest {
        name: key.name.clone(),
        wait: prost_types::Duration::try_from(wait).ok(),
        ..Default::default()
    };
    let revoked = admin.keys(ROOT).revoke_key(request).await.unwrap();
    let revoked = revoked.into_inner();
    assert_eq!(revoked.state(), pb::KeyState::Revoked);
    revoked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revoke_that_waits_is_answered_when_all_have_confirmed_and_names_who_has_not() {
    let control = Control::start().await;
    let sidecars = control.with_sidecars(&["one", "two"]).await;
    let key = control.new_key().await;
    let begun = Instant::now();
    let revoked = control.revoke(&key, LONG).await;
    assert_eq!(revoked.unconfirmed_sidecars, Vec::<String>::new());
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());

    let key = control.new_key().await;
    let paused = sidecars[1].pause();
    control.keep_live(&["two"]);
    control.revoke_until_late(&key, &["two"]).await;
    // Who does not wait is told nothing, and the key keeps nothing of it.
    let revoked = control.revoke(&key, Duration::ZERO).await;
    assert_eq!(revoked.unconfirmed_sidecars, Vec::<String>::new());
    drop(paused);
    let again = control.revoke(&key, LONG).await;
    assert_eq!(again.unconfirmed_sidecars, Vec::<String>::new());
    assert_eq!(again.etag, revoked.etag, "asking again changes nothing");

    let key = control.new_key().await;
    drop(sidecars);
    control.keep_live(&["one", "two"]);
    let revoked = control.revoke(&key, SHORT).await;
    assert_eq!(revoked.unconfirmed_sidecars, ["one", "two"]);
}

#[tokio::test]
async fn an_embedded_store_has_nobody_to_wait_for() {
    let admin = AdminServer::start().await.with_tenant("platform").await;
    let list = pb::ListKeysRequest {
        parent: "tenants/platform".into(),
        ..Default::default()
    };
    let keys = admin.keys(ROOT).list_keys(list).await.unwrap().into_inner();
    let begun = Instant::now();
    // Not the caller's own: it calls once more.
    let mut keys = keys.keys.iter();
    let key = keys.find(|key| key.role() == pb::Role::User).unwrap();
    let revoked = revoke(&admin, key, LONG).await;
    assert!(revoked.unconfirmed_sidecars.is_empty() && begun.elapsed() < LONG);
    assert_eq!(revoked.confirmed_sidecars, 0);
    let mut fleet = admin.fleet(ROOT);
    let nobody = fleet.list_sidecars(pb::ListSidecarsRequest::default());
    let nobody = nobody.await.unwrap().into_inner();
    assert_eq!(nobody, pb::ListSidecarsResponse::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sidecars_are_listed_a_page_at_a_time() {
    let control = Control::start().await;
    let began = SystemClock.now().as_millis() / 1000;
    let _sidecars = control.with_sidecars(&["a", "b", "c"]).await;
    let mut fleet = control.admin.fleet(ROOT);
    let mut request = pb::ListSidecarsRequest {
        page_size: 2,
        ..Default::default()
    };
    let first = fleet
        .list_sidecars(request.clone())
        .await
        .unwrap()
        .into_inner();
    request.page_token = first.next_page_token;
    let last = fleet.list_sidecars(request).await.unwrap().into_inner();
    let all: Vec<_> = first.sidecars.into_iter().chain(last.sidecars).collect();
    let names: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["sidecars/a", "sidecars/b", "sidecars/c"]);
    assert_eq!(last.next_page_token, "");
    let one = &all[0];
    let facts = (
        one.sidecar_id.as_str(),
        one.version.as_str(),
        one.cached_keys,
    );
    assert_eq!(facts, ("a", "1.2.3", 7));
    let (start, lag) = (one.start_time.unwrap(), one.revocation_lag.unwrap());
    assert_eq!((start.seconds, lag.nanos), (1, 5_000));
    let heard = one.last_heard_time.unwrap().seconds;
    let now = SystemClock.now().as_millis() / 1000;
    assert!((began..=now).contains(&heard), "{heard} of {began}..{now}");
}

/// A stolen sidecar may write as many as it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn made_up_sidecars_without_number_hide_no_real_one_and_are_not_all_read() {
    let control = Control::start().await;
    let _sidecars = control.with_sidecars(&["real"]).await;
    let in_an_hour = (SystemClock.now().as_millis() + 3_600_000).to_string();
    tokio::task::block_in_place(|| {
        for part in 0..11 {
            let ids: Vec<String> = (0..1000).map(|at| format!("fake-{part}-{at}")).collect();
            let mut live = vec!["ZADD", "ks:fleet:{fleet}:live"];
            let mut says = vec!["HSET", "ks:fleet:{fleet}:says"];
            for id in &ids {
                live.extend([in_an_hour.as_str(), id]);
                says.extend([id, "1.2.3 1 1 1"]);
            }
            control.redis.cli(&live);
            control.redis.cli(&says);
        }
    });
    let listed = control.store.sidecars().await.unwrap();
    assert_eq!(listed.len(), 10_000);
    assert!(listed.iter().any(|one| one.id == "real"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_command_line_waits_names_who_has_not_confirmed_and_shows_who_lives() {
    let control = Control::start().await;
    let sidecars = control.with_sidecars(&["one", "two"]).await;
    let line = |key: &pb::Key, more: &str| format!("key revoke platform {} {more}", key.key_id);
    let all = control
        .cli(line(&control.new_key().await, "--wait 60s"))
        .await;
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(
        all.out.contains("every live sidecar has confirmed"),
        "{all:?}"
    );
    let plain = control.cli(line(&control.new_key().await, "")).await;
    assert!(plain.out.ends_with(": revoked for good\n"), "{plain:?}");

    let _paused = sidecars[1].pause();
    control.keep_live(&["two"]);
    let key = control.new_key().await;
    // So that the other has confirmed, and can do so at once.
    control.revoke_until_late(&key, &["two"]).await;
    let late = wait_until("the other confirms", async || {
        let late = control.cli(line(&key, "--wait 200ms")).await;
        assert_eq!(late.code, Some(1), "{late:?}");
        assert!(late.err.contains("two"), "{late:?}");
        let alone = late.err.contains("by 1 sidecar");
        if alone { Ok(late) } else { Err(late) }
    })
    .await;
    assert!(late.out.contains("revoked for good"), "{late:?}");
    let expected = "the key is revoked, but not confirmed within 200ms by 1 sidecar: two\nhint: ";
    assert!(late.err.contains(expected), "{late:?}");
    let two = serde_json::json!(["two"]);
    let json = wait_until("the other confirms", async || {
        let json = control.cli(line(&key, "--wait 200ms -o json")).await;
        assert_eq!(json.code, Some(1), "{json:?}");
        let alone = json.json()["unconfirmed_sidecars"] == two;
        if alone { Ok(json) } else { Err(json) }
    })
    .await;
    assert_eq!(json.json()["state"], "KEY_STATE_REVOKED");
    let refused = control.cli(line(&key, "--wait 61s")).await;
    assert!(
        refused.err.contains("wait: must be 0 to 60 seconds"),
        "{refused:?}"
    );

    let table = control.cli("fleet".into()).await.out;
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = [
        "SIDECAR", "VERSION", "STARTED", "LAG", "CACHED", "KEYS", "HEARD",
    ];
    assert_eq!(lines.next().unwrap(), header);
    let row = lines.next().unwrap();
    assert_eq!(
        row[..6],
        ["one", "1.2.3", "1970-01-01T00:00:01Z", "0.0", "ms", "7"]
    );
    let json = control.cli("fleet -o json".into()).await.json();
    assert_eq!(json["sidecars"][0]["cached_keys"], 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_checks_requests_joins_while_its_store_runs_and_others_do_not() {
    let control = Control::start().await;
    let keyring = Keyring::generate(Ring::Data, SystemClock.now(), &mut rand::rng());
    let data = Arc::new(keyring);
    let mut kept = Vec::new();
    let rows = [("authz: {}\n", 1), ("admin: {}\n", 1), ("authz: {}\n", 2)];
    for (section, live) in rows {
        let config = format!("{section}keyring: {{data: {{file: d}}, vault: {{file: v}}}}\n");
        let config = Config::parse(&config, "a test", std::iter::empty())
            .unwrap()
            .config;
        let address = redis_address(control.redis.port());
        let running = start(Topology::Standalone(address), "ks:", None).await;
        let store = Arc::clone(&running.store);
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let settings = keystile::cache::Settings::default();
        let cache = Cache::new(
            Arc::<dyn Store>::clone(&shared),
            Arc::clone(&data),
            Default::default(),
            settings,
        );
        fleet::join(&config, &store, &cache);
        kept.push((running, cache));
        wait_until(section, async || {
            let all = control.store.sidecars().await.unwrap();
            (all.len() >= live).then_some(()).ok_or(all)
        })
        .await;
    }
    let live = control.store.sidecars().await.unwrap();
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(live.len(), 2, "{live:?}");
    for sidecar in live {
        let (name, random) = sidecar.id.rsplit_once('-').unwrap();
        assert_eq!((name, random.len()), (host.as_str(), 8));
        assert_eq!(sidecar.report.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(sidecar.report.cached_keys, 0);
    }
}
