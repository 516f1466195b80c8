use std::net::IpAddr;

use super::*;
use crate::store::redb::EmbeddedStore;

const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);

const SETTINGS: Settings = Settings {
    max_failures: 3,
    window: Duration::from_secs(60),
    block: Duration::from_secs(60),
    block_max: Duration::from_secs(200),
    known_keys_pass: true,
    max_sources: 64_000,
};

fn blocks(settings: Settings) -> Arc<Blocks> {
    let store = EmbeddedStore::in_memory().unwrap();
    Blocks::new(settings, Arc::new(store))
}

fn source(text: &str) -> Source {
    Source::of(text.parse::<IpAddr>().unwrap())
}

fn numbered(number: u32) -> Source {
    Source::of(IpAddr::V4(number.into()))
}

fn at(seconds: u64) -> Timestamp {
    NOON.plus(Duration::from_secs(seconds))
}

/// Fails as often as it takes, and says for how many seconds the source is blocked then.
fn fail(blocks: &Blocks, source: Source, second: u64, times: u32) -> u64 {
    for _ in 0..times {
        blocks.failed(source, at(second));
    }
    blocks
        .wait(source, at(second))
        .map_or(0, |wait| wait.as_secs())
}

#[test]
fn failures_within_the_window_lead_to_a_block_and_each_is_longer() {
    let blocks = blocks(SETTINGS);
    let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
    assert_eq!(fail(&blocks, one, 0, 2), 0, "one is allowed yet");
    assert_eq!(
        fail(&blocks, one, 60, 2),
        0,
        "the window is over, and a new one begins"
    );
    assert_eq!(fail(&blocks, one, 119, 1), 60);
    assert_eq!(blocks.wait(other, at(119)), None);
    assert_eq!(
        fail(&blocks, one, 178, 9),
        1,
        "failures during a block do not lengthen it"
    );
    assert_eq!(blocks.wait(one, at(179)), None, "it is over");
    assert_eq!(
        fail(&blocks, one, 180, 2),
        0,
        "and failures are counted from none again"
    );
    assert_eq!(fail(&blocks, one, 181, 1), 120, "twice as long");
    assert_eq!(fail(&blocks, one, 301, 3), 200, "at most block_max");
    assert_eq!(fail(&blocks, one, 501, 3), 200);
    assert_eq!(
        fail(&blocks, one, 901, 3),
        60,
        "the last one is forgotten block_max after its end"
    );
    assert_eq!(
        (blocks.made(), blocks.live(at(901)), blocks.live(at(961))),
        (5, 1, 0)
    );
}

#[test]
fn a_holder_of_a_64_is_one_source() {
    let blocks = blocks(SETTINGS);
    for last in 1..=3 {
        blocks.failed(source(&format!("2001:db8:0:7::{last}")), NOON);
    }
    assert!(blocks.wait(source("2001:db8:0:7:ffff::9"), NOON).is_some());
    assert_eq!(blocks.wait(source("2001:db8:0:8::1"), NOON), None);
}

/// The /64 number `number` of one /48.
fn host(number: u32) -> Source {
    source(&format!("2001:db8:7:{number:x}::1"))
}

#[test]
fn who_rotates_through_the_64s_of_a_48_is_blocked_with_all_of_it() {
    // Each /64 is given up before it would be blocked.
    let blocks = blocks(SETTINGS);
    let most = SETTINGS.max_failures * SITE_FACTOR;
    for number in 0..most {
        let before = blocks.wait(host(9_999), at(1));
        assert_eq!(before, None, "after {number} failures");
        blocks.failed(host(number / 2), at(1));
    }
    for address in ["2001:db8:7:9999::1", "2001:db8:7::"] {
        assert!(blocks.wait(source(address), at(1)).is_some(), "{address}");
    }
    assert_eq!(blocks.wait(source("2001:db8:8::1"), at(1)), None);
    let made = blocks.in_memory();
    let made: Vec<String> = made.iter().map(|block| block.source.to_string()).collect();
    assert_eq!(made, ["2001:db8:7::/48"]);
    assert_eq!(blocks.wait(host(1), at(61)), None, "it ends");
}

#[test]
fn one_bad_host_never_blocks_the_48_around_it() {
    let blocks = blocks(Settings {
        window: Duration::from_secs(86_400),
        ..SETTINGS
    });
    for second in 0..86_400 {
        for _ in 0..SETTINGS.max_failures {
            blocks.failed(host(1), at(second));
        }
        assert_eq!(blocks.wait(host(2), at(second)), None, "{second}");
    }
}

#[tokio::test]
async fn what_is_cleared_begins_anew() {
    let blocks = blocks(SETTINGS);
    let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
    assert_eq!(
        (fail(&blocks, one, 0, 3), fail(&blocks, other, 1, 3)),
        (60, 60)
    );
    let listed = blocks.list(at(1)).await.unwrap();
    assert_eq!(
        listed.iter().map(|block| block.source).collect::<Vec<_>>(),
        [one, other]
    );
    assert_eq!(blocks.clear(Some(one), at(1)).await.unwrap(), 1);
    assert_eq!(blocks.clear(Some(one), at(1)).await.unwrap(), 0);
    assert_eq!(blocks.wait(one, at(1)), None);
    assert!(blocks.wait(other, at(1)).is_some());
    assert_eq!(fail(&blocks, one, 2, 3), 60, "not twice as long");
    assert_eq!(blocks.clear(None, at(2)).await.unwrap(), 2);
    assert_eq!(blocks.list(at(2)).await.unwrap(), []);
    assert_eq!(blocks.remembered.load(Ordering::Relaxed), 0);
}

/// Upper bound of what the maps take: an entry and a byte of control each, for every place of a table.
fn bytes(blocks: &Blocks) -> usize {
    fn of<T>(map: &HashMap<Source, T>) -> usize {
        map.capacity() * 8 / 7 * (size_of::<(Source, T)>() + 1)
    }
    let shards = blocks.shards.iter().map(|shard| {
        let shard = shard.lock();
        of(&shard.failing) + of(&shard.failed) + of(&shard.blocks)
    });
    shards.sum()
}

#[test]
fn memory_is_bounded_and_a_live_block_outlives_a_flood_of_sources() {
    let blocks = blocks(SETTINGS);
    let blocked = numbered(7);
    assert_eq!(fail(&blocks, blocked, 0, 3), 60);
    for number in 1000..1_001_000 {
        blocks.failed(numbered(number), at(1));
    }
    let per_source = bytes(&blocks) / SETTINGS.max_sources;
    assert!(
        per_source <= 60,
        "{per_source} bytes a source that is counted"
    );
    assert_eq!(
        fail(&blocks, numbered(1_000_999), 1, 2),
        60,
        "the newest is still counted"
    );
    assert_eq!(
        fail(&blocks, numbered(1000), 1, 2),
        0,
        "the oldest is forgotten"
    );
    assert!(blocks.wait(blocked, at(1)).is_some());
}

#[test]
fn no_live_block_is_given_up_for_another() {
    let blocks = blocks(Settings {
        max_failures: 1,
        max_sources: 6_400,
        ..SETTINGS
    });
    for number in 0..20_000 {
        blocks.failed(numbered(number), at(0));
    }
    let first = blocks.live(at(0));
    assert!((6_000..=6_400).contains(&first), "{first} live blocks");
    let had: Vec<Source> = blocks
        .in_memory()
        .iter()
        .map(|block| block.source)
        .collect();
    for number in 20_000..40_000 {
        blocks.failed(numbered(number), at(30));
    }
    assert!(
        had.iter()
            .all(|source| blocks.wait(*source, at(30)).is_some())
    );
    let per_block = bytes(&blocks) / 6_400;
    assert!(
        per_block <= 160,
        "{per_block} bytes a source, counted and blocked"
    );
    // Those that are over make place.
    assert_eq!(fail(&blocks, numbered(50_000), 61, 1), 60);
}

#[test]
fn blocks_of_others_are_taken_over_and_given_up_with_them() {
    let blocks = blocks(SETTINGS);
    let (own, theirs) = (source("192.0.2.1"), source("192.0.2.2"));
    let block = |source, until, length| Block {
        source,
        until: at(until),
        length: Duration::from_secs(length),
    };
    let part = theirs.part();
    assert_eq!(fail(&blocks, own, 0, 3), 60);
    blocks.take_over(part, &[block(theirs, 90, 60)], at(0));
    assert_eq!(blocks.wait(theirs, at(0)), Some(Duration::from_secs(90)));
    blocks.take_over(part, &[block(theirs, 9_000, 9_000)], at(0));
    let wait = blocks.wait(theirs, at(0));
    assert_eq!(
        wait,
        Some(SETTINGS.block_max),
        "not for longer than we would"
    );
    blocks.take_over(part, &[], at(0));
    assert_eq!(blocks.wait(theirs, at(0)), None);
    blocks.take_over(own.part(), &[], at(0));
    assert!(blocks.wait(own, at(0)).is_some(), "it was not told yet");
    blocks.take_over(own.part(), &[block(own, 60, 60)], at(0));
    blocks.take_over(own.part(), &[], at(0));
    assert_eq!(blocks.wait(own, at(0)), None);
}
