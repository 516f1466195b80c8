//! `CheckRequest` -> the facts that a decision may use, and what of the request has to be taken out.

mod extensions;
mod headers;
mod peer;

use std::net::IpAddr;
use std::time::Duration;

use prost::DecodeError;

use crate::clock::Timestamp;
use crate::domain::block;
use crate::domain::block::nat64::canonical;
use crate::domain::request::{AccessRequest, Charge, Mode, Proven, Rule};
use crate::ext_authz::Settings;
use crate::ext_authz::credential::{self, CredentialSource, Finder};
use crate::ext_authz::forwarded;
use crate::ext_authz::hop::{Outcome, Trust, TrustedHop};
use crate::ext_authz::routes::{Found, Matched, Overrides, Routes};
use crate::ext_authz::target::Target;
use crate::ext_authz::wire::{Field, entry, fields};
pub(super) use extensions::BadRule;
use extensions::{Extensions, Own};
use peer::Peer;

/// The longest list in a header, and the longest path with a key in its query, that is read. Envoy takes 60 KiB of
/// headers in all unless it is told to take more.
const READ_BYTES_MAX: usize = 64 << 10;

/// What the caller speaks, as far as a refusal depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
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
    /// What the route says of its own, which goes before the configured rules.
    own: Own<'a>,
    /// What was found in the configured rules, if they were asked.
    pub(super) matched: Option<Matched<usize>>,
    source: Option<IpAddr>,
    /// Whom a failure is counted against: whom trusted proxies name as the caller, else the connection's address.
    failing: Option<block::Source>,
    ambiguity: Option<&'static str>,
    pub(super) target: Target<'a>,
    /// What of the request asks upstreams for another method or path.
    overrides: Overrides<'a>,
    /// The route's demands are no rule: nothing may pass by them.
    pub(super) bad_rule: Option<BadRule<'a>>,
    /// Nobody is waiting for this answer but somebody who wants it explained.
    pub(super) dry_run: bool,
    pub(super) caller: Protocol,
    /// For correlation: the client's or Envoy's id, if it is harmless.
    pub(super) request_id: Option<&'a str>,
    /// Envoy shows us only some headers (`allowed_headers`).
    pub(super) filtered: bool,
    /// A signed context, if one could be believed at all; empty when there are two.
    context: Option<&'a [u8]>,
    /// What Envoy says the request was before it redirected or rewrote it: a URL, a path.
    original_url: Option<&'a [u8]>,
    original_path: Option<&'a [u8]>,
    /// Whose request another hop has found it to be.
    proven: Option<Proven>,
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

/// What is seen of the headers before all of them have been seen.
#[derive(Default)]
struct Scan<'a> {
    method_seen: bool,
    single_seen: u8,
    cookies: Vec<u8>,
    forwarded: Vec<&'a [u8]>,
    stream_id: &'a [u8],
    peer: Peer<'a>,
    extensions: Extensions<'a>,
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
            caller: self.failing,
            time_left,
            charge: if self.dry_run {
                Charge::Look
            } else {
                Charge::Cost
            },
            proven: self.proven.as_ref(),
        }
    }

    /// Looks for the configured rule of this request. What could be read in two ways is refused whatever the route says
    /// of its own.
    pub(super) fn route(&mut self, routes: &'a Routes) {
        let Found { matched, near } = match routes.find(&self.target, &self.overrides) {
            Ok(found) => found,
            Err(why) => {
                self.ambiguity = Some(why);
                return;
            }
        };
        let demands = |at: usize| self.own.over(&routes.demands(at));
        if let Some(at) = matched.enforced {
            match demands(at) {
                Ok(rule) => self.rule = rule,
                Err(bad) => self.bad_rule = self.bad_rule.or(Some(bad)),
            }
        }
        let is_stricter = |at: usize| demands(at).is_ok_and(|rule| rule.asks_more_than(&self.rule));
        if near.into_iter().any(is_stricter) {
            self.ambiguity = Some("its path is another spelling of one with a stricter rule");
        }
        self.shadow = matched.shadow.and_then(|at| demands(at).ok());
        self.matched = Some(matched);
    }

    /// Believes a signed context of another hop, where the route does. What is not believed is as if it were not there.
    pub(super) fn believe(
        &mut self,
        hop: &TrustedHop,
        now: Timestamp,
    ) -> Option<Result<(), Outcome>> {
        let trust = self.own.trust.unwrap_or_else(|| hop.by_default());
        let is_of_use = self.ambiguity.is_none() && self.rule.mode != Mode::Off;
        let token = self.context.filter(|_| is_of_use && trust != Trust::No)?;
        let mut targets = vec![self.target];
        if trust == Trust::Rewritten {
            targets.extend(self.before_redirect());
            targets.extend(self.original_path.map(|path| Target {
                path,
                ..self.target
            }));
        }
        let proven = hop.proven(token, &targets, now, self.dry_run);
        Some(proven.map(|proven| self.proven = Some(proven)))
    }

    /// `x-envoy-original-url`: scheme, host and path.
    fn before_redirect(&self) -> Option<Target<'a>> {
        let url = self.original_url?;
        let at = url.windows(3).position(|part| part == b"://")?;
        let rest = &url[at + 3..];
        let slash = rest.iter().position(|b| *b == b'/')?;
        let (authority, path) = rest.split_at(slash);
        Some(Target {
            authority,
            path,
            ..self.target
        })
    }

    /// Forgets the request's id if a client has put its key there: the id goes into answers and logs.
    pub(super) fn hide_key_in_request_id(&mut self, holds_token: impl Fn(&[u8]) -> bool) {
        let finder = &self.finder;
        self.request_id = self
            .request_id
            .filter(|id| !holds_token(id.as_bytes()) && !finder.found_in(id.as_bytes()));
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
            (1, Field::Bytes(peer)) => scan.peer.read(peer),
            (4, Field::Bytes(request)) => fields(request, |tag, field| match (tag, field) {
                (2, Field::Bytes(http)) => self.read_http(http, settings, scan),
                _ => Ok(()),
            }),
            (10, Field::Bytes(extension)) => {
                let (name, value) = entry(extension)?;
                scan.extensions.add(name, value);
                Ok(())
            }
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

    fn finish(&mut self, settings: &Settings, scan: &Scan<'a>) {
        // Pseudo-headers are always there unless Envoy filters.
        self.filtered = !scan.method_seen;
        self.source = scan.peer.ip();
        self.read_own_rule(&scan.extensions);
        let forwarded_for = forwarded::caller(&scan.forwarded, settings.trusted_hops);
        self.failing = forwarded_for
            .or(self.source)
            .map(|address| block::Source::of(canonical(address, &settings.nat64_prefixes)));
        if self.request_id.is_none() {
            self.request_id = harmless_id(scan.stream_id);
        }
        for source in &settings.credentials {
            match source {
                CredentialSource::Query(name) => self.read_query(self.target.path, name),
                CredentialSource::Cookie(name) => self.read_cookies(&scan.cookies, name),
                CredentialSource::Header(_) | CredentialSource::Bearer(_) => {}
            }
        }
    }

    fn read_own_rule(&mut self, extensions: &Extensions<'a>) {
        let read = extensions.read().and_then(|own| {
            let rule = own.over(&Rule::default())?;
            Ok((own, rule))
        });
        match read {
            Ok((own, rule)) => {
                self.dry_run = own.dry_run;
                (self.own, self.rule) = (own, rule);
            }
            Err(bad) => self.bad_rule = Some(bad),
        }
    }

    /// The fields of the configured rule that the route replaces, for people.
    pub(super) fn replaced(&self) -> String {
        self.own.named().collect::<Vec<_>>().join(", ")
    }

    fn read_query(&mut self, path: &'a [u8], name: &str) {
        if path.len() > READ_BYTES_MAX {
            self.ambiguity = Some("the path is longer than 64 KiB");
            return;
        }
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
