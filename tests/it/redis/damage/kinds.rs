//! No kind of entry is kept in Redis that the tables of damage do not know.

use std::collections::BTreeSet;
use std::time::Duration;

use ::redis::cmd;
use futures_util::StreamExt as _;
use keystile::clock::Clock as _;
use keystile::domain::block::{Block, Source};
use keystile::domain::change::Actor;
use keystile::domain::governance::{GlobalOverride, KeyRules};
use keystile::registry::{Etag, RequestId};
use tokio::time::timeout;

use super::world::{Tenant, World};
use super::{OF_ALL, OF_TENANT, root};
use crate::harness::PATIENCE;
use crate::harness::redis::listener;

/// Kinds that no row harms, and why.
const NOT_HARMED: &[(&str, &str)] = &[
    (
        "ks:fleet:ask:{L}:Q",
        "a question of one revocation that is waited for; it lives for two minutes, and one that is lost is not answered",
    ),
    (
        "ks:fleet:ack:{L}:Q",
        "its answers; what is lost is not confirmed, which the caller hears",
    ),
];

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn braced(text: &str) -> Option<&str> {
    text.strip_prefix('{')?.strip_suffix('}')
}

/// Whether a name is of the kind that a pattern of the tables is of.
fn is_of(pattern: &str, name: &str) -> bool {
    let (patterns, parts): (Vec<_>, Vec<_>) =
        (pattern.split(':').collect(), name.split(':').collect());
    let is_part = |(pattern, part): (&&str, &&str)| match *pattern {
        "{T}" => braced(part).is_some_and(|id| !id.is_empty()),
        "{L}" => braced(part).is_some_and(|id| id.len() == 32 && is_hex(id)),
        "K" => part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "M" | "Q" => is_hex(part),
        "D" | "F" => is_number(part),
        "{R}" => braced(part).is_some(),
        literal => literal == *part,
    };
    patterns.len() == parts.len() && patterns.iter().zip(&parts).all(is_part)
}

/// The parts of all blocked sources are of one kind, of which the table names one.
fn is_block(pattern: &str, name: &str) -> bool {
    let part = pattern
        .strip_suffix("00")
        .filter(|stem| stem.ends_with(":blocks:"))
        .and_then(|stem| name.strip_prefix(stem));
    part.is_some_and(is_number)
}

/// The pattern of the tables that a name is of.
fn pattern_of(name: &str) -> Option<&'static str> {
    let of_tenant = OF_TENANT.iter().map(|(pattern, ..)| *pattern);
    let of_all = OF_ALL.iter().map(|(pattern, _)| *pattern);
    let not_harmed = NOT_HARMED.iter().map(|(pattern, _)| *pattern);
    let mut all = of_tenant.chain(of_all).chain(root::NAMES).chain(not_harmed);
    all.find(|pattern| is_of(pattern, name) || is_block(pattern, name))
}

#[test]
fn a_name_that_no_row_is_for_is_noticed() {
    for (name, expected) in [
        ("ks:t:{acme}", Some("ks:t:{T}")),
        ("ks:n:{acme}:rl:t:2a", Some("ks:n:{T}:rl:t:M")),
        ("ks:n:{abuse}:blocks:63", Some("ks:n:{abuse}:blocks:00")),
        ("ks:root", Some("ks:root")),
        ("ks:k:{acme}:owners", Some("ks:k:{T}:owners")),
        ("ks:k:{acme}:something", None),
        ("ks:n:{acme}:rl:t", None),
        ("ks:i:{acme}", None),
        ("ks:t:{}", None),
        ("ks:other", None),
    ] {
        assert_eq!(pattern_of(name), expected, "{name}");
    }
}

/// Does all that leaves something in Redis.
async fn live_a_whole_life(world: &World) {
    let (registry, actor) = (&world.registry, Actor::Operator);
    // A bound on all keys together, which creates under way hold places of.
    registry.set_key_rules(KeyRules {
        global_override: Some(GlobalOverride {
            max_total: Some(1_000),
            ..GlobalOverride::default()
        }),
        ..crate::support::generous_rules()
    });
    let Tenant { id, live, .. } = &world.tenant("acme").await;
    let request = RequestId::new("f81d4fae-7dec-4d0a-a765-00a0c91e6bf6", b"").unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let rotated = registry.rotate_key(&actor, id, &live.id, day, None, Some(&request));
    rotated.await.unwrap();
    world.revoke(id, &live.id).await.unwrap();
    let key = registry.key(id, &live.id).await.unwrap();
    let confirmed = registry.confirmed(&[key], PATIENCE).await.unwrap();
    assert_eq!((confirmed.by, confirmed.late), (1, Vec::new()));
    let until = world.clock.now().plus(day);
    let source = Source::of("192.0.2.1".parse().unwrap());
    let block = Block {
        source,
        until,
        length: day,
    };
    world.control.put_block(block).await.unwrap();
    let leads = world.control.lease("rotation", "one", day).await;
    assert!(leads.unwrap());
    let gone = world.tenant("gone").await;
    let etag = Etag::of_tenant(&registry.tenant(&gone.id).await.unwrap());
    registry
        .delete_tenant(&actor, &gone.id, etag)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_kind_of_entry_that_redis_is_given_has_a_row_in_the_tables_of_damage() {
    let world = World::new().await;
    let mut notify = cmd("CONFIG");
    notify.arg("SET").arg("notify-keyspace-events").arg("KA");
    let _: String = world.ask(&notify).await;
    let mut heard = listener(world.server.port()).await;
    heard.psubscribe("__keyspace@0__:*").await.unwrap();

    live_a_whole_life(&world).await;
    let _: String = world.ask(cmd("SET").arg("the end").arg(1)).await;
    let mut names: BTreeSet<String> = world.ask(cmd("KEYS").arg("ks:*")).await;
    let mut messages = heard.into_on_message();
    loop {
        let message = timeout(PATIENCE, messages.next()).await.unwrap().unwrap();
        match message.get_channel_name().split_once("__:") {
            Some((_, "the end")) => break,
            Some((_, name)) => drop(names.insert(name.to_owned())),
            None => {}
        }
    }
    let unknown: Vec<_> = names
        .iter()
        .filter(|name| pattern_of(name).is_none())
        .collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let known: BTreeSet<_> = names.iter().filter_map(|name| pattern_of(name)).collect();
    for pattern in [
        "ks:root",
        "ks:k:{T}:outbox",
        "ks:k:{T}:revoking",
        "ks:k:{T}:requests",
        "ks:k:{T}:leftovers:D",
        "ks:{ks:tenants}:held",
        "ks:fleet:ask:{L}:Q",
        "ks:fleet:ack:{L}:Q",
        "ks:n:{abuse}:blocks:00",
        "ks:n:{T}:quota:k:K:month:F",
    ] {
        assert!(known.contains(pattern), "nothing has made {pattern}");
    }
}
