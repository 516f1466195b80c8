//! The section `abuse`, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::KnownKeys;
use crate::config::quantity::HumanDuration;
use crate::domain::block::nat64::Nat64Prefix;

section! {
    #[serde(default)]
    Abuse {
        /// So many answers `invalid_api_key` within `window` lead to a block.
        #[schemars(range(min = 1, max = 1_000_000))]
        pub max_failures: u32,
        /// In what time failures are counted, from the first one on.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1d"))]
        pub window: HumanDuration,
        /// How long the first block of a source lasts. Each one that follows is twice as long.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1d"))]
        pub block: HumanDuration,
        /// The longest block, and how long after its end the last one is remembered.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "30d"))]
        pub block_max: HumanDuration,
        /// Who is counted: 0 is the connection's address as Envoy sees it, 1 the last entry of `x-forwarded-for`, 2 the one
        /// before, and so on. Only as many as proxies in front of Envoy, and Envoy itself, write. Where the entry is no
        /// address, or there are fewer, the connection's address is counted.
        #[schemars(range(max = 16))]
        pub trusted_hops: u8,
        /// Prefixes under which translators of your own (NAT64) put IPv4 addresses into IPv6 ones, such as `64:ff9b:1::/48`:
        /// then the IPv4 address is counted. Without asking this is done for `64:ff9b::/96`, 6to4, Teredo and `::ffff:0:0/96`.
        #[schemars(length(max = 16))]
        pub nat64_prefixes: Vec<Nat64Prefix>,
        /// What a blocked source may still do: `pass`, use keys that this sidecar has in memory, so that valid keys behind
        /// one address with somebody who guesses keep working; `block`, nothing with a key.
        pub known_keys: KnownKeys,
        /// The most sources that are counted, and the most that are blocked at a time: about 55 bytes for each counted and
        /// 90 for each blocked.
        #[schemars(range(min = 1000, max = 50_000_000))]
        pub max_sources: usize,
    }
}
