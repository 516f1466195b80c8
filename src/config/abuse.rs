//! The section `abuse`: what it says, and what its fields say together.

use std::time::Duration;

use super::KnownKeys;
use super::mistake::Mistake;
use super::raw::RawAbuse;
use super::text::text_serde;
use crate::domain::block::nat64::Nat64Prefix;

text_serde!(Nat64Prefix, "nat64-prefix", "^.+/(32|40|48|56|64|96)$");

/// When a source that fails is blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbuseConfig {
    pub max_failures: u32,
    pub window: Duration,
    pub block: Duration,
    pub block_max: Duration,
    /// Entries of `x-forwarded-for`, from its end, that trusted proxies write.
    pub trusted_hops: u8,
    /// Prefixes of translators, behind which IPv4 addresses stand.
    pub nat64_prefixes: Vec<Nat64Prefix>,
    pub known_keys: KnownKeys,
    pub max_sources: usize,
}

pub(super) fn config(raw: &RawAbuse) -> AbuseConfig {
    AbuseConfig {
        max_failures: raw.max_failures,
        window: raw.window.0,
        block: raw.block.0,
        block_max: raw.block_max.0,
        trusted_hops: raw.trusted_hops,
        nat64_prefixes: raw.nat64_prefixes.clone(),
        known_keys: raw.known_keys,
        max_sources: raw.max_sources,
    }
}

pub(super) fn check(raw: &RawAbuse, mistakes: &mut Vec<Mistake>) {
    let (block, block_max) = (raw.block, raw.block_max);
    if block_max < block {
        let message =
            format!("{block_max} is shorter than abuse.block {block}; must be at least as long");
        mistakes.push(Mistake::new("abuse.block_max", message).with("abuse.block"));
    }
}
