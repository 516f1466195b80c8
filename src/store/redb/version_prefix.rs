//! What is kept in clear before a sealed body: the id of the change, and whether it revokes.
//!
//! Rows of before there were change ids have the body alone. A sealed body begins with 1.

use crate::domain::version::Version;

/// What a body with a version prefix begins with; no sealed body does.
const PREFIXED: u8 = 0;
const REVOKED: u8 = 1;

/// The bytes of a body with its version prefix.
pub(super) fn put(version: Version, is_revoked: bool, body: &[u8]) -> Vec<u8> {
    let is_plain = version.change == 0 && !is_revoked && body.first() != Some(&PREFIXED);
    if is_plain {
        return body.to_vec();
    }
    let mut bytes = Vec::with_capacity(body.len() + 10);
    bytes.push(PREFIXED);
    bytes.push(if is_revoked { REVOKED } else { 0 });
    bytes.extend(version.change.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The version whose order is stored beside the bytes, whether it revokes, and the body.
pub(super) fn read(order: u64, bytes: &[u8]) -> (Version, bool, &[u8]) {
    let prefixed = bytes.strip_prefix(&[PREFIXED]);
    let parts = prefixed.and_then(|rest| {
        let (flags, rest) = rest.split_first()?;
        let (change, body) = rest.split_first_chunk::<8>()?;
        Some((*flags, u64::from_be_bytes(*change), body))
    });
    match parts {
        Some((flags, change, body)) => (Version { order, change }, flags & REVOKED != 0, body),
        None => (order.into(), false, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_back_with_its_stamp_and_an_old_one_without() {
        for (change, is_revoked) in [(0, false), (0, true), (7, false), (u64::MAX, true)] {
            let version = Version { order: 5, change };
            for body in [&b""[..], b"\x01sealed", b"\0", b"\0\0\0\0\0\0\0\0\0\0\0"] {
                let bytes = put(version, is_revoked, body);
                assert_eq!(read(5, &bytes), (version, is_revoked, body));
            }
        }
        let old = b"\x01sealed before there were ids";
        assert_eq!(read(5, old), (5.into(), false, &old[..]));
    }
}
