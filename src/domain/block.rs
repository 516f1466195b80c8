//! Sources of requests that failed too often.

pub mod nat64;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;

/// Marks an IPv4 address: as the beginning of an IPv6 address it would be in `::/8`, which nobody has.
const IPV4: u64 = 1 << 32;

/// Marks the first 48 bits of an IPv6 address, which stand behind it: that is in `::/8` too.
const SITE: u64 = 0x0030 << 48;

/// Whom failures are counted against: one IPv4 address, or the /64 of an IPv6 address, of which one holder has all; or the
/// site around it, a /48, of which one holder may have all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(u64);

impl Source {
    /// How many parts all sources are divided into.
    pub const PARTS: u8 = 64;

    /// The source that an address belongs to. `::ffff:192.0.2.1` is 192.0.2.1, as is every other way to write that.
    pub fn of(address: IpAddr) -> Self {
        match nat64::canonical(address, &[]) {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits())),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }

    /// The /48 around a /64.
    pub fn site(self) -> Option<Self> {
        let is_64 = self.ipv4().is_none() && !self.is_site();
        is_64.then_some(Self(SITE | self.0 >> 16))
    }

    fn is_site(self) -> bool {
        self.0 >> 48 == SITE >> 48
    }

    fn ipv4(self) -> Option<Ipv4Addr> {
        u32::try_from(self.0 ^ IPV4).ok().map(Ipv4Addr::from_bits)
    }

    /// The part that it is in, below [`Self::PARTS`]; neighbours are in different ones. Stored: may never change.
    pub fn part(self) -> u8 {
        // Fibonacci hashing: the upper six bits of the product.
        let [first, ..] = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        first >> 2
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = |bits: u64| Ipv6Addr::from_bits(u128::from(bits) << 64);
        match self.ipv4() {
            Some(address) => write!(f, "{address}"),
            None if self.is_site() => write!(f, "{}/48", net(self.0 << 16)),
            None => write!(f, "{}/64", net(self.0)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Who shows a credential that may be a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presenter {
    /// Nobody knows who it is; it comes from here, if from an address.
    Stranger(Option<Source>),
    /// Somebody who has been recognised, and asks about another's.
    Recognised(Option<Source>),
}

impl Presenter {
    /// Whom a failure is counted against.
    pub fn source(self) -> Option<Source> {
        match self {
            Self::Stranger(source) | Self::Recognised(source) => source,
        }
    }
}

/// A text that names no source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an IP address, or the first 64 or 48 bits of one such as 2001:db8::/64")]
pub struct NotASource;

impl FromStr for Source {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        let net = |text: &str| text.parse::<Ipv6Addr>().map_err(|_| NotASource);
        if let Some(text) = text.strip_suffix("/48") {
            return Self::of(IpAddr::V6(net(text)?)).site().ok_or(NotASource);
        }
        let address = match text.strip_suffix("/64") {
            Some(text) => IpAddr::V6(net(text)?),
            None => text.parse().map_err(|_| NotASource)?,
        };
        Ok(Self::of(address))
    }
}

/// That a source is refused for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Who.
    pub source: Source,
    /// The end; the block is over from then on.
    pub until: Timestamp,
    /// How long it was made for: the next one is twice as long.
    pub length: Duration,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_64_bits_of_ipv6() {
        for (address, shown) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("255.255.255.255", "255.255.255.255"),
            ("0.0.0.0", "0.0.0.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("::1", "::/64"),
        ] {
            assert_eq!(source(address).to_string(), shown);
            assert_eq!(shown.parse(), Ok(source(address)), "{shown}");
        }
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        for (address, site) in [
            ("2001:db8:1:2::1", "2001:db8:1::/48"),
            ("2001:db8:1:ffff::", "2001:db8:1::/48"),
            ("ffff:ffff:ffff:1::", "ffff:ffff:ffff::/48"),
            ("::1", "::/48"),
        ] {
            let around = source(address).site().unwrap();
            assert_eq!(around.to_string(), site);
            assert_eq!(site.parse(), Ok(around));
            assert_eq!(around.site(), None, "nothing is around a site");
        }
        assert_eq!(source("192.0.2.1").site(), None);
        for bad in [
            "",
            "x",
            "192.0.2.1/64",
            "2001:db8::/47",
            "192.0.2.1/48",
            "::ffff:192.0.2.1/48",
            "192.0.2.1:80",
        ] {
            assert_eq!(bad.parse::<Source>(), Err(NotASource), "{bad}");
        }
    }

    #[test]
    fn neighbours_are_in_different_parts() {
        let parts: BTreeSet<u8> = (0..=255_u8)
            .map(|last| Source::of([192, 0, 2, last].into()).part())
            .collect();
        assert!(parts.iter().all(|part| *part < Source::PARTS));
        assert!(parts.len() > 32, "{parts:?}");
    }
}
