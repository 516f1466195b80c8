//! How a row is written: `what it shows | listener | request | outcome`, one line each.
//!
//! A request is `METHOD target ; header: value ; …` over HTTP/1.1, byte by byte as written, `GRPC path ; …` over
//! HTTP/2, or `H2:method path ; …` over HTTP/2 with the method as written. `; body 5MiB` adds that much body. `{live}` is the token of that name, `{live.id}` its key id,
//! `{a*300}` three hundred letters a (a `%` in it counts), `\xff` and `\r\n` the bytes they say.
//!
//! An outcome starts with
//! - `200`: the upstream answered, exactly once asked;
//! - `401 invalid_api_key`: Keystile refused, in the form DESIGN 3.2 promises; `401 any` leaves the code open;
//! - `403 by envoy`: refused without an answer of Keystile's;
//! - `refused`: refused, by whomever;
//! - `grpc 16`: the caller's grpc-status; 0 means that the upstream was reached;
//! - `safe`: allowed or not, only what must hold for every row does.
//!
//! and goes on with any of
//! - `up name: value`, `up no name`, `up target /path`, `up body 12`: what the upstream received;
//! - `anonymous`: the upstream received no reserved header at all;
//! - `client name: value`, `client no name`: what the client received; `says text`: its body has the text;
//! - `unread`: Keystile could not read what Envoy asked, and so knows no request id to repeat;
//! - `meta field: value`, `meta no field`: the dynamic metadata, as the access log shows it.
//!
//! A value is the whole value of a header that is there once; `*` is any but an empty one, `~text` one with the
//! text in it.

use super::world::Tokens;

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) id: String,
    pub(crate) listener: String,
    pub(crate) request: String,
    pub(crate) outcome: Outcome,
    pub(crate) more: Vec<Item>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Allowed,
    Denied { status: u16, code: String },
    ByEnvoy(u16),
    Refused,
    Grpc(u8),
    Safe,
}

#[derive(Debug)]
pub(crate) enum Item {
    Up(String, Want),
    Target(String),
    BodyLen(usize),
    Anonymous,
    Unread,
    Client(String, Want),
    Says(String),
    Meta(String, Want),
}

#[derive(Debug)]
pub(crate) enum Want {
    None,
    Some,
    Contains(String),
    Exactly(String),
}

/// Reads a table: blank lines and lines that start with `#` are for people.
#[track_caller]
pub(crate) fn parse(table: &str) -> Vec<Row> {
    let lines = table.lines().map(str::trim);
    let rows = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|line| parse_row(line).unwrap_or_else(|| panic!("not a row: {line}")))
        .collect()
}

fn parse_row(line: &str) -> Option<Row> {
    let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
    let [sentence, listener, request, outcome] = cells.try_into().ok()?;
    let mut parts = outcome.split(" ; ").map(str::trim);
    let first = parse_outcome(parts.next()?)?;
    let more = parts.map(parse_item).collect::<Option<Vec<_>>>()?;
    Some(Row {
        text: line.to_owned(),
        id: sentence.replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
        listener: listener.to_owned(),
        request: request.to_owned(),
        outcome: first,
        more,
    })
}

fn parse_outcome(text: &str) -> Option<Outcome> {
    Some(match text.split_once(' ') {
        None if text == "200" => Outcome::Allowed,
        None if text == "refused" => Outcome::Refused,
        None if text == "safe" => Outcome::Safe,
        Some(("grpc", status)) => Outcome::Grpc(status.parse().ok()?),
        Some((status, "by envoy")) => Outcome::ByEnvoy(status.parse().ok()?),
        Some((status, code)) => Outcome::Denied {
            status: status.parse().ok()?,
            code: code.to_owned(),
        },
        None => return None,
    })
}

fn parse_item(text: &str) -> Option<Item> {
    match text {
        "anonymous" => return Some(Item::Anonymous),
        "unread" => return Some(Item::Unread),
        _ => {}
    }
    let (kind, rest) = text.split_once(' ')?;
    if kind == "says" {
        return Some(Item::Says(rest.to_owned()));
    }
    if let ("up", Some(target)) = (kind, rest.strip_prefix("target ")) {
        return Some(Item::Target(target.to_owned()));
    }
    if let ("up", Some(len)) = (kind, rest.strip_prefix("body ")) {
        return Some(Item::BodyLen(byte_count(len)?));
    }
    let (name, want) = parse_want(rest)?;
    match kind {
        "up" => Some(Item::Up(name, want)),
        "client" => Some(Item::Client(name, want)),
        "meta" => Some(Item::Meta(name, want)),
        _ => None,
    }
}

fn parse_want(text: &str) -> Option<(String, Want)> {
    if let Some(name) = text.strip_prefix("no ") {
        return Some((name.to_owned(), Want::None));
    }
    let (name, value) = text.split_once(": ")?;
    let want = match value.strip_prefix('~') {
        Some(part) => Want::Contains(part.to_owned()),
        None if value == "*" => Want::Some,
        None => Want::Exactly(value.to_owned()),
    };
    Some((name.to_owned(), want))
}

/// `12`, `64KiB`, `5MiB`.
fn byte_count(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    Some(digits.parse::<usize>().ok()? * unit)
}

/// A request with its tokens filled in.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<Vec<u8>>,
    pub(crate) body_len: usize,
}

impl Request {
    pub(crate) fn of(row: &Row, tokens: &Tokens) -> Self {
        let mut parts = row.request.split(" ; ");
        let first = parts.next().unwrap_or_default();
        let (method, target) = first.split_once(' ').expect("METHOD target");
        let mut request = Self {
            method: method.to_owned(),
            target: fill(target, tokens),
            headers: Vec::new(),
            body_len: 0,
        };
        for part in parts {
            match part.trim().strip_prefix("body ") {
                Some(len) => request.body_len = byte_count(len).expect("a byte count"),
                None => request
                    .headers
                    .push(unescape(&fill(part.trim_start(), tokens))),
            }
        }
        request
    }

    fn has(&self, name: &str) -> bool {
        let same = |line: &Vec<u8>| line.to_ascii_lowercase().starts_with(name.as_bytes());
        self.headers.iter().any(same)
    }

    pub(crate) fn http1_bytes(&self, row_id: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.has("host:") {
            bytes.extend(b"host: api.test\r\n");
        }
        bytes.extend(format!("x-row: {row_id}\r\n").into_bytes());
        for line in &self.headers {
            bytes.extend(line);
            bytes.extend(b"\r\n");
        }
        if self.body_len > 0 {
            bytes.extend(format!("content-length: {}\r\n", self.body_len).into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.resize(bytes.len() + self.body_len, b'b');
        bytes
    }

    pub(crate) fn http2_headers(&self, row_id: &str) -> Vec<(String, Vec<u8>)> {
        let mut headers = vec![("x-row".to_owned(), row_id.as_bytes().to_vec())];
        for line in &self.headers {
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
        headers
    }
}

/// Replaces `{name}` by the token, `{a%*3}` by `a0a1a2`.
#[track_caller]
pub(crate) fn fill(text: &str, tokens: &Tokens) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("a closing brace");
        out.push_str(before);
        match name.split_once('*') {
            Some((part, count)) => {
                let count: usize = count.parse().expect("a count");
                out.extend((0..count).map(|n| part.replace('%', &n.to_string())));
            }
            None => out.push_str(
                tokens
                    .get(name)
                    .unwrap_or_else(|| panic!("no token {name}")),
            ),
        }
        rest = after;
    }
    out + rest
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let (value, used) = match (byte, after) {
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', [b'x', high, low, ..]) => (hex(*high) << 4 | hex(*low), 3),
            _ => (*byte, 0),
        };
        out.push(value);
        rest = &after[used..];
    }
    out
}

fn hex(digit: u8) -> u8 {
    let digit = char::from(digit).to_digit(16).expect("a hex digit");
    u8::try_from(digit).expect("one digit")
}
