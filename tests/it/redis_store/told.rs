//! What an operator hears when Redis refuses, cannot be used, or is not as it should be.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::{Fleet, at, check_life_of_a_key, metric};
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::{Options, RedisServer};
use crate::harness::wait_for;
use crate::support::program::Place;

/// Something that makes Redis refuse writes, what an operator must hear, and its end.
type Refusal<'a> = (&'static str, &'static str, &'a dyn Fn(), &'a dyn Fn());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_refuses_is_said_in_words_to_who_changes_keys_and_lists_the_fleet() {
    let redis = RedisServer::start_with(Options {
        more: "enable-protected-configs local",
        ..Options::default()
    });
    let fleet = Fleet::start(&at(&redis), &at(&redis));
    fleet.wait_until_all_live();
    let key = fleet.create_key();
    let set = |name: &str, value: &str| drop(redis.cli(&["CONFIG", "SET", name, value]));
    let gone = tempfile::tempdir().unwrap();
    let before = redis.cli(&["CONFIG", "GET", "dir"]);
    let before = before.lines().nth(1).unwrap().to_owned();
    let full = || set("maxmemory", "1");
    let no_replicas = || set("min-replicas-to-write", "1");
    let no_disk = || {
        let dir = gone.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        set("dir", dir.to_str().unwrap());
        std::fs::remove_dir(&dir).unwrap();
        set("save", "3600 1");
        redis.cli(&["BGSAVE"]);
        wait_for("the save to fail", || {
            let info = redis.cli(&["INFO", "persistence"]);
            info.contains("rdb_last_bgsave_status:err").then_some(())
        });
    };
    let disk = || {
        set("save", "");
        set("dir", &before);
        redis.cli(&["SAVE"]);
    };
    let refusals: [Refusal<'_>; 3] = [
        ("OOM", "its memory is full", &full, &|| {
            set("maxmemory", "0");
        }),
        ("NOREPLICAS", "min-replicas-to-write", &no_replicas, &|| {
            set("min-replicas-to-write", "0");
        }),
        ("MISCONF", "fails to save its data to disk", &no_disk, &disk),
    ];
    for (code, words, begin, end) in refusals {
        begin();
        for args in [
            &["tenant", "create", "globex"][..],
            &["key", "revoke", "acme", &key.id],
            &["fleet"],
        ] {
            let refused = fleet.refused(args, code);
            for text in [code, words] {
                let said = refused.stderr.contains(text);
                assert!(said, "{code} {args:?}: {}", refused.stderr);
            }
            assert!(
                !refused.stderr.contains("does not answer"),
                "{}",
                refused.stderr
            );
        }
        wait_for("a sidecar to say that it cannot say that it lives", || {
            let log = fleet.running[1].log();
            let told = |line: &str| line.contains("heartbeat") && line.contains(words);
            log.lines().any(told).then_some(())
        });
        end();
    }
    fleet.wait_until_all_live();
    fleet.revoke_and_wait(&key);
}

#[test]
fn a_redis_that_may_evict_keys_is_warned_about_at_start() {
    let redis = RedisServer::start_with(Options {
        more: "maxmemory 100mb\nmaxmemory-policy allkeys-lru",
        ..Options::default()
    });
    let mut control = Place::with_keyrings();
    control.use_redis(&at(&redis));
    control.bootstrap();
    let running = control.serve();
    wait_for("a warning", || {
        let log = running.log();
        let warns = |line: &str| line.contains("WARN") && line.contains("allkeys-lru");
        log.lines().any(warns).then_some(())
    });
}

#[track_caller]
fn refused_with(fields: &str, words: &[&str]) {
    let place = Place::with_keyrings();
    place.use_redis(fields);
    let refused = place.run(&["bootstrap", "-c", "keystile.yaml"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for word in words {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
}

#[test]
fn why_redis_cannot_be_used_is_said_with_its_address() {
    let old = RedisServer::start_with(Options {
        more: "rename-command HELLO \"\"",
        ..Options::default()
    });
    let port = old.port().to_string();
    refused_with(&at(&old), &[&port, "Redis 6.2 or newer is needed"]);
    let cluster = format!("mode: cluster, url: \"redis://127.0.0.1:{port}\"");
    refused_with(&cluster, &[&port, "Redis 6.2 or newer is needed"]);

    let alone = RedisServer::start();
    let port = alone.port().to_string();
    let cluster = format!("mode: cluster, url: \"redis://127.0.0.1:{port}\"");
    refused_with(&cluster, &[&port, "cluster support disabled"]);

    let nobody = crate::harness::free_port().to_string();
    let cluster = format!("mode: cluster, url: \"redis://127.0.0.1:{nobody}\"");
    refused_with(&cluster, &[&nobody, "refused"]);
}

#[test]
fn a_redis_that_takes_no_more_clients_is_named_so() {
    let redis = RedisServer::start_with(Options {
        more: "maxclients 4",
        ..Options::default()
    });
    let taken: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
            stream.write_all(b"PING\r\n").unwrap();
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).unwrap();
            stream
        })
        .collect();
    let port = redis.port().to_string();
    refused_with(&at(&redis), &[&port, "maxclients"]);
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_live_on_a_cluster_whose_nodes_name_no_endpoint() {
    let redis = RedisCluster::start();
    let urls = redis.urls();
    for url in &urls {
        let set = [
            "CONFIG",
            "SET",
            "cluster-preferred-endpoint-type",
            "unknown-endpoint",
        ];
        assert_eq!(redis.primary_of("any").ask(url, &set).as_deref(), Ok("OK"));
    }
    let fields = format!("mode: cluster, url: \"{}\"", urls[0]);
    let fleet = Fleet::start(&fields, &fields);
    check_life_of_a_key(&fleet).await;
}

#[test]
fn a_revocation_that_nobody_has_confirmed_does_not_say_that_all_have() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    let made = place.do_it(&[
        "key", "create", "acme", "--name", "a", "--owner", "alice", "-o", "json",
    ]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let id = made["key"]["name"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap();
    let answer = place.do_it(&["key", "revoke", "acme", id, "--wait", "1s"]);
    assert!(answer.contains("no live sidecar is known"), "{answer}");
    assert!(!answer.contains("every live sidecar"), "{answer}");
}

/// Passes everything on, and sets the clock of the server back by three days in its answers to TIME.
fn three_days_behind(server: u16) -> u16 {
    const ANSWER: &[u8] = b"*2\r\n$10\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            let (mut from, mut to) = (upstream, client);
            thread::spawn(move || {
                let mut bytes = [0; 16_384];
                while let Ok(len @ 1..) = from.read(&mut bytes) {
                    let found = bytes[..len]
                        .windows(ANSWER.len())
                        .position(|at| at == ANSWER);
                    if let Some(seconds) = found.map(|at| at + ANSWER.len())
                        && seconds + 10 <= len
                    {
                        let text = std::str::from_utf8(&bytes[seconds..seconds + 10]).unwrap();
                        let earlier = text.parse::<u64>().unwrap() - 3 * 86_400;
                        bytes[seconds..seconds + 10]
                            .copy_from_slice(earlier.to_string().as_bytes());
                    }
                    if to.write_all(&bytes[..len]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_sidecar_whose_clock_is_days_off_says_so() {
    let redis = RedisServer::start();
    let mut control = Place::with_keyrings();
    control.use_redis(&at(&redis));
    control.bootstrap();
    let sidecar = control.sidecar();
    sidecar.use_redis(&format!(
        "url: \"redis://127.0.0.1:{}\"",
        three_days_behind(redis.port())
    ));
    let running = sidecar.serve();
    wait_for("a warning", || {
        let log = running.log();
        let warns = |line: &str| line.contains("WARN") && line.contains("ahead of that of Redis");
        log.lines().any(warns).then_some(())
    });
    let skew = metric(&sidecar, "keystile_clock_skew_seconds");
    assert!((skew - 3.0 * 86_400.0).abs() < 3600.0, "{skew}");
}
