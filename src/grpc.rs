//! What of gRPC over HTTP/2 we read and write ourselves: the content type, the caller's timeout, and the prefix of a
//! message.

use std::time::Duration;

use http::{HeaderMap, header};

/// Length of what stands before a message: a flag, and the message's length.
pub const PREFIX_LEN: usize = 5;

/// The encoding of the messages that a content type names, empty where none is named; none unless it is gRPC's.
/// gRPC-web and Connect are not gRPC.
pub fn encoding(content_type: &[u8]) -> Option<&[u8]> {
    const GRPC: &[u8] = b"application/grpc";
    let essence = content_type.split(|byte| *byte == b';').next()?;
    let (start, rest) = essence.trim_ascii_end().split_at_checked(GRPC.len())?;
    match rest {
        _ if !start.eq_ignore_ascii_case(GRPC) => None,
        [] => Some(rest),
        [b'+', encoding @ ..] => Some(encoding),
        [..] => None,
    }
}

/// Whether the content type of a message is gRPC's.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| encoding(value.as_bytes()).is_some())
}

/// `grpc-timeout` cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout must be 1 to 8 digits and one of H M S m u n")]
pub struct BadTimeout;

/// How long the caller waits, if it says so in `grpc-timeout`.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    let value = headers.get("grpc-timeout");
    let parse = |text: &str| parse_timeout(text).ok_or(BadTimeout);
    let text = value.map(|value| value.to_str().map_err(|_| BadTimeout));
    text.transpose()?.map(parse).transpose()
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // A number's `parse` takes a sign as well.
    let is_right = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_right)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What stands before a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Whether the message is compressed.
    pub compressed: bool,
    /// The message's length.
    pub len: u32,
}

impl Prefix {
    /// Reads a prefix, once all of it is there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (&[flag, a, b, c, d], _) = bytes.split_first_chunk::<PREFIX_LEN>()?;
        Some(Self {
            compressed: flag != 0,
            len: u32::from_be_bytes([a, b, c, d]),
        })
    }

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; PREFIX_LEN] {
        let [a, b, c, d] = self.len.to_be_bytes();
        [u8::from(self.compressed), a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_the_type_of_its_content() {
        for (kind, expected) in [
            ("application/grpc", Some("")),
            ("Application/gRPC", Some("")),
            ("application/grpc+proto", Some("proto")),
            ("Application/GRPC+json", Some("json")),
            ("application/grpc; charset=utf-8", Some("")),
            ("application/grpc+proto ;x=y", Some("proto")),
            ("application/grpcx", None),
            ("application/grpc x", None),
            ("application/grpc-web", None),
            ("application/grpc-web+proto", None),
            ("application/connect+json", None),
            ("application/json", None),
            ("", None),
        ] {
            let named = encoding(kind.as_bytes());
            assert_eq!(named, expected.map(str::as_bytes), "{kind}");
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(is_grpc(&headers), expected.is_some(), "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("", None),
            ("S", None),
            ("1", None),
            ("+5S", None),
            ("-1S", None),
            (" 1S", None),
            ("1.5S", None),
            ("123456789S", None),
            ("1s", None),
            ("1€", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_prefix_is_read_as_it_was_written() {
        let prefix = Prefix {
            compressed: false,
            len: 0x0102_0304,
        };
        assert_eq!(prefix.to_bytes(), [0, 1, 2, 3, 4]);
        assert_eq!(Prefix::read(&[0, 1, 2, 3, 4, 9]), Some(prefix));
        assert_eq!(Prefix::read(&[0, 1, 2, 3]), None);
    }
}
