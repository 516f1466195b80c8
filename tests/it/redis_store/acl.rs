//! Processes under the rules that `keystile redis-acl` prints: enough to work, and not one command more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use sha2::{Digest as _, Sha256};

use super::blocks::{GUESSER, listed, wait_until};
use super::{Fleet, ask, check_life_of_a_key};
use crate::harness::PATIENCE;
use crate::harness::redis::cluster::RedisCluster;
use crate::harness::redis::{Options, RedisServer};
use crate::support::client;
use crate::support::program::Place;

const PASSWORD: &str = "correct horse";

/// What `redis-acl` prints, with the password.
fn printed(args: &[&str]) -> String {
    let printed = Place::empty().do_it(&[&["redis-acl"], args].concat());
    let mut sum = String::new();
    for byte in Sha256::digest(PASSWORD) {
        write!(sum, "{byte:02x}").unwrap();
    }
    let rules = printed.trim_end();
    assert!(rules.contains("#SHA256_OF_THE_PASSWORD "), "{rules}");
    rules.replace("SHA256_OF_THE_PASSWORD", &sum)
}

/// A Redis on which nobody is anything without a password, and on which the sidecar is from the ACL file.
pub(super) fn guarded() -> RedisServer {
    let line = printed(&["sidecar", "--format", "aclfile"]);
    let redis = RedisServer::start_with(Options {
        password: Some("operator"),
        users: &[line.strip_prefix("user ").unwrap()],
        // Otherwise these are refused to all, before it is looked who asks.
        more: "enable-module-command local\nenable-debug-command local",
        ..Options::default()
    });
    let command = printed(&["control-plane"]);
    let words: Vec<&str> = command.split(' ').collect();
    assert_eq!(redis.cli(&words), "OK");
    redis
}

fn fields_for(user: &str, servers: &str, dir: &tempfile::TempDir) -> String {
    let file = dir.path().join("password");
    crate::harness::write_secret(&file, &format!("{PASSWORD}\n"));
    format!(
        "{servers}, username: {user}, password_file: {}",
        file.display()
    )
}

fn fleet(servers: &str, dir: &tempfile::TempDir) -> Fleet {
    fleet_with(servers, dir, "")
}

pub(super) fn fleet_with(servers: &str, dir: &tempfile::TempDir, config: &str) -> Fleet {
    Fleet::start_with(
        &fields_for("keystile-control-plane", servers, dir),
        &fields_for("keystile-sidecar", servers, dir),
        config,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_rules_are_enough() {
    let redis = guarded();
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(&super::at(&redis), &dir);
    check_life_of_a_key(&fleet).await;
    let control = &fleet.control;
    let key = fleet.create_key();
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    assert_eq!(ask(&channel, &key.token).await, 200);
    for (args, status) in [
        (&["tenant", "suspend", "acme"][..], 403),
        (&["tenant", "resume", "acme"], 200),
        (&["key", "update", "acme", &key.id, "--scope", "read"], 200),
        (&["key", "list", "acme"], 200),
        (&["tenant", "list"], 200),
        (
            &["key", "revoke-all", "acme", "--owner", "bob", "--yes"],
            200,
        ),
        (&["tenant", "delete", "acme", "--yes"], 401),
    ] {
        control.do_it(args);
        super::ask_until(&channel, &key.token, status).await;
    }
    control.do_it(&["tenant", "create", "acme"]);
    assert_eq!(ask(&channel, &fleet.create_key().token).await, 200);
    // What was refused would be in here.
    assert_eq!(redis.cli(&["ACL", "LOG"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_rules_are_enough_to_share_blocks() {
    let redis = guarded();
    let dir = tempfile::tempdir().unwrap();
    let mut control = Place::with_keyrings();
    control.use_redis(&fields_for(
        "keystile-control-plane",
        &super::at(&redis),
        &dir,
    ));
    control.bootstrap();
    let sidecars = [control.sidecar(), control.sidecar()];
    for sidecar in &sidecars {
        sidecar.add_config("abuse: {max_failures: 3}");
        sidecar.use_redis(&fields_for("keystile-sidecar", &super::at(&redis), &dir));
    }
    let _running = [control.serve(), sidecars[0].serve(), sidecars[1].serve()];
    let one = client::tcp(sidecars[0].authz).await;
    let two = client::tcp(sidecars[1].authz).await;
    for _ in 0..3 {
        client::ask_from(&one, &[("x-api-key", "short")], GUESSER).await;
    }
    wait_until(&two, 429, GUESSER).await;
    assert_eq!(listed(&control), [GUESSER]);
    control.do_it(&["blocks", "clear", GUESSER]);
    wait_until(&two, 401, GUESSER).await;
    wait_until(&one, 401, GUESSER).await;
    control.do_it(&["blocks", "clear", "--all"]);
    // What was refused would be in here.
    assert_eq!(redis.cli(&["ACL", "LOG"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_rules_are_enough_on_a_cluster() {
    let redis = RedisCluster::start();
    let urls = redis.urls();
    for process in ["sidecar", "control-plane"] {
        let command = printed(&[process]);
        let words: Vec<&str> = command.split(' ').collect();
        for url in &urls {
            let done = redis.primary_of("any").ask(url, &words);
            assert_eq!(done.as_deref(), Ok("OK"));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let servers = format!("mode: cluster, url: \"{}\"", urls[0]);
    let fleet = fleet(&servers, &dir);
    check_life_of_a_key(&fleet).await;
}

#[test]
fn a_store_is_copied_under_the_rules_of_a_control_plane() {
    let redis = guarded();
    let dir = tempfile::tempdir().unwrap();
    let place = Place::bootstrapped();
    place.use_redis(&fields_for(
        "keystile-control-plane",
        &super::at(&redis),
        &dir,
    ));
    let config = "keystile.yaml";
    for (from, to) in [
        ("embedded:keystile.redb", config),
        (config, "embedded:back.redb"),
    ] {
        place.do_it(&["store", "migrate", "--from", from, "--to", to, "-c", config]);
    }
    // What was refused would be in here.
    assert_eq!(redis.cli(&["ACL", "LOG"]), "");
}

/// Sends commands as the sidecar, a line each, and reads a line for each: a refusal is one.
fn as_sidecar(redis: &RedisServer, commands: &[String]) -> Vec<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let login = format!("AUTH keystile-sidecar \"{PASSWORD}\"\r\n");
    stream.write_all(login.as_bytes()).unwrap();
    stream.write_all(commands.join("\r\n").as_bytes()).unwrap();
    stream.write_all(b"\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    lines.take(commands.len()).collect()
}

/// Every command with how many words it takes at least, its own name's among them.
fn all_commands(redis: &RedisServer) -> BTreeMap<String, usize> {
    let script = "local all = {} \
        for _, name in ipairs(redis.call('COMMAND', 'LIST')) do \
            local arity = redis.call('COMMAND', 'INFO', name)[1][2] \
            all[#all + 1] = name .. ' ' .. math.abs(arity) \
        end \
        return all";
    let lines = redis.cli(&["EVAL", script, "0"]);
    let line = |line: &str| {
        let (name, words) = line.split_once(' ').unwrap();
        (name.to_owned(), words.parse().unwrap())
    };
    lines.lines().map(line).collect()
}

/// A call with `key` wherever an argument may be a key.
fn call(name: &str, words_min: usize, key: &str) -> String {
    let words = name.split('|').count();
    let arguments = words_min - words;
    let mut call = name.replace('|', " ");
    for at in 0..arguments {
        // The number of keys that follow.
        let is_count = at == 1 && name.starts_with("evalsha");
        write!(call, " {}", if is_count { "1" } else { key }).unwrap();
    }
    if name.starts_with("evalsha") {
        write!(call, " {key}").unwrap();
    }
    call
}

/// The names after `+` in a rule.
fn allowed(rules: &str) -> BTreeSet<String> {
    let words = rules.split([' ', '(', ')']);
    words
        .filter_map(|word| word.strip_prefix('+'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_sidecar_is_refused_everything_else() {
    let redis = guarded();
    redis.cli(&["HSET", "ks:t:{acme}", "v", "1"]);
    redis.cli(&["HSET", "ks:k:{acme}:keys", "id", "sealed"]);
    let rules = printed(&["sidecar"]);
    let allowed = allowed(&rules);
    let (shared_from, without_keys) = (
        rules.split_once('(').unwrap().1,
        [
            "hello",
            "auth",
            "select",
            "ping",
            "client|tracking",
            "cluster|slots",
            "asking",
            "time",
        ],
    );
    assert!(shared_from.contains("+set "), "{rules}");
    // Redis lets everybody begin and end a connection.
    let of_everybody = ["auth", "hello", "quit", "reset"];

    let all = all_commands(&redis);
    let mut commands = Vec::new();
    for (name, words_min) in &all {
        let name = name.as_str();
        // A family's own name is no command.
        let is_family = all
            .keys()
            .any(|other| other.starts_with(&format!("{name}|")));
        if is_family || of_everybody.contains(&name) || without_keys.contains(&name) {
            continue;
        }
        for key in [
            "ks:k:{acme}:keys",
            "ks:t:{acme}",
            "ks:tenants",
            "ks:{ks:tenants}:total",
            "other",
        ] {
            let is_read = name == "hmget" && key == "ks:t:{acme}";
            if !is_read {
                commands.push(call(name, *words_min, key));
            }
        }
    }
    assert!(commands.len() > 1500, "{}", commands.len());
    let answers = as_sidecar(&redis, &commands);
    for (command, answer) in commands.iter().zip(&answers) {
        let is_refused = answer.starts_with('-') && answer.contains("NOPERM ");
        assert!(is_refused, "{command}: {answer}");
    }
    assert!(allowed.contains("hmget") && !allowed.contains("hkeys"));
    assert_eq!(redis.cli(&["HGETALL", "ks:k:{acme}:keys"]), "id\nsealed");
}

#[test]
fn a_script_of_a_sidecar_may_do_no_more_than_the_sidecar() {
    let redis = guarded();
    redis.cli(&["HSET", "ks:k:{acme}:keys", "id", "sealed"]);
    let url = redis.url_as("keystile-sidecar", "correct%20horse");
    let run = |script: &str, keys: &[&str]| {
        // As a control plane does for it.
        let sha = redis.cli(&["SCRIPT", "LOAD", script]);
        let count = keys.len().to_string();
        redis.ask(&url, &[&["EVALSHA", &sha, &count], keys].concat())
    };
    let counted = run(
        "return redis.call('INCRBY', KEYS[1], 2)",
        &["ks:n:{acme}:rl"],
    );
    assert_eq!(counted.as_deref(), Ok("2"));
    for script in [
        "return redis.call('HGETALL', 'ks:k:{acme}:keys')",
        "return redis.call('HSET', 'ks:t:{acme}', 'v', 1)",
        "return redis.call('DEL', 'ks:i:{00}')",
        "return redis.call('FLUSHALL')",
    ] {
        let refused = run(script, &[]).unwrap_err();
        assert!(
            refused.contains("The user executing the script can't"),
            "{script}: {refused}"
        );
    }
    let refused = run("return 1", &["ks:k:{acme}:keys"]).unwrap_err();
    assert!(refused.contains("NOPERM"), "{refused}");
}

/// A sidecar's password is stolen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_sidecar_cannot_keep_redis_busy_with_a_script_of_its_own() {
    let redis = guarded();
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet_with(&super::at(&redis), &dir, "rate_limits: {mode: strict}");
    let url = redis.url_as("keystile-sidecar", "correct%20horse");
    let endless = "while true do end";
    let library =
        "#!lua name=endless\nredis.register_function('endless', function() while true do end end)";
    for command in [
        &["SCRIPT", "LOAD", endless][..],
        &["EVAL", endless, "0"],
        &["EVAL_RO", endless, "0"],
        &["FUNCTION", "LOAD", library],
        &["FCALL", "endless", "0"],
        &["SCRIPT", "FLUSH"],
    ] {
        let refused = redis.ask(&url, command).unwrap_err();
        assert!(refused.contains("NOPERM"), "{command:?}: {refused}");
    }
    let settle = include_str!("../../../src/store/redis/lua/settle.lua");
    let sha = redis.cli(&["SCRIPT", "LOAD", settle]);
    let many: Vec<String> = (0..1000).map(|at| format!("ks:n:{{a}}:{at}")).collect();
    let mut call = vec!["EVALSHA", &sha, "1000"];
    call.extend(many.iter().map(String::as_str));
    let refused = redis.ask(&url, &call).unwrap_err();
    assert!(refused.contains("too many buckets"), "{refused}");

    // What sidecars run is there again soon after somebody has flushed it: a control plane sees to it.
    let tenant = ["tenant", "update", "acme", "--quota", "1000/day"];
    fleet.control.do_it(&tenant);
    let key = fleet.create_key();
    let channel = client::tcp(fleet.sidecars[0].authz).await;
    let used = || {
        redis.cli(&["EVAL", "local all = redis.call('KEYS', 'ks:n:{acme}:quota:*') return all[1] and redis.call('HGET', all[1], 'l') or ''", "0"])
    };
    for _ in 0..2 {
        redis.cli(&["SCRIPT", "FLUSH"]);
        let before = used();
        crate::harness::wait_until("it is counted", async || {
            ask(&channel, &key.token).await;
            used() != before
        })
        .await;
    }
}
