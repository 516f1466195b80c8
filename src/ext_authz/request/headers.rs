//! The client's headers, as far as anything depends on them.

use prost::DecodeError;

use super::{Incoming, Protocol, READ_BYTES_MAX, Scan, harmless_id};
use crate::ext_authz::Settings;
use crate::ext_authz::credential::{self, Bearer, CredentialSource};
use crate::ext_authz::reserved::same_header;
use crate::ext_authz::routes::{METHOD_OVERRIDES, PATH_OVERRIDES};
use crate::ext_authz::wire::{Field, fields};
use crate::grpc;

impl<'a> Incoming<'a> {
    /// With `encode_raw_headers`: each header line of its own, its bytes as they came.
    pub(super) fn read_header_map(
        &mut self,
        map: &'a [u8],
        settings: &Settings,
        scan: &mut Scan<'a>,
    ) -> Result<(), DecodeError> {
        fields(map, |tag, field| match (tag, field) {
            (1, Field::Bytes(header)) => {
                let (name, value) = header_value(header)?;
                self.read_header(name, value, settings, scan);
                Ok(())
            }
            _ => Ok(()),
        })
    }

    pub(super) fn read_header(
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
                CredentialSource::Header(header) => {
                    self.read_key_header(name, value, header, 1 << at, scan);
                }
                CredentialSource::Bearer(header) => {
                    self.read_bearer(name, value, header, 1 << at, scan);
                }
                CredentialSource::Query(_) | CredentialSource::Cookie(_) => {}
            }
        }
        if settings.headers.covers(name) {
            self.forged.extend(std::str::from_utf8(name));
            if settings.trusted_hop.is_some() && settings.headers.is_token(name) {
                // Two of them are none.
                self.context = Some(if self.context.is_some() { &[] } else { value });
            }
        } else if name.eq_ignore_ascii_case(b"cookie") {
            self.read_cookie_line(value, settings, scan);
        } else if settings.trusted_hops > 0 && name.eq_ignore_ascii_case(b"x-forwarded-for") {
            scan.forwarded.push(value);
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.read_connection(value, settings);
        } else if name.eq_ignore_ascii_case(b"content-type") {
            self.caller = caller(value);
        } else if name.eq_ignore_ascii_case(b"x-request-id") {
            self.request_id = harmless_id(value);
        } else {
            self.read_override(name, value);
        }
    }

    /// What an upstream may take for the method or the path instead of the request's own, and what these were before.
    fn read_override(&mut self, name: &'a [u8], value: &'a [u8]) {
        if name.eq_ignore_ascii_case(b"x-envoy-original-url") {
            self.original_url = Some(value);
        } else if name.eq_ignore_ascii_case(b"x-envoy-original-path") {
            self.original_path = Some(value);
        }
        let is_one_of = |known: &[&str]| known.iter().any(|one| same_header(name, one.as_bytes()));
        if is_one_of(&METHOD_OVERRIDES) {
            self.overrides.methods.push(value.trim_ascii());
        } else if is_one_of(&PATH_OVERRIDES) {
            self.overrides.paths.push(value.trim_ascii());
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
        // The header itself, or a spelling with other signs that a lenient upstream would take for it.
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
            if same_header(name, header.as_bytes()) && credential::bearer(value) != Bearer::None {
                self.key_headers.extend(std::str::from_utf8(name));
            }
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

    /// Lines are put together, where a key may be in one.
    fn read_cookie_line(&mut self, value: &[u8], settings: &Settings, scan: &mut Scan<'a>) {
        let is_cookie = |source: &CredentialSource| matches!(source, CredentialSource::Cookie(_));
        if !settings.credentials.iter().any(is_cookie) {
            return;
        }
        if scan.cookies.len() + value.len() > READ_BYTES_MAX {
            self.ambiguity = Some("the cookie header is longer than 64 KiB");
            return;
        }
        if !scan.cookies.is_empty() {
            scan.cookies.extend_from_slice(b"; ");
        }
        scan.cookies.extend_from_slice(value);
    }

    /// A proxy behind us would drop what `connection` names (RFC 9110 section 7.6.1): our headers among them.
    fn read_connection(&mut self, value: &'a [u8], settings: &Settings) {
        if value.len() > READ_BYTES_MAX {
            self.ambiguity = Some("the connection header is longer than 64 KiB");
            return;
        }
        let mut named = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        if named.any(|name| settings.headers.covers(name)) {
            self.ambiguity = Some("the connection header names a reserved header");
        }
    }
}

/// A `HeaderValue`: its key, and what it holds as text or as bytes. Of a field that comes twice the last counts.
fn header_value(message: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (mut name, mut text, mut raw): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    fields(message, |tag, field| {
        if let Field::Bytes(bytes) = field {
            match tag {
                1 => name = bytes,
                2 => text = bytes,
                3 => raw = bytes,
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok((name, if raw.is_empty() { text } else { raw }))
}

pub(super) fn caller(content_type: &[u8]) -> Protocol {
    match grpc::encoding(content_type) {
        Some(_) => Protocol::Grpc,
        None => Protocol::Http,
    }
}
