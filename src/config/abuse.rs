//! The section `abuse`: what it says, and what its fields say together.

use super::mistake::Mistake;
use super::section::Abuse;
use super::text::text;
use crate::domain::block::nat64::{Nat64Prefix, NotANat64Prefix};

text!(
    Nat64Prefix,
    "nat64-prefix",
    "^.+/(32|40|48|56|64|96)$",
    "a prefix such as `64:ff9b:1::/48`",
    |text| text.parse().map_err(|why: NotANat64Prefix| why.to_string())
);

pub(super) fn check(raw: &Abuse, mistakes: &mut Vec<Mistake>) {
    let (block, block_max) = (raw.block, raw.block_max);
    if block_max < block {
        let message =
            format!("{block_max} is shorter than abuse.block {block}; must be at least as long");
        mistakes.push(Mistake::new("abuse.block_max", message).with("abuse.block"));
    }
}
