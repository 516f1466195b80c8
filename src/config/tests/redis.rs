//! The Redis store: every form of address, and what its fields say together.

use std::time::Duration;

use super::mistakes::file_with;
use super::{load, mistakes};
use crate::config::{StorePlace, is_plain_text_beyond_the_machine};
use crate::store::redis::{Address, Login, Settings, Tls, Topology};

fn store_of(fields: &str) -> String {
    file_with(&format!("store: {{kind: redis, redis: {{{fields}}}}}"))
}

#[track_caller]
fn parsed(fields: &str) -> Settings {
    match load(&store_of(fields), &[]).config.store.place() {
        StorePlace::Redis(redis) => *redis,
        StorePlace::Embedded { .. } => panic!("{fields}"),
    }
}

fn node(host: &str, port: u16) -> Address {
    Address::Tcp {
        host: host.to_owned(),
        port,
    }
}

fn login(user: Option<&str>, file: &str) -> Login {
    Login {
        username: user.map(str::to_owned),
        password_file: Some(file.into()),
    }
}

fn local() -> Settings {
    Settings {
        topology: Topology::Standalone(node("127.0.0.1", 6379)),
        database: 0,
        login: Login::default(),
        tls: None,
        prefix: "ks:".to_owned(),
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
    }
}

#[test]
fn a_url_is_enough() {
    let tls = Some(Tls {
        ca_file: None,
        client: None,
    });
    let tcp = |host: &str, port| Topology::Standalone(node(host, port));
    let unix = Topology::Standalone(Address::Unix("/run/redis.sock".into()));
    for (url, topology, database, tls) in [
        ("redis://127.0.0.1", tcp("127.0.0.1", 6379), 0, None),
        ("redis://redis.svc:7000/", tcp("redis.svc", 7000), 0, None),
        ("redis://[::1]:7000/12", tcp("::1", 7000), 12, None),
        ("rediss://cache.example", tcp("cache.example", 6379), 0, tls),
        ("unix:/run/redis.sock", unix, 0, None),
    ] {
        let expected = Settings {
            topology,
            database,
            tls,
            ..local()
        };
        assert_eq!(parsed(&format!("url: \"{url}\"")), expected, "{url}");
    }
}

#[test]
fn what_is_written_arrives() {
    let with_user = parsed("url: \"redis://ks@127.0.0.1\", password_file: p");
    assert_eq!(with_user.login, login(Some("ks"), "p"));
    let beside = parsed("url: \"redis://127.0.0.1\", username: ks, password_file: p");
    assert_eq!(beside, with_user);
    let mine = parsed(
        "url: \"redis://127.0.0.1\", password_file: p, prefix: \"eu/ks:\", connect_timeout: 1s, response_timeout: 500ms",
    );
    let expected = Settings {
        login: login(None, "p"),
        prefix: "eu/ks:".to_owned(),
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_millis(500),
        ..local()
    };
    assert_eq!(mine, expected);

    let sentinel = parsed(
        "mode: sentinel, url: \"rediss://ks@s1/2\", nodes: [\"s2:5000\"], service: main, \
         password_file: p, sentinel_username: w, sentinel_password_file: q, ca_file: ca, cert_file: c, key_file: k",
    );
    let expected = Settings {
        topology: Topology::Sentinel {
            sentinels: vec![node("s1", 26379), node("s2", 5000)],
            service: "main".to_owned(),
            login: login(Some("w"), "q"),
        },
        database: 2,
        login: login(Some("ks"), "p"),
        tls: Some(Tls {
            ca_file: Some("ca".into()),
            client: Some(("c".into(), "k".into())),
        }),
        ..local()
    };
    assert_eq!(sentinel, expected);

    let cluster = parsed("mode: cluster, nodes: [\"a:1\", \"[::1]:2\"], tls: true");
    let nodes = vec![node("a", 1), node("::1", 2)];
    assert_eq!(cluster.topology, Topology::Cluster { nodes });
    assert!(cluster.tls.is_some());
}

#[test]
fn a_mistake_says_what_to_write() {
    const LOCAL: &str = "url: \"redis://127.0.0.1\"";
    for (fields, expected) in [
        (
            "".to_owned(),
            "store.redis.url: is missing: it says where the store is; write `url: \"redis://127.0.0.1:6379\"`",
        ),
        (
            format!("{LOCAL}, nodes: [\"a:1\"]"),
            "store.redis.nodes: is for `mode: sentinel` and `mode: cluster`; a single server is named by `url`",
        ),
        (
            "mode: sentinel, service: a".to_owned(),
            "store.redis.nodes: is missing: it names the sentinels; write `nodes: [\"redis-1.example:26379\"]`",
        ),
        (
            "mode: sentinel, nodes: [\"a:1\"]".to_owned(),
            "store.redis.service: is missing: what the sentinels call the primary; write `service: mymaster`",
        ),
        (
            "mode: cluster".to_owned(),
            "store.redis.nodes: is missing: it names some nodes of the cluster; write `nodes: [\"redis-1.example:6379\"]`",
        ),
        (
            "mode: cluster, url: \"redis://a/2\"".to_owned(),
            "store.redis.url: names database 2; a cluster has database 0 alone",
        ),
        (
            "mode: cluster, url: \"unix:/run/redis.sock\"".to_owned(),
            "store.redis.url: is a Unix socket; `mode: cluster` needs `host:port`",
        ),
        (
            format!("{LOCAL}, service: a, sentinel_username: b, sentinel_password_file: c"),
            "store.redis.sentinel_password_file: is for `mode: sentinel`; write that, or take this line out\n\
             store.redis.sentinel_username: is for `mode: sentinel`; write that, or take this line out\n\
             store.redis.service: is for `mode: sentinel`; write that, or take this line out",
        ),
        (
            format!("{LOCAL}, username: ks"),
            "store.redis.username: names a user, who needs `password_file` beside it: Redis knows nobody without",
        ),
        (
            "url: \"redis://ks@a\"".to_owned(),
            "store.redis.url: names a user, who needs `password_file` beside it: Redis knows nobody without",
        ),
        (
            "url: \"redis://ks@a\", username: ks, password_file: p".to_owned(),
            "store.redis.username: is in `url` as well; keep one",
        ),
        (
            "mode: sentinel, nodes: [\"a:1\"], service: s, sentinel_username: w".to_owned(),
            "store.redis.sentinel_username: names a user, who needs `sentinel_password_file` beside it: Redis knows nobody without",
        ),
        (
            format!("{LOCAL}, tls: true"),
            "store.redis.tls: contradicts `url`: TLS is `rediss://`, `redis://` and `unix:` are plain text",
        ),
        (
            format!("{LOCAL}, ca_file: a"),
            "store.redis.ca_file: is for TLS, which is off; begin `url` with `rediss://`, or take this line out",
        ),
        (
            "mode: cluster, nodes: [\"a:1\"], cert_file: a, key_file: b".to_owned(),
            "store.redis.cert_file: is for TLS, which is off; write `tls: true`, or take this line out\n\
             store.redis.key_file: is for TLS, which is off; write `tls: true`, or take this line out",
        ),
        (
            "url: \"rediss://a\", cert_file: a".to_owned(),
            "store.redis.cert_file: needs `key_file` beside it",
        ),
        (
            "url: \"rediss://a\", key_file: a".to_owned(),
            "store.redis.key_file: needs `cert_file` beside it",
        ),
        (
            format!("{LOCAL}, mode: sentinal, service: a"),
            "store.redis.mode: `sentinal` is not one of `standalone`, `sentinel`, `cluster`; did you mean `sentinel`?",
        ),
        (
            format!("{LOCAL}, prefix: \"{{ks}}:\""),
            "store.redis.prefix: `{ks}:` is not a prefix (1 to 32 visible ASCII characters, none of { } ( ) * ? [ ] ^ \\ \" ')",
        ),
        (
            format!("{LOCAL}, pasword_file: a"),
            "store.redis.pasword_file: unknown field `pasword_file`; did you mean `password_file`?",
        ),
        (
            "mode: cluster, nodes: [a]".to_owned(),
            "store.redis.nodes[0]: has no port; write `host:port`",
        ),
        (
            format!("{LOCAL}, response_timeout: 2m"),
            "store.redis.response_timeout: `2m` is out of bounds; must be from 10ms to 1m",
        ),
    ] {
        assert_eq!(
            mistakes(&store_of(&fields), &[]).join("\n"),
            expected,
            "{fields}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let fields = "mode: cluster, url: \"redis://ks@a/2\", service: a, key_file: k";
    let paths: Vec<String> = mistakes(&store_of(fields), &[])
        .iter()
        .map(|line| line.split(':').next().unwrap().replace("store.redis.", ""))
        .collect();
    assert_eq!(paths, ["key_file", "key_file", "service", "url", "url"]);
}

#[test]
fn a_password_in_a_url_or_a_node_is_refused_and_never_repeated() {
    let refused = "store.redis.url: holds a password, which whoever sees this configuration could read; put it into a file, name that as `password_file`, and take `:` and what follows up to `@` out";
    for url in [
        "redis://ks:hunter2@127.0.0.1",
        "redis://:hunter2@127.0.0.1",
        "rediss://ks:hun/ter2?#@127.0.0.1:6379/1",
        "redis://ks:hunter2@x@127.0.0.1",
    ] {
        let found = mistakes(&store_of(&format!("url: \"{url}\"")), &[]);
        assert_eq!(found, [refused]);
        let environment = [("KEYSTILE__STORE__REDIS__URL", url)];
        let found = mistakes(&store_of(""), &environment).join("\n");
        assert!(
            found.contains("(from KEYSTILE__STORE__REDIS__URL): holds a password"),
            "{found}"
        );
    }
    for fields in [
        "url: \"http://ks:hunter2@a\"",
        "url: \"redis://a:hunter2\"",
        "url: \"redis://a/hunter2\"",
        "url: \"redis://a?password=hunter2\"",
        "url: \"redis://hunter2%20@a\"",
        "mode: cluster, nodes: [\"ks:hunter2@a:1\"]",
    ] {
        let found = mistakes(&store_of(fields), &[]).join("\n");
        assert!(!found.is_empty() && !found.contains("hunter2"), "{found}");
    }
}

#[test]
fn the_section_of_a_store_that_is_not_used_says_nothing() {
    load(
        &file_with("store: {redis: {mode: sentinel, ca_file: a}}"),
        &[],
    );
    load(
        &file_with(
            "store: {kind: redis, redis: {url: \"redis://a\"}}\nkeyring: {data: {file: keystile.redb}}",
        ),
        &[],
    );
}

#[test]
fn a_summary_names_the_servers() {
    for (fields, expected) in [
        ("url: \"redis://[::1]\"", "[::1]:6379"),
        ("url: \"unix:/run/redis.sock\"", "unix:/run/redis.sock"),
        (
            "mode: cluster, nodes: [\"a:1\", \"b:2\"]",
            "cluster a:1, b:2",
        ),
        (
            "mode: sentinel, nodes: [\"a:1\"], service: main",
            "main by sentinels a:1",
        ),
    ] {
        let summary = load(&store_of(fields), &[]).config.summary();
        let store = format!("; Redis store {expected}; ");
        assert!(summary.contains(&store), "{summary}");
    }
}

#[test]
fn plain_text_beyond_the_machine_is_known() {
    for (fields, leaves) in [
        ("url: \"redis://127.0.0.1\"", false),
        ("url: \"redis://localhost\"", false),
        ("url: \"unix:/run/redis.sock\"", false),
        ("url: \"redis://redis.svc\"", true),
        ("url: \"rediss://redis.svc\"", false),
        ("mode: cluster, nodes: [\"127.0.0.1:1\", \"a:2\"]", true),
    ] {
        let redis = parsed(fields);
        assert_eq!(is_plain_text_beyond_the_machine(&redis), leaves, "{fields}");
    }
}
