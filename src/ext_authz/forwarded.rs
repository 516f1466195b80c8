//! Who the caller is behind proxies that we trust. Only failures are counted by it: networks of keys are compared with
//! the connection's own address.

use std::net::{IpAddr, SocketAddr};

/// The entry of `x-forwarded-for` that stands `hops` from its end: 1 is the last. `lines` are the header's, as they came.
/// None when there are fewer, or when it is no address.
pub(super) fn caller(lines: &[&[u8]], hops: u8) -> Option<IpAddr> {
    let at = usize::from(hops).checked_sub(1)?;
    let mut entries = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|b| *b == b','));
    address(std::str::from_utf8(entries.nth(at)?).ok()?.trim())
}

/// An address; some proxies write its port too.
fn address(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let plain = inner.unwrap_or(text).parse().ok();
    plain.or_else(|| {
        text.parse()
            .map(|with_port: SocketAddr| with_port.ip())
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_a_trusted_proxy_wrote_is_read_and_no_other() {
        for (lines, hops, expected) in [
            (&["192.0.2.1"][..], 0, None),
            (&["192.0.2.1"], 1, Some("192.0.2.1")),
            (&["192.0.2.1"], 2, None),
            (&["198.51.100.9, 192.0.2.1 ,10.0.0.1"], 1, Some("10.0.0.1")),
            (&["198.51.100.9, 192.0.2.1 ,10.0.0.1"], 2, Some("192.0.2.1")),
            (
                &["198.51.100.9", "192.0.2.1, 10.0.0.1"],
                3,
                Some("198.51.100.9"),
            ),
            (&["192.0.2.1:4711"], 1, Some("192.0.2.1")),
            (&["[2001:db8::1]:4711"], 1, Some("2001:db8::1")),
            (&["[2001:db8::1]"], 1, Some("2001:db8::1")),
            (&["unknown"], 1, None),
            (&["192.0.2.1,"], 1, None),
            (&["192.0.2.1,\u{fc}"], 1, None),
            (&[], 1, None),
        ] {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let expected = expected.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(caller(&bytes, hops), expected, "{lines:?} {hops}");
        }
    }
}
