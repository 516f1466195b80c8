//! The Redis servers that other tests rely on do what those tests take for granted.

mod confirm;
mod crash;
mod damage;
mod fall_back;
mod fleet;
mod load;
mod old_records;
mod remade;
mod rotation;
mod tamper;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::PATIENCE;
use crate::harness::ca::Ca;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::sentinel::RedisSentinel;
use crate::harness::redis::{Options, RedisServer, Tls};

/// Sends commands, a line each, on one connection.
fn send(port: u16, commands: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(commands.as_bytes()).unwrap();
    stream
}

/// Reads what must come, within a bound.
#[track_caller]
fn expect(stream: &mut TcpStream, expected: &str) {
    let mut answer = vec![0; expected.len()];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), expected);
}

/// Writes the key at its primary and waits until a replica has it as well.
fn write_and_wait(primary: &RedisServer, key: &str) {
    let commands = format!("SET {key} kept\r\nWAIT 1 10000\r\n");
    expect(&mut send(primary.port(), &commands), "+OK\r\n:1\r\n");
}

fn contains(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|at| at == words.as_bytes())
}

#[test]
fn what_was_acknowledged_outlives_a_sigkill_only_in_an_append_only_server() {
    for append_only in [true, false] {
        let mut server = RedisServer::start_with(Options {
            append_only,
            ..Options::default()
        });
        let url = server.url();
        server.cli(&["SET", "ks:root", "1"]);
        server.kill();
        assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
        server.restart();
        let kept = if append_only { "1" } else { "" };
        assert_eq!(server.cli(&["GET", "ks:root"]), kept);
        assert_eq!(server.url(), url);
    }
}

#[test]
fn a_paused_server_accepts_connections_and_answers_only_later() {
    let server = RedisServer::start();
    server.pause();
    let mut stream = send(server.port(), "PING\r\n");
    let bound = Duration::from_millis(200);
    stream.set_read_timeout(Some(bound)).unwrap();
    let waited = stream.read(&mut [0; 1]).unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::WouldBlock);
    server.unpause();
    expect(&mut stream, "+PONG\r\n");
}

#[test]
fn what_a_server_holds_and_was_asked_can_be_seen() {
    let mut server = RedisServer::start();
    // Long and repetitive: Redis would compress it.
    let secret = "secret".repeat(100);
    server.cli(&["HSET", "ks:k:{acme}:keys", "id", &secret]);
    server.cli(&["SET", "plain", &secret]);
    let dump = server.dump();
    assert!(contains(&dump, "ks:k:{acme}:keys") && contains(&dump, &secret));

    let (calls, processed) = (server.calls(), server.commands_processed());
    server.cli(&["GET", "plain"]);
    server.cli(&["GET", "plain"]);
    assert_eq!(server.calls()["get"], 2 + calls.get("get").unwrap_or(&0));
    // Two GET, the look at the calls and the look at the count itself.
    assert_eq!(server.commands_processed(), processed + 4);

    server.flush();
    assert!(!contains(&server.dump(), "secret"));
    server.cli(&["SET", "plain", "1"]);
    server.dump();
    server.restart();
    assert_eq!(server.cli(&["DBSIZE"]), "0", "a dump must not be loaded");
}

#[test]
fn a_user_may_do_what_its_rule_says_and_no_more() {
    let server = RedisServer::start_with(Options {
        password: Some("operator"),
        users: &["sidecar on >watchword ~ks:* +get"],
        ..Options::default()
    });
    server.cli(&["SET", "ks:root", "1"]);
    let plain = format!("redis://127.0.0.1:{}", server.port());
    let sidecar = server.url_as("sidecar", "watchword");
    let wrong = server.url_as("sidecar", "guess");
    #[rustfmt::skip]
    let rows: &[(&str, &[&str], Result<&str, &str>)] = &[
        (&sidecar, &["GET", "ks:root"], Ok("1")),
        (&sidecar, &["GET", "other"], Err("NOPERM")),
        (&sidecar, &["SET", "ks:root", "2"], Err("NOPERM")),
        (&wrong, &["GET", "ks:root"], Err("WRONGPASS")),
        (&plain, &["GET", "ks:root"], Err("NOAUTH")),
    ];
    for (url, args, expected) in rows {
        let answer = server.ask(url, args);
        match expected {
            Ok(reply) => assert_eq!(answer.as_deref(), Ok(*reply), "{url} {args:?}"),
            Err(code) => assert!(answer.unwrap_err().contains(code), "{url} {args:?}"),
        }
    }
}

#[test]
fn with_tls_nobody_is_served_in_plain_text_or_without_a_wanted_certificate() {
    let ca = Ca::new("Redis test CA");
    for tls in [Tls::On(&ca), Tls::Mutual(&ca)] {
        let server = RedisServer::start_with(Options {
            tls,
            ..Options::default()
        });
        assert_eq!(server.cli(&["SET", "a", "1"]), "OK");
        assert!(server.url().starts_with("rediss://"));
        assert_eq!(std::fs::read_to_string(server.ca_file()).unwrap(), ca.pem);

        let plain = server.url().replace("rediss:", "redis:");
        assert!(server.ask(&plain, &["PING"]).is_err());
        let ca_file = server.ca_file();
        let bare = ["--tls", "--cacert", ca_file.to_str().unwrap(), "PING"];
        let served = server.ask(&plain, &bare);
        assert_eq!(served.is_ok(), matches!(tls, Tls::On(_)), "{served:?}");
    }
}

#[test]
fn a_cluster_keeps_what_a_replica_has_acknowledged_when_the_primary_dies() {
    let mut cluster = RedisCluster::start();
    let key = "ks:t:{acme}";
    assert_eq!(cluster.slot_of(key), cluster.slot_of("ks:k:{acme}:keys"));
    assert_eq!(cluster.urls().len(), 6);
    write_and_wait(cluster.primary_of(key), key);
    let before = cluster.primary_of(key).port();
    cluster.kill_primary_of(key);
    cluster.wait_for_failover(key);
    assert_ne!(cluster.primary_of(key).port(), before);
    assert_eq!(cluster.cli(&["GET", key]), "kept");
}

#[test]
fn a_slot_on_the_move_answers_with_ask_and_afterwards_with_moved() {
    let cluster = RedisCluster::start();
    let (there, new) = ("ks:t:{acme}", "ks:k:{acme}:keys");
    cluster.cli(&["SET", there, "1"]);
    let old = cluster.primary_of(there);
    let refusal = |args: &[&str]| old.ask(&old.url(), args).unwrap_err();

    let moving = cluster.start_move(there);
    assert_eq!(old.cli(&["GET", there]), "1");
    assert!(refusal(&["GET", new]).starts_with("ASK "));
    assert!(refusal(&["MGET", there, new]).starts_with("TRYAGAIN"));
    cluster.cli(&["SET", new, "2"]);

    cluster.finish_move(&moving);
    assert!(refusal(&["GET", there]).starts_with("MOVED "));
    assert_eq!(cluster.cli(&["MGET", there, new]), "1\n2");
    assert_ne!(cluster.primary_of(there).port(), old.port());
}

#[test]
fn sentinels_promote_the_replica_when_the_primary_dies() {
    let mut sentinel = RedisSentinel::start();
    assert_eq!(sentinel.sentinel_addresses().len(), 3);
    let before = sentinel.primary().port();
    write_and_wait(sentinel.primary(), "key");
    sentinel.kill_primary();
    sentinel.wait_for_failover();
    let now = sentinel.primary();
    assert_ne!(now.port(), before);
    assert_eq!(now.cli(&["GET", "key"]), "kept");
    assert_eq!(now.cli(&["SET", "key", "more"]), "OK");
}
