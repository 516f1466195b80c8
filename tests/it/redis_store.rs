//! Real `keystile serve` processes that share one Redis: a control plane and its sidecars.

mod acl;
mod blocks;
mod check;
mod limits;
mod lost;
mod lost_keys;
mod migrate;
mod rotation;
mod start;
mod told;
mod topologies;

use std::time::{Duration, Instant};

use keystile::clock::{Clock as _, SystemClock};
use tonic::transport::Channel;

use crate::harness::redis::{Options, RedisServer};
use crate::harness::{wait_for, wait_until};
use crate::support::client;
use crate::support::program::{Ended, Place, Running, STORE_TIMEOUT};

/// Of a right form, and nobody's.
const UNKNOWN: &str = "another-system-made-this-token-0123456789";

/// What `store.redis` says of a plain server.
fn at(redis: &RedisServer) -> String {
    format!("url: \"redis://127.0.0.1:{}\"", redis.port())
}

/// A Redis that has after a restart what it had before.
fn lasting() -> RedisServer {
    RedisServer::start_with(Options {
        append_only: true,
        ..Options::default()
    })
}

/// A control plane and two sidecars, running.
struct Fleet {
    control: Place,
    sidecars: [Place; 2],
    running: [Running; 3],
}

/// A key of the tenant `acme`.
struct Key {
    id: String,
    token: String,
}

impl Fleet {
    /// `control` and `sidecar` are the fields of `store.redis`.
    fn start(control: &str, sidecar: &str) -> Self {
        Self::start_with(control, sidecar, "")
    }

    /// The same, each with these lines in its configuration.
    fn start_with(control: &str, sidecar: &str, config: &str) -> Self {
        let mut place = Place::with_keyrings();
        place.add_config(config);
        place.use_redis(control);
        place.bootstrap();
        let sidecars = [place.sidecar(), place.sidecar()];
        let serve = |place: &Place| {
            place.add_config(config);
            place.use_redis(sidecar);
            place.serve()
        };
        let [one, two] = [serve(&sidecars[0]), serve(&sidecars[1])];
        let running = [place.serve(), one, two];
        place.do_it(&["tenant", "create", "acme"]);
        Self {
            control: place,
            sidecars,
            running,
        }
    }

    fn create_key(&self) -> Key {
        let made = self.control.do_it(&[
            "key", "create", "acme", "--name", "ci", "--owner", "alice", "-o", "json",
        ]);
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let name = made["key"]["name"].as_str().unwrap();
        Key {
            id: name.rsplit('/').next().unwrap().to_owned(),
            token: made["plaintext"].as_str().unwrap().to_owned(),
        }
    }

    fn revoke(&self, key: &Key) {
        self.control.do_it(&["key", "revoke", "acme", &key.id]);
    }

    fn revoke_and_wait(&self, key: &Key) {
        let wait = ["key", "revoke", "acme", &key.id, "--wait", "60s"];
        let answer = self.control.do_it(&wait);
        assert!(answer.contains("has confirmed it"), "{answer}");
    }

    /// Runs a command that the server refuses with `words`. On a busy machine a client may have lost patience before.
    #[track_caller]
    fn refused(&self, args: &[&str], words: &str) -> Ended {
        for timeout in ["2s", "15s", "60s"] {
            let refused = self.control.run(&[args, &["--timeout", timeout]].concat());
            assert_eq!(refused.code, 1, "{args:?}: {}", refused.stdout);
            if refused.stderr.contains(words) || timeout == "60s" {
                return refused;
            }
        }
        unreachable!("the last is answered");
    }

    /// The ids of the live sidecars; the control plane checks requests too.
    fn live(&self) -> Vec<String> {
        let live = self.control.do_it(&["fleet", "-o", "json"]);
        let live: serde_json::Value = serde_json::from_str(&live).unwrap();
        let live = live["sidecars"].as_array().unwrap().iter();
        live.map(|one| one["sidecar_id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn wait_until_all_live(&self) -> Vec<String> {
        wait_for("every sidecar to be live", || {
            Some(self.live()).filter(|ids| ids.len() == 3)
        })
    }

    async fn channels(&self) -> Vec<Channel> {
        let mut channels = vec![client::tcp(self.control.authz).await];
        for sidecar in &self.sidecars {
            channels.push(client::tcp(sidecar.authz).await);
        }
        channels
    }
}

async fn ask(channel: &Channel, token: &str) -> i32 {
    client::ask(channel, &[("x-api-key", token)]).await
}

/// Asks until the answer is `status`.
async fn ask_until(channel: &Channel, token: &str, status: i32) {
    wait_until(&format!("an answer of {status}"), async || {
        let found = ask(channel, token).await;
        (found == status).then_some(()).ok_or(found)
    })
    .await;
}

/// A key works everywhere until it is revoked, and then nowhere.
async fn check_life_of_a_key(fleet: &Fleet) {
    let channels = fleet.channels().await;
    for channel in &channels {
        assert_eq!(ask(channel, UNKNOWN).await, 401);
    }
    let key = fleet.create_key();
    for channel in &channels {
        // Twice: the second from memory.
        assert_eq!(ask(channel, &key.token).await, 200);
        assert_eq!(ask(channel, &key.token).await, 200);
    }
    fleet.control.do_it(&["key", "pause", "acme", &key.id]);
    for channel in &channels {
        ask_until(channel, &key.token, 403).await;
    }
    fleet.control.do_it(&["key", "resume", "acme", &key.id]);
    for channel in &channels {
        ask_until(channel, &key.token, 200).await;
    }
    fleet.wait_until_all_live();
    fleet.revoke_and_wait(&key);
    for channel in &channels {
        let status = ask(channel, &key.token).await;
        assert_eq!(status, 401, "each has confirmed that it refuses the key");
    }
}

fn metric(place: &Place, name: &str) -> f64 {
    let (_, text) = place.ops("/metrics").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_works_on_every_sidecar_and_a_revoked_one_on_none() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    check_life_of_a_key(&fleet).await;
    let sidecar = &fleet.sidecars[0];
    assert_eq!(metric(sidecar, "keystile_store_up"), 1.0);
    assert_eq!(metric(sidecar, "keystile_store_gaps_total"), 0.0);
    assert!(metric(sidecar, "keystile_revocation_lag_seconds") < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_has_stopped_is_not_waited_for() {
    let redis = RedisServer::start();
    let mut fleet = Fleet::start(&at(&redis), &at(&redis));
    fleet.wait_until_all_live();
    let stopping = &mut fleet.running[2];
    stopping.signal("TERM");
    assert!(stopping.wait_for_end().success());
    assert_eq!(fleet.live().len(), 2);
    let key = fleet.create_key();
    fleet.revoke_and_wait(&key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_stands_still_is_named_and_asked_again() {
    let redis = RedisServer::start();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let live = fleet.wait_until_all_live();
    let key = fleet.create_key();
    fleet.running[1].signal("STOP");
    // They stay live: this machine may be slower than a heartbeat's age.
    let later = SystemClock.now().as_millis() + 3_600_000;
    for id in &live {
        redis.cli(&["ZADD", "ks:fleet:{fleet}:live", &later.to_string(), id]);
    }
    let revoke = ["key", "revoke", "acme", &key.id, "--wait", "300ms"];
    // On a busy machine the others may take several moments; this one never answers.
    let late = wait_for("the others confirm", || {
        let late = fleet.control.run(&[&revoke[..], &["-o", "json"]].concat());
        assert_eq!(late.code, 1, "{}", late.stderr);
        let answer: serde_json::Value = serde_json::from_str(&late.stdout).unwrap();
        let named = answer["unconfirmed_sidecars"].as_array().unwrap();
        let is_known = |one: &serde_json::Value| live.iter().any(|id| *one == **id);
        assert!(!named.is_empty() && named.iter().all(is_known), "{named:?}");
        let named = named.len();
        if named == 1 { Ok(late) } else { Err(named) }
    });
    assert!(
        late.stderr.contains("the key is revoked"),
        "{}",
        late.stderr
    );
    fleet.running[1].signal("CONT");
    fleet.revoke_and_wait(&key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_known_keys_work_and_unknown_ones_are_503_at_once() {
    let mut redis = lasting();
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    let key = fleet.create_key();
    let sidecar = &fleet.sidecars[0];
    let channel = client::tcp(sidecar.authz).await;
    assert_eq!(ask(&channel, &key.token).await, 200);

    redis.kill();
    wait_for("the loss to be seen", || {
        (metric(sidecar, "keystile_store_up") == 0.0).then_some(())
    });
    // How much later an answer is that needs the store than one that does not, right after it.
    let mut later = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(ask(&channel, UNKNOWN).await, 503);
        let (unknown, begun) = (begun.elapsed(), Instant::now());
        assert_eq!(ask(&channel, &key.token).await, 200);
        later.push(unknown.saturating_sub(begun.elapsed()));
    }
    later.sort_unstable();
    // Nobody waits for the store. A pause of the machine delays some, never most.
    let bound = Duration::from_millis(50);
    assert!(later[later.len() / 2] < bound, "{later:?}");
    assert!(later[later.len() - 1] < STORE_TIMEOUT / 2, "{later:?}");
    assert!(
        sidecar.is_ready(),
        "what it has in memory is worth asking for"
    );
    let refused = fleet
        .control
        .run(&["key", "revoke", "acme", &key.id, "--timeout", "1s"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);

    redis.restart();
    ask_until(&channel, UNKNOWN, 401).await;
    wait_for("changes to be heard", || {
        (metric(sidecar, "keystile_revocation_lag_seconds") < 0.5).then_some(())
    });
    assert_eq!(metric(sidecar, "keystile_store_gaps_total"), 1.0);
    fleet.revoke(&key);
    ask_until(&channel, &key.token, 401).await;
}
