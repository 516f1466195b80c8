//! Networks that keys may be used from, as people write them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Longer texts are no network.
const LEN_MAX: usize = 64;
const RULE: &str = "must be a network such as 10.0.0.0/8 or 2001:db8::/32, or one address";
/// Where IPv4 addresses are in IPv6.
const MAPPED: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
const MAPPED_LEN: u8 = 96;

/// A network in CIDR notation, or one address. Says what is wrong otherwise.
///
/// Bits behind the prefix are refused: they hide a mistake. `::ffff:10.0.0.0/104` is 10.0.0.0/8: callers are compared
/// as what they are, so that the first form would match none.
pub fn parse(text: &str) -> Result<IpNet, String> {
    if text.len() > LEN_MAX {
        return Err(RULE.into());
    }
    let network = match text.parse() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| RULE)?),
    };
    let network = canonical(network);
    if network.addr() != network.network() {
        return Err(format!(
            "has bits behind its prefix: did you mean {}?",
            network.trunc()
        ));
    }
    if network.prefix_len() >= 64 && network.contains(&IpAddr::V6(MAPPED)) {
        return Err("takes in IPv4 addresses written as IPv6 and others: write 0.0.0.0/0".into());
    }
    Ok(network)
}

/// The network of IPv4 that one of IPv6 stands for, if it does.
pub fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let v4 = v6.addr().to_ipv4_mapped().and_then(|address| {
        let len = v6.prefix_len().checked_sub(MAPPED_LEN)?;
        Ipv4Net::new(address, len).ok()
    });
    v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv4_is_one_however_it_is_written() {
        for (text, network) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:a00:0/104", "10.0.0.0/8"),
            ("0:0:0:0:0:FFFF:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(
                parse(text).map(|found| found.to_string()).as_deref(),
                Ok(network),
                "{text}"
            );
        }
    }

    #[test]
    fn what_would_match_nothing_or_hides_a_mistake_is_refused() {
        for (text, said) in [
            ("10.1.0.0/8", "did you mean 10.0.0.0/8?"),
            ("::ffff:10.1.0.0/104", "did you mean 10.0.0.0/8?"),
            ("::fffe:0:0/95", "takes in IPv4 addresses"),
            ("::/64", "takes in IPv4 addresses"),
            ("10.0.0.0/33", "must be a network"),
            ("10.0.0", "must be a network"),
            ("", "must be a network"),
        ] {
            let found = parse(text);
            assert!(
                found.as_ref().is_err_and(|found| found.contains(said)),
                "{text}: {found:?}"
            );
        }
    }
}
