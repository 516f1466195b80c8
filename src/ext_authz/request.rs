//! `CheckRequest` -> the facts that a decision may use, and what of the request has to be taken out.

use std::net::IpAddr;
use std::time::Duration;

use prost::DecodeError;

use crate::domain::block;
use crate::domain::limit::COST_MAX;
use crate::domain::request::{AccessRequest, Charge, Mode, Rule};
use crate::ext_authz::Settings;
use crate::ext_authz::credential::{self, Bearer, Finder, Source};
use crate::ext_authz::forwarded;
use crate::ext_authz::reserved::same_header;
use crate::ext_authz::routes::{Matched, Routes};
use crate::ext_authz::wire::{Field, entry, fields};

/// What the caller speaks, as far as a refusal depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// Plain HTTP, gRPC-web and Connect included: they read the HTTP status.
    #[default]
    Http,
    /// gRPC: reads `grpc-status`.
    Grpc,
}

/// A request as Envoy describes it, read in place.
#[derive(Debug, Default)]
pub struct Incoming<'a> {
    finder: Finder<'a>,
    rule: Rule<'a>,
    /// A configured rule that is only tried out.
    shadow: Option<Rule<'a>>,
    /// The route said something of its own, which replaces the configured rules.
    has_own_rule: bool,
    /// What was found in the configured rules, if they were asked.
    pub(super) matched: Option<Matched<usize>>,
    source: Option<IpAddr>,
    /// Whom trusted proxies name as the caller.
    forwarded_for: Option<IpAddr>,
    ambiguity: Option<&'static str>,
    pub(super) target: Target<'a>,
    /// The end of a `keystile.…` name whose rule we do not understand: nothing may pass by it.
    pub(super) bad_rule: Option<&'a [u8]>,
    /// Nobody is waiting for this answer but somebody who wants it explained.
    pub(super) dry_run: bool,
    pub(super) caller: Caller,
    /// For correlation: the client's or Envoy's id, if it is harmless.
    pub(super) request_id: Option<&'a str>,
    /// Envoy shows us only some headers (`allowed_headers`).
    pub(super) filtered: bool,
    /// The client's headers that could pass for ours.
    pub(super) forged: Vec<&'a str>,
    /// Headers that hold a key.
    pub(super) key_headers: Vec<&'a str>,
    /// The header that holds a bearer token.
    pub(super) bearer_header: Option<(&'a str, &'a [u8])>,
    /// Query parameters that hold a key, as they are spelled.
    pub(super) key_parameters: Vec<&'a str>,
    /// The `cookie` header without the key.
    pub(super) cookie_rest: Option<Vec<u8>>,
}

/// What is asked for, as it will reach the upstream unless a route rewrites it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target<'a> {
    pub(super) method: &'a [u8],
    pub(super) authority: &'a [u8],
    /// With its query; empty for CONNECT.
    pub(super) path: &'a [u8],
}

/// What is seen of the headers before all of them have been seen.
#[derive(Default)]
struct Scan<'a> {
    method_seen: bool,
    single_seen: u8,
    cookies: Vec<u8>,
    forwarded: Vec<&'a [u8]>,
    stream_id: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// Reads an encoded `CheckRequest`. Fails only if it is not protobuf; text that is not UTF-8 is not an error,
    /// since an error could let the request pass (compare CVE-2024-23324).
    pub fn read(message: &'a [u8], settings: &Settings) -> Result<Self, DecodeError> {
        let mut incoming = Self::default();
        let mut scan = Scan::default();
        fields(message, |tag, field| match (tag, field) {
            (1, Field::Bytes(attributes)) => {
                incoming.read_attributes(attributes, settings, &mut scan)
            }
            _ => Ok(()),
        })?;
        incoming.finish(settings, &scan);
        Ok(incoming)
    }

    /// The facts for the decision.
    pub fn access_request(&self, time_left: Option<Duration>) -> AccessRequest<'_> {
        AccessRequest {
            rule: self.rule.clone(),
            shadow: self.shadow.clone(),
            credential: self.finder.credential(),
            ambiguity: self.ambiguity,
            source: self.source,
            caller: self.caller_source(),
            time_left,
            charge: if self.dry_run {
                Charge::Look
            } else {
                Charge::Cost
            },
        }
    }

    /// Looks for the configured rule of this request. With path rules, a path that can be read in two ways is refused
    /// whatever the route says of its own.
    pub(super) fn route(&mut self, routes: &'a Routes) {
        match routes.find(&self.target) {
            Ok(matched) if !self.has_own_rule => {
                self.rule = matched
                    .enforced
                    .map_or_else(Rule::default, |at| routes.demands(at));
                self.shadow = matched.shadow.map(|at| routes.demands(at));
                self.matched = Some(matched);
            }
            Ok(_) => {}
            Err(why) => self.ambiguity = Some(why),
        }
    }

    /// Forgets the request's id if a client has put its key there: the id goes into answers and logs.
    pub(super) fn hide_key_in_request_id(&mut self, holds_token: impl Fn(&[u8]) -> bool) {
        let finder = &self.finder;
        self.request_id = self
            .request_id
            .filter(|id| !holds_token(id.as_bytes()) && !finder.found_in(id.as_bytes()));
    }

    /// Whom a failure is counted against. A rehearsal counts nothing.
    fn caller_source(&self) -> Option<block::Source> {
        let address = self.forwarded_for.or(self.source);
        address.filter(|_| !self.dry_run).map(block::Source::of)
    }

    /// Where a credential was found, in words.
    pub(super) fn credential_places(&self) -> String {
        let headers = self.key_headers.iter().map(|name| format!("header {name}"));
        let bearer = self
            .bearer_header
            .map(|(name, _)| format!("bearer token in {name}"));
        let parameters = self.key_parameters.iter();
        let parameters = parameters.map(|name| format!("query parameter {name}"));
        let cookie = self.cookie_rest.as_ref().map(|_| "cookie".to_owned());
        let places = headers.chain(bearer).chain(parameters).chain(cookie);
        places.collect::<Vec<_>>().join(", ")
    }

    /// What the route demands.
    pub fn rule(&self) -> &Rule<'a> {
        &self.rule
    }

    fn read_attributes(
        &mut self,
        message: &'a [u8],
        settings: &Settings,
        scan: &mut Scan<'a>,
    ) -> Result<(), DecodeError> {
        fields(message, |tag, field| match (tag, field) {
            (1, Field::Bytes(peer)) => self.read_source(peer),
            (4, Field::Bytes(request)) => fields(request, |tag, field| match (tag, field) {
                (2, Field::Bytes(http)) => self.read_http(http, settings, scan),
                _ => Ok(()),
            }),
            (10, Field::Bytes(extension)) => {
                let (name, value) = entry(extension)?;
                self.read_extension(name, value);
                Ok(())
            }
            _ => Ok(()),
        })
    }

    /// `Peer.address.socket_address.address`: the connection's remote address, as Envoy's configuration sees it.
    fn read_source(&mut self, peer: &'a [u8]) -> Result<(), DecodeError> {
        fields(peer, |tag, field| match (tag, field) {
            (1, Field::Bytes(address)) => fields(address, |tag, field| match (tag, field) {
                (1, Field::Bytes(socket)) => {
                    let (_, address) = entry(socket)?;
                    self.source = std::str::from_utf8(address)
                        .ok()
                        .and_then(|text| text.parse().ok());
                    Ok(())
                }
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }

    fn read_http(
        &mut self,
        http: &'a [u8],
        settings: &Settings,
        scan: &mut Scan<'a>,
    ) -> Result<(), DecodeError> {
        fields(http, |tag, field| {
            let Field::Bytes(bytes) = field else {
                return Ok(());
            };
            match tag {
                1 => scan.stream_id = bytes,
                3 => {
                    let (name, value) = entry(bytes)?;
                    self.read_header(name, value, settings, scan);
                }
                2 => self.target.method = bytes,
                4 => self.target.path = bytes,
                5 => self.target.authority = bytes,
                13 => self.read_header_map(bytes, settings, scan)?,
                _ => {}
            }
            Ok(())
        })
    }

    /// With `encode_raw_headers`: each header line of its own, its bytes as they came.
    fn read_header_map(
        &mut self,
        map: &'a [u8],
        settings: &Settings,
        scan: &mut Scan<'a>,
    ) -> Result<(), DecodeError> {
        fields(map, |tag, field| match (tag, field) {
            (1, Field::Bytes(header)) => {
                let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
                fields(header, |tag, field| {
                    if let Field::Bytes(bytes) = field {
                        match tag {
                            1 => name = bytes,
                            2 | 3 if value.is_empty() => value = bytes,
                            _ => {}
                        }
                    }
                    Ok(())
                })?;
                self.read_header(name, value, settings, scan);
                Ok(())
            }
            _ => Ok(()),
        })
    }

    fn read_header(
        &mut self,
        name: &'a [u8],
        value: &'a [u8],
        settings: &Settings,
        scan: &mut Scan<'a>,
    ) {
        if name.first() == Some(&b':') {
            scan.method_seen = true;
            return;
        }
        for (at, source) in settings.credentials.iter().enumerate() {
            match source {
                Source::Header(header) => self.read_key_header(name, value, header, 1 << at, scan),
                Source::Bearer(header) => self.read_bearer(name, value, header, 1 << at, scan),
                Source::Query(_) | Source::Cookie(_) => {}
            }
        }
        if settings.headers.covers(name) {
            self.forged.extend(std::str::from_utf8(name));
        } else if name.eq_ignore_ascii_case(b"cookie") {
            if !scan.cookies.is_empty() {
                scan.cookies.extend_from_slice(b"; ");
            }
            scan.cookies.extend_from_slice(value);
        } else if settings.trusted_hops > 0 && name.eq_ignore_ascii_case(b"x-forwarded-for") {
            scan.forwarded.push(value);
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.read_connection(value, settings);
        } else if name.eq_ignore_ascii_case(b"content-type") {
            self.caller = caller(value);
        } else if name.eq_ignore_ascii_case(b"x-request-id") {
            self.request_id = harmless_id(value);
        }
    }

    fn read_key_header(
        &mut self,
        name: &'a [u8],
        value: &'a [u8],
        header: &str,
        bit: u8,
        scan: &mut Scan<'a>,
    ) {
        if name.eq_ignore_ascii_case(header.as_bytes()) {
            if scan.single_seen & bit != 0 {
                self.finder.duplicate();
            }
            scan.single_seen |= bit;
            self.finder.add(value.trim_ascii());
        } else if !same_header(name, header.as_bytes()) {
            return;
        }
        // The header itself, or a spelling with underscores that a lenient upstream would take for it.
        self.key_headers.extend(std::str::from_utf8(name));
    }

    fn read_bearer(
        &mut self,
        name: &'a [u8],
        value: &'a [u8],
        header: &str,
        bit: u8,
        scan: &mut Scan<'a>,
    ) {
        if !name.eq_ignore_ascii_case(header.as_bytes()) {
            return;
        }
        let bearer = credential::bearer(value);
        if scan.single_seen & bit != 0 {
            // Two lines of one header: harmless only while neither is for us.
            if self.bearer_header.is_some() || bearer != Bearer::None {
                self.finder.duplicate();
            }
        }
        scan.single_seen |= bit;
        match bearer {
            Bearer::None => {}
            Bearer::Ambiguous => {
                self.finder.duplicate();
                self.bearer_header = std::str::from_utf8(name).ok().map(|name| (name, value));
            }
            Bearer::Token(token) => {
                self.finder.add(token);
                self.bearer_header = std::str::from_utf8(name).ok().map(|name| (name, token));
            }
        }
    }

    /// A proxy behind us would drop what `connection` names (RFC 9110 section 7.6.1): our headers among them.
    fn read_connection(&mut self, value: &'a [u8], settings: &Settings) {
        let mut named = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        if named.any(|name| settings.headers.covers(name)) {
            self.ambiguity = Some("the connection header names a reserved header");
        }
    }

    fn read_extension(&mut self, name: &'a [u8], value: &'a [u8]) {
        let Some(name) = name.strip_prefix(b"keystile.") else {
            return;
        };
        let Ok(value) = std::str::from_utf8(value) else {
            self.bad_rule = Some(name);
            return;
        };
        self.has_own_rule |= matches!(name, b"mode" | b"features" | b"scopes" | b"cost");
        match name {
            b"mode" => match Mode::parse(value.trim()) {
                Some(mode) => self.rule.mode = mode,
                None => self.bad_rule = Some(name),
            },
            b"features" => self.rule.features = value.trim(),
            b"scopes" => self.rule.scopes = value.trim(),
            b"dry_run" => match value.trim() {
                "true" => self.dry_run = true,
                "false" => self.dry_run = false,
                _ => self.bad_rule = Some(name),
            },
            b"cost" => match value.trim().parse() {
                Ok(cost) if cost <= COST_MAX => self.rule.cost = cost,
                Ok(_) | Err(_) => self.bad_rule = Some(name),
            },
            // A misspelt demand must not be a demand dropped.
            _ => self.bad_rule = Some(name),
        }
    }

    fn finish(&mut self, settings: &Settings, scan: &Scan<'a>) {
        // Pseudo-headers are always there unless Envoy filters.
        self.filtered = !scan.method_seen;
        self.forwarded_for = forwarded::caller(&scan.forwarded, settings.trusted_hops);
        if self.request_id.is_none() {
            self.request_id = harmless_id(scan.stream_id);
        }
        for source in &settings.credentials {
            match source {
                Source::Query(name) => self.read_query(self.target.path, name),
                Source::Cookie(name) => self.read_cookies(&scan.cookies, name),
                Source::Header(_) | Source::Bearer(_) => {}
            }
        }
    }

    fn read_query(&mut self, path: &'a [u8], name: &str) {
        let mut count = 0;
        let (finder, parameters) = (&mut self.finder, &mut self.key_parameters);
        credential::query(path, name, |spelled, value| {
            count += 1;
            finder.add(value);
            parameters.extend(std::str::from_utf8(spelled));
        });
        if count > 1 {
            self.finder.duplicate();
        }
    }

    fn read_cookies(&mut self, cookies: &[u8], name: &str) {
        if credential::cookie_after_comma(cookies, name) {
            // Envoy joins the cookie lines of HTTP/1.1 with a comma: where one ends and the next begins is lost.
            self.ambiguity = Some("the cookie with the API key follows a comma");
        }
        let mut values = Vec::new();
        let current = self.cookie_rest.as_deref().unwrap_or(cookies);
        let rest = credential::cookie(current, name, |value| values.push(value.to_vec()));
        if values.is_empty() {
            return;
        }
        if values.len() > 1 {
            self.finder.duplicate();
        }
        if !rest.iter().all(|b| *b == b' ' || b.is_ascii_graphic()) {
            // We would have to send them on, and cannot be sure that they arrive as they came.
            self.ambiguity = Some("the cookie header holds bytes that are not visible ASCII");
        }
        values.into_iter().for_each(|value| self.finder.add(value));
        self.cookie_rest = Some(rest);
    }
}

fn caller(content_type: &[u8]) -> Caller {
    let starts = |prefix: &[u8]| {
        content_type
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if starts(b"application/grpc") && !starts(b"application/grpc-web") {
        Caller::Grpc
    } else {
        Caller::Http
    }
}

/// An id that can be repeated in an answer and a log without a second thought.
fn harmless_id(value: &[u8]) -> Option<&str> {
    let harmless = (1..=128).contains(&value.len())
        && value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    std::str::from_utf8(value).ok().filter(|_| harmless)
}

#[cfg(test)]
mod tests;
