//! Every entry that we keep in Redis is deleted, cut, altered, of another type, or somebody else's: no wrong key passes,
//! every key can be revoked, and nobody else is held up.

mod background;
mod kinds;
mod root;
mod world;

use std::time::Duration;

use ::redis::{Value, cmd};
use futures_util::{StreamExt as _, stream};
use keystile::domain::change::Actor;
use keystile::domain::key::Key;
use keystile::domain::name::TenantId;

use world::{Tenant, World};

/// What is done to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Deleted,
    /// Half of it is left.
    Cut,
    /// It holds what nobody of us wrote.
    Garbage,
    OtherType,
    /// It is that of another tenant or key.
    Foreign,
}

const HARMS: [Harm; 5] = [
    Harm::Deleted,
    Harm::Cut,
    Harm::Garbage,
    Harm::OtherType,
    Harm::Foreign,
];

/// How a key of a tenant whose entry is harmed can be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Each key can be revoked by its name.
    ById,
    /// By its lookup id: nothing of the tenant opens, and no key of it passes until its record is put back.
    ByLookupId,
}

/// An entry of one tenant: its name, the field that is harmed if it is not the whole, and what still works.
type OfTenant = (&'static str, Option<&'static str>, Then);

/// `T` is the tenant, `D` its data key, in hex `M`; `K` its live key and `L` the lookup id of that; `F` is when a window
/// of its quotas begins.
const OF_TENANT: &[OfTenant] = &[
    ("ks:t:{T}", None, Then::ByLookupId),
    ("ks:t:{T}", Some("v"), Then::ByLookupId),
    ("ks:t:{T}", Some("d"), Then::ByLookupId),
    ("ks:t:{T}", Some("k"), Then::ByLookupId),
    ("ks:t:{T}", Some("w"), Then::ById),
    ("ks:t:{T}", Some("b"), Then::ByLookupId),
    ("ks:i:{L}", None, Then::ById),
    ("ks:i:{L}", Some("v"), Then::ById),
    ("ks:i:{L}", Some("n"), Then::ById),
    ("ks:i:{L}", Some("t"), Then::ById),
    ("ks:i:{L}", Some("k"), Then::ById),
    ("ks:i:{L}", Some("d"), Then::ById),
    ("ks:i:{L}", Some("b"), Then::ById),
    ("ks:i:{L}", Some("r"), Then::ById),
    ("ks:k:{T}:keys", None, Then::ById),
    ("ks:k:{T}:keys", Some("K"), Then::ById),
    ("ks:k:{T}:ids", None, Then::ById),
    ("ks:k:{T}:by_owner", None, Then::ById),
    ("ks:k:{T}:owners", None, Then::ById),
    ("ks:k:{T}:owners", Some("*"), Then::ById),
    ("ks:k:{T}:outbox", None, Then::ById),
    ("ks:k:{T}:audit", None, Then::ById),
    ("ks:k:{T}:lookups", None, Then::ById),
    ("ks:k:{T}:requests", None, Then::ById),
    ("ks:k:{T}:requests_due", None, Then::ById),
    ("ks:k:{T}:revoking", None, Then::ById),
    ("ks:k:{T}:revoking", Some("K"), Then::ById),
    ("ks:k:{T}:leftovers:D", None, Then::ById),
    ("ks:n:{T}:rl:t:M", None, Then::ById),
    ("ks:n:{T}:rl:k:K", None, Then::ById),
    ("ks:n:{T}:quota:t:M:day:F", None, Then::ById),
    ("ks:n:{T}:quota:t:M:month:F", None, Then::ById),
    ("ks:n:{T}:quota:k:K:day:F", None, Then::ById),
    ("ks:n:{T}:quota:k:K:month:F", None, Then::ById),
];

/// Entries of all tenants together, with the types that they have.
const OF_ALL: &[(&str, &str)] = &[
    ("ks:tenants", "zset"),
    ("ks:{ks:tenants}:begun", "zset"),
    ("ks:{ks:tenants}:total", "string"),
    ("ks:{ks:tenants}:held", "zset"),
    ("ks:{ks:tenants}:live", "hash"),
    ("ks:{ks:tenants}:deleted", "zset"),
    ("ks:{ks:tenants}:lease:rotation", "string"),
    ("ks:{ks:tenants}:lease:check", "string"),
    ("ks:{ks:tenants}:store_id", "string"),
    ("ks:fleet:{fleet}:live", "zset"),
    ("ks:fleet:{fleet}:says", "hash"),
    ("ks:fleet:{fleet}:probe", "string"),
    ("ks:n:{abuse}:blocks:00", "hash"),
];

/// How many cases run side by side.
const AT_ONCE: usize = 8;

/// What stands where nobody of us wrote it: no text, no number, no list.
const GARBAGE: &[u8] = b"\xff\xc1:no/thing\x00of ours";

fn type_of(name: &str) -> &'static str {
    let of_all = OF_ALL.iter().find(|(known, _)| *known == name);
    match (of_all, name.rsplit(':').next().unwrap_or_default()) {
        (None, _) if name.contains(":leftovers:") => "set",
        (Some((_, kind)), _) => kind,
        (None, "ids" | "by_owner" | "requests_due") => "zset",
        (None, "audit") => "stream",
        (None, "lookups") => "set",
        (None, _) => "hash",
    }
}

impl World {
    /// Harms an entry or one of its fields; `foreign` is that of somebody else.
    async fn harm(&self, name: &str, field: Option<&[u8]>, harm: Harm, foreign: (&str, &[u8])) {
        if let Some(field) = field {
            return self.harm_field(name, field, harm, foreign).await;
        }
        let mut delete = cmd("DEL");
        delete.arg(name);
        match harm {
            Harm::Deleted => drop(self.ask::<Value>(&delete).await),
            Harm::Cut => self.cut(name).await,
            Harm::Garbage => self.spoil(name).await,
            Harm::OtherType => {
                self.ask::<Value>(&delete).await;
                let (mut set, mut hset) = (cmd("SET"), cmd("HSET"));
                let other = match type_of(name) {
                    "string" => hset.arg(name).arg("a").arg("b"),
                    _ => set.arg(name).arg("something else"),
                };
                self.ask::<Value>(other).await;
            }
            Harm::Foreign => {
                let mut copy = cmd("COPY");
                self.ask::<Value>(copy.arg(foreign.0).arg(name).arg("REPLACE"))
                    .await;
            }
        }
    }

    async fn harm_field(&self, name: &str, field: &[u8], harm: Harm, foreign: (&str, &[u8])) {
        let mut get = cmd("HGET");
        let mut value: Option<Vec<u8>> = self.ask(get.arg(name).arg(field)).await;
        match harm {
            Harm::Deleted | Harm::OtherType => value = None,
            Harm::Cut => {
                if let Some(value) = &mut value {
                    value.truncate(value.len() / 2);
                }
            }
            Harm::Garbage => value = Some(GARBAGE.to_vec()),
            Harm::Foreign => {
                let mut get = cmd("HGET");
                value = self.ask(get.arg(foreign.0).arg(foreign.1)).await;
            }
        }
        let (mut set, mut delete) = (cmd("HSET"), cmd("HDEL"));
        match value {
            Some(value) => self.ask(set.arg(name).arg(field).arg(value)).await,
            None => self.ask(delete.arg(name).arg(field)).await,
        }
    }

    /// Takes away half of an entry's elements.
    async fn cut(&self, name: &str) {
        let (list, remove) = match type_of(name) {
            "hash" => ("HKEYS", "HDEL"),
            "zset" => ("ZRANGE", "ZREM"),
            "set" => ("SMEMBERS", "SREM"),
            "stream" => {
                let mut trim = cmd("XTRIM");
                return self.ask(trim.arg(name).arg("MAXLEN").arg(1)).await;
            }
            _ => {
                let mut set = cmd("SET");
                return self.ask(set.arg(name).arg("")).await;
            }
        };
        let mut all = cmd(list);
        all.arg(name);
        if list == "ZRANGE" {
            all.arg(0).arg(-1);
        }
        let all: Vec<Vec<u8>> = self.ask(&all).await;
        let mut half = cmd(remove);
        half.arg(name).arg(GARBAGE).arg(&all[..all.len() / 2]);
        self.ask::<Value>(&half).await;
    }

    /// Puts garbage into an entry, over all that it has where that can be.
    async fn spoil(&self, name: &str) {
        let (mut all, mut add) = (cmd("HKEYS"), cmd("HSET"));
        add.arg(name);
        match type_of(name) {
            "hash" => {
                let fields: Vec<Vec<u8>> = self.ask(all.arg(name)).await;
                add.arg(GARBAGE).arg(GARBAGE);
                for field in fields {
                    add.arg(field).arg(GARBAGE);
                }
            }
            "zset" => {
                add = cmd("ZADD");
                add.arg(name).arg(1).arg(GARBAGE).arg("+inf").arg("x/y");
            }
            "set" => {
                add = cmd("SADD");
                add.arg(name).arg(GARBAGE);
            }
            "stream" => {
                add = cmd("XADD");
                let last = "18446744073709551615-18446744073709551615";
                add.arg(name).arg(last).arg(GARBAGE).arg(GARBAGE);
            }
            _ => {
                add = cmd("SET");
                add.arg(name).arg(GARBAGE);
            }
        }
        self.ask::<Value>(&add).await;
    }
}

fn named(pattern: &str, tenant: &Tenant) -> String {
    let parts = pattern.split(':').map(|part| match part {
        "{T}" => format!("{{{}}}", tenant.id),
        "{L}" => format!("{{{}}}", tenant.live.lookup),
        "K" => tenant.live.id.to_string(),
        "D" => tenant.making.to_string(),
        "M" => format!("{:x}", tenant.making),
        "F" => world::WINDOW.0.to_string(),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(":")
}

fn field_of(field: &str, tenant: &Tenant) -> Vec<u8> {
    match field {
        "K" => tenant.live.id.as_str().into(),
        field => field.into(),
    }
}

/// Nothing that was harmed lets a revoked key pass, keeps a live one from being revoked, or holds another tenant up.
async fn check(
    world: &World,
    what: &str,
    (harmed, dek_id): (&Tenant, &str),
    then: Then,
    other: &Tenant,
) {
    let fresh = world.fresh();
    assert!(!world.passes(&fresh, &harmed.revoked).await, "{what}");
    let revoked = world.revoke(&harmed.id, &harmed.live.id).await;
    match then {
        Then::ById => assert_eq!(revoked, Ok(()), "{what}: revoked by id"),
        Then::ByLookupId => {
            let forbidden = world.forbid(harmed.live.lookup).await;
            assert!(forbidden, "{what}: revoked by lookup id");
        }
    }
    let marks = [
        world.interrupt(&harmed.id, dek_id).await,
        world
            .interrupt(&other.id, &world.dek_id(&other.id).await)
            .await,
    ];
    for cache in [&fresh, &world.fresh()] {
        assert!(!world.passes(cache, &harmed.live).await, "{what}: revoked");
        assert!(
            !world.passes(cache, &harmed.revoked).await,
            "{what}: before"
        );
        assert!(world.passes(cache, &other.live).await, "{what}: another's");
    }
    world.until_healed(what, &marks[1]).await;
    if then == Then::ById {
        world.until_healed(what, &marks[0]).await;
    }
    for tenant in [harmed, other] {
        assert!(world.spend(tenant).await, "{what}: limits of {}", tenant.id);
    }
    let more = world.try_key(&other.id).await;
    assert!(more.is_ok(), "{what}: another tenant: {more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_harmed_of_a_tenant_its_keys_can_be_revoked_and_nobody_else_is_held_up() {
    let world = World::new().await;
    let other = world.tenant("other").await;
    let cases = OF_TENANT.iter().enumerate();
    let cases = cases.flat_map(|(number, row)| HARMS.map(|harm| (number, row, harm)));
    let cases = cases.map(|(number, row, harm)| harm_one(&world, &other, number, row, harm));
    let mut done = stream::iter(cases).buffer_unordered(AT_ONCE);
    while let Some(()) = done.next().await {}
}

async fn harm_one(world: &World, other: &Tenant, number: usize, row: &OfTenant, harm: Harm) {
    let (pattern, field, then) = *row;
    let what = format!("{pattern} {field:?} {harm:?}");
    let harmed = world.tenant(&format!("t{number}-{}", harm as u8)).await;
    let dek_id = world.dek_id(&harmed.id).await;
    let name = named(pattern, &harmed);
    let its_field = field.map(|field| field_of(field, &harmed));
    let foreign = field_of(field.unwrap_or_default(), other);
    let foreign = (named(pattern, other), foreign);
    let before = world.dump(&name).await;
    let is_always_there = !name.starts_with("ks:k:");
    assert!(before.is_some() || !is_always_there, "{name} is not there");
    world
        .harm(&name, its_field.as_deref(), harm, (&foreign.0, &foreign.1))
        .await;
    check(world, &what, (&harmed, &dek_id), then, other).await;
    if then == Then::ByLookupId {
        world.restore(&name, before).await;
        let fresh = world.fresh();
        assert!(
            !world.passes(&fresh, &harmed.live).await,
            "{what}: put back"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_is_harmed_of_all_tenants_their_keys_can_be_revoked_and_made() {
    let world = World::new().await;
    let other = world.tenant("other").await;
    for (number, (name, _)) in OF_ALL.iter().enumerate() {
        for (at, harm) in HARMS.into_iter().enumerate() {
            let what = format!("{name} {harm:?}");
            let harmed = world.tenant(&format!("t{number}-{at}")).await;
            let dek_id = world.dek_id(&harmed.id).await;
            let foreign = match type_of(name) {
                "hash" => "ks:k:{other}:owners",
                _ => "ks:k:{other}:ids",
            };
            world.harm(name, None, harm, (foreign, b"")).await;
            let key = world.registry.key(&other.id, &other.live.id).await.unwrap();
            let confirmed = world.registry.confirmed(&[key], Duration::ZERO).await;
            let confirmed = confirmed.unwrap_or_else(|error| panic!("{what}: {error}"));
            if harm == Harm::OtherType && name.starts_with("ks:fleet:") {
                let sidecars = confirmed.by + confirmed.late.len();
                assert_eq!(sidecars, 1, "{what}: who is known to live");
            }
            for lease in ["rotation", "check"] {
                let taken = world
                    .control
                    .lease(lease, "one", Duration::from_secs(60))
                    .await;
                assert!(taken.is_ok(), "{what}: the lease {lease}: {taken:?}");
            }
            check(&world, &what, (&harmed, &dek_id), Then::ById, &other).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_damaged_tenants_do_not_keep_the_others_from_being_healed() {
    let world = World::new().await;
    let other = world.tenant("other").await;
    let mut add = cmd("ZADD");
    add.arg("ks:{ks:tenants}:begun");
    for number in 0..600 {
        let name = format!("ks:t:{{bad{number}}}");
        let mut set = cmd("SET");
        let _: Value = world.ask(set.arg(name).arg("no hash")).await;
        add.arg(1).arg(format!("bad{number}/7/interrupted"));
    }
    let _: u64 = world.ask(&add).await;
    let dek_id = world.dek_id(&other.id).await;
    let mark = world.interrupt(&other.id, &dek_id).await;
    world.until_healed("600 others are damaged", &mark).await;
    assert_eq!(world.control.damage().unhealed(), 600);
    let (_, met) = world.control.damage().counts()[3];
    assert!(met >= 600, "{met}");
    // What is repaired is healed without a restart.
    let repaired = TenantId::parse("bad7").unwrap();
    let _: u64 = world.ask(cmd("DEL").arg("ks:t:{bad7}")).await;
    world
        .until_healed(
            "its record is not damaged any more",
            &format!("{repaired}/7/interrupted"),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_in_the_place_of_an_index_entry_holds_no_change_of_the_key_up() {
    let world = World::new().await;
    let tenant = world.tenant("acme").await;
    let changed = world.key(&tenant.id).await;
    for key in [&tenant.live, &changed] {
        let name = format!("ks:i:{{{}}}", key.lookup);
        let _: u64 = world.ask(cmd("DEL").arg(&name)).await;
        let _: u64 = world
            .ask(cmd("HSET").arg(&name).arg("c").arg("others"))
            .await;
        let _: u64 = world.ask(cmd("PEXPIRE").arg(&name).arg(600_000)).await;
    }
    let revoked = world.revoke(&tenant.id, &tenant.live.id).await;
    assert_eq!(revoked, Ok(()));
    let (actor, note) = (Actor::Operator, String::new());
    let set = |key: &mut Key| key.networks = vec!["192.0.2.0/24".parse().unwrap()];
    let update = (world.registry).update_key(&actor, &tenant.id, &changed.id, None, note, set);
    update.await.unwrap();
    let fresh = world.fresh();
    assert!(!world.passes(&fresh, &tenant.live).await);
    assert!(world.passes(&fresh, &changed).await);
}
