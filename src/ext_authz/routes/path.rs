//! What of a request may be compared with rules: a path and a host that every reader reads alike. All else is refused
//! before a rule is looked for, since the upstream could see another path than the rule did.
//!
//! The path is never given to a URL parser and never changed: it is cut at the first `?` and read or refused.

use percent_encoding::percent_decode;

use crate::domain::route::{PathTemplate, Segment};

/// Signs of templates that a client may send percent-encoded and an upstream may decode: `%3a` for a `:` in
/// `/v1/images:batch`. One bit an ASCII character.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Escapable(u128);

impl Escapable {
    /// What the templates are made of.
    pub(super) fn in_templates<'a>(templates: impl Iterator<Item = &'a PathTemplate>) -> Self {
        let segments = templates.flat_map(PathTemplate::segments);
        let bytes = segments.flat_map(|segment| match segment {
            Segment::Text(text) => text.as_bytes(),
            Segment::Any => &[],
        });
        let plain = bytes.filter(|byte| byte.is_ascii());
        Self(plain.fold(0, |set, byte| set | 1 << byte))
    }

    fn has(self, byte: u8) -> bool {
        byte.is_ascii() && self.0 & (1 << byte) != 0
    }
}

/// The path without query and without a slash at its end, which most upstreams ignore; none for CONNECT.
pub(super) fn plain_path<'a>(
    target: &'a [u8],
    method: &[u8],
    escapable: &Escapable,
) -> Result<Option<&'a str>, &'static str> {
    if target.is_empty() && method == b"CONNECT" {
        return Ok(None);
    }
    let end = target.iter().position(|b| *b == b'?');
    let path = &target[..end.unwrap_or(target.len())];
    if path.first() != Some(&b'/') {
        return Err("the path does not begin with a slash");
    }
    check_bytes(path, *escapable)?;
    if target[path.len()..].contains(&b'#') {
        return Err("the path has a fragment");
    }
    let path = std::str::from_utf8(path).map_err(|_| "the path is not ASCII")?;
    check_segments(&path[1..])?;
    let trimmed = path.strip_suffix('/').filter(|path| !path.is_empty());
    Ok(Some(trimmed.unwrap_or(path)))
}

fn check_segments(path: &str) -> Result<(), &'static str> {
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err("the path has a dot segment"),
            "" if segments.peek().is_some() => return Err("the path has two slashes together"),
            _ => {}
        }
    }
    Ok(())
}

fn check_bytes(path: &[u8], escapable: Escapable) -> Result<(), &'static str> {
    let mut escapes_high = false;
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b'%' => escapes_high |= check_escape(&path[at + 1..], escapable)?,
            b'\\' => return Err("the path has a backslash"),
            b';' => return Err("the path has a semicolon"),
            b'#' => return Err("the path has a fragment"),
            0..=b' ' | 0x7f => return Err("the path has a control character or a space"),
            0x80.. => return Err("the path is not ASCII"),
            _ => {}
        }
    }
    // Overlong forms of a slash are not UTF-8, and careless decoders take them for one.
    if escapes_high && percent_decode(path).decode_utf8().is_err() {
        return Err("the path has percent-encoded bytes that are not UTF-8");
    }
    Ok(())
}

/// Reads the two digits after a `%`; says whether they stand for a byte of a longer character.
fn check_escape(rest: &[u8], escapable: Escapable) -> Result<bool, &'static str> {
    let byte = hex_byte(rest).ok_or("the path has a broken percent escape")?;
    match byte {
        b'/' => Err("the path has an encoded slash"),
        b'\\' => Err("the path has an encoded backslash"),
        b';' => Err("the path has an encoded semicolon"),
        0..b' ' | 0x7f => Err("the path has an encoded control character"),
        b'%' if hex_byte(&rest[2..]).is_some() => Err("the path is encoded twice"),
        _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
            Err("the path has an encoded character that needs no encoding")
        }
        _ if escapable.has(byte) => Err("the path has an encoded character that rules look for"),
        _ => Ok(!byte.is_ascii()),
    }
}

fn hex_byte(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// The host without its port and the dot at its end, in the case in which it came.
pub(super) fn plain_host(authority: &[u8]) -> Result<&[u8], &'static str> {
    const ODD: &str = "the host is not a name or an address";
    let (host, port) = match authority.iter().rposition(|b| *b == b':') {
        // The colons of an IPv6 address stand before its bracket.
        Some(at) if !authority[at..].contains(&b']') => (&authority[..at], &authority[at + 1..]),
        Some(_) | None => (authority, &b"0"[..]),
    };
    let is_port = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let address = host
        .strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"));
    let name = host.strip_suffix(b".").unwrap_or(host);
    let is_host = match address {
        Some(address) => std::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok()),
        None => name.split(|b| *b == b'.').all(is_label),
    };
    if is_port && is_host {
        Ok(name)
    } else {
        Err(ODD)
    }
}

fn is_label(label: &[u8]) -> bool {
    let legal = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
    !label.is_empty() && label.iter().all(legal)
}
