//! IPv6 addresses that stand for an IPv4 address: behind a translator or a tunnel, thousands of IPv4 hosts share one /64.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::Ipv6Net;

/// The prefix of a translator's IPv6 addresses, with the IPv4 address behind it where RFC 6052 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Prefix(Ipv6Net);

/// A text that is no such prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, such as 64:ff9b:1::/48 (RFC 6052)"
)]
pub struct NotANat64Prefix;

impl FromStr for Nat64Prefix {
    type Err = NotANat64Prefix;

    fn from_str(text: &str) -> Result<Self, NotANat64Prefix> {
        let net: Ipv6Net = text.parse().map_err(|_| NotANat64Prefix)?;
        let is_known = matches!(net.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96);
        let is_prefix = is_known && net.trunc() == net;
        is_prefix.then_some(Self(net)).ok_or(NotANat64Prefix)
    }
}

impl fmt::Display for Nat64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Nat64Prefix {
    fn ipv4(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if !self.0.contains(&address) {
            return None;
        }
        // The byte after the first 64 bits is never part of an address.
        let octets = address.octets().into_iter().enumerate();
        let mut behind = octets.skip(usize::from(self.0.prefix_len() / 8));
        let mut next = || behind.find(|(at, _)| *at != 8).map(|(_, octet)| octet);
        Some(Ipv4Addr::new(next()?, next()?, next()?, next()?))
    }
}

/// The address itself, or the IPv4 address that it stands for.
pub fn canonical(address: IpAddr, prefixes: &[Nat64Prefix]) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else {
        return address.to_canonical();
    };
    let configured = prefixes.iter().find_map(|prefix| prefix.ipv4(v6));
    configured
        .or_else(|| well_known(v6))
        .map_or(address, IpAddr::V4)
}

/// Of the ways that are the same everywhere.
fn well_known(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let v4 = |bits: u128| Ipv4Addr::from_bits((bits & 0xffff_ffff) as u32);
    match address.segments() {
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(v4(bits)),
        // 6to4 (RFC 3056): whoever has the IPv4 address has the /48.
        [0x2002, ..] => Some(v4(bits >> 80)),
        // Teredo (RFC 4380): all clients of a server share a /64; their own address is inverted.
        [0x2001, 0, ..] => Some(v4(!bits)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(address: &str, prefixes: &[&str]) -> String {
        let prefixes: Vec<Nat64Prefix> = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        canonical(address.parse().unwrap(), &prefixes).to_string()
    }

    #[test]
    fn an_address_that_stands_for_an_ipv4_address_is_that() {
        for (address, expected) in [
            ("192.0.2.33", "192.0.2.33"),
            ("::ffff:192.0.2.33", "192.0.2.33"),
            ("64:ff9b::192.0.2.33", "192.0.2.33"),
            ("2002:c000:221:7::1", "192.0.2.33"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdde", "192.0.2.33"),
            ("2001:db8::192.0.2.33", "2001:db8::c000:221"),
            ("64:ff9b:1::192.0.2.33", "64:ff9b:1::c000:221"),
            ("64:ff9b:0:0:1::c000:221", "64:ff9b::1:0:c000:221"),
            ("2001:1::c000:221", "2001:1::c000:221"),
            ("::1", "::1"),
        ] {
            assert_eq!(shown(address, &[]), expected, "{address}");
        }
    }

    #[test]
    fn a_configured_prefix_has_its_address_where_rfc_6052_has_it() {
        // The table of its section 2.4.
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b:1::/48", "64:ff9b:1:c000:2:2100::"),
            ("64:ff9b:1:abcd::/96", "64:ff9b:1:abcd::192.0.2.33"),
        ] {
            assert_eq!(
                shown(address, &["2001:db9::/96", prefix]),
                "192.0.2.33",
                "{prefix}"
            );
        }
        assert_eq!(shown("2001:db8:1::1", &["2001:db8::/96"]), "2001:db8:1::1");
        for bad in [
            "",
            "64:ff9b:1::",
            "64:ff9b:1::/47",
            "64:ff9b:1::1/96",
            "192.0.2.0/24",
        ] {
            assert_eq!(bad.parse::<Nat64Prefix>(), Err(NotANat64Prefix), "{bad}");
        }
    }
}
