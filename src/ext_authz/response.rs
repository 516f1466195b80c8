//! A decision -> the bytes of a `CheckResponse`. The only place that makes one: [`allow`] or [`deny`].
//!
//! Every answer carries a `status`: an answer without one allows. Every injected header says
//! `OVERWRITE_IF_EXISTS_OR_ADD`: what is not said is read differently by Envoy 1.37 and by other data planes.

mod denied;
mod limits;

use std::time::Duration;

use bytes::Bytes;

use crate::authorizer::explain::Checked;
use crate::authorizer::{Allowed, Grant};
use crate::cache::Found;
use crate::clock::Timestamp;
use crate::crypto::token::TokenPrefixes;
use crate::domain::decision::{Denial, Keyless};
use crate::ext_authz::Settings;
use crate::ext_authz::request::Incoming;
use crate::ext_authz::reserved::{self, ReservedHeaders, TenantView, is_settable};
use crate::ext_authz::wire::{field_len, put, put_head, put_number};
use crate::grpc::{PREFIX_LEN, Prefix};

/// `HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD`
const OVERWRITE: u64 = 2;

/// An encoded `CheckResponse`, framed for gRPC. Nothing outside this module can make one.
#[derive(Clone, Debug)]
pub struct Answer(Bytes);

impl Answer {
    /// Joins the parts behind a frame in one allocation: a `status`, one kind of response, and metadata.
    fn assemble(status: &[u8], tag: u32, response: &[u8], metadata: &[u8]) -> Self {
        let parts = field_len(status.len()) + field_len(response.len()) + field_len(metadata.len());
        let mut out = Vec::with_capacity(PREFIX_LEN + parts);
        out.extend_from_slice(&[0; PREFIX_LEN]);
        put(&mut out, 1, status);
        put(&mut out, tag, response);
        put(&mut out, 4, metadata);
        Self::frame(out)
    }

    /// Fills in the prefix of a message.
    fn frame(mut out: Vec<u8>) -> Self {
        let len = u32::try_from(out.len() - PREFIX_LEN)
            .expect("an answer is bounded by its headers, far below 4 GiB");
        let prefix = Prefix {
            compressed: false,
            len,
        };
        out[..PREFIX_LEN].copy_from_slice(&prefix.to_bytes());
        Self(out.into())
    }

    /// With its frame, for the wire.
    pub fn into_framed(self) -> Bytes {
        self.0
    }

    /// The message alone.
    pub fn into_bytes(self) -> Bytes {
        self.0.slice(PREFIX_LEN..)
    }
}

/// Lets a request pass, with the tenant's context set and everything that could pass for it removed.
pub fn allow(
    allowed: &Allowed,
    incoming: &Incoming<'_>,
    settings: &Settings,
    prefixes: &TokenPrefixes,
    now: Timestamp,
) -> Answer {
    let mut ok = Vec::with_capacity(768);
    let mut metadata = Vec::with_capacity(256);
    match &allowed.grant {
        Grant::Key(found) => {
            let token = settings
                .signed_context
                .as_ref()
                .and_then(|signed| signed.token(found, &incoming.target, now));
            let token = token.as_deref();
            put_context(&mut ok, &mut metadata, found, token, &settings.headers);
            remove_forged(&mut ok, incoming, |name| {
                let mut headers = settings.headers.all(found, token);
                headers.any(|(own, value)| value.is_some() && own.eq_ignore_ascii_case(name))
            });
        }
        Grant::Keyless(keyless) => {
            remove_all(&mut ok, settings.headers.names());
            remove_forged(&mut ok, incoming, |_| false);
            put_field(&mut metadata, "reason", keyless.as_str());
        }
    }
    if let Some(reason) = allowed.shadow {
        put_field(&mut metadata, "shadow_reason", reason.as_str());
    }
    if incoming.filtered {
        remove_all(
            &mut ok,
            settings.headers.aliases().iter().map(String::as_str),
        );
    }
    if !settings.forward_key {
        let exempt = matches!(allowed.grant, Grant::Keyless(Keyless::Exempt));
        remove_key(&mut ok, incoming, |token| {
            !exempt || prefixes.appear_in(token)
        });
    }
    limits::put_limits(&mut ok, 6, &allowed.limits, None); // OkHttpResponse.response_headers_to_add
    // An empty status has code 0.
    Answer::assemble(&[], 3, &ok, &metadata)
}

/// Refuses a request, in the words of the caller's protocol.
///
/// With `defer`, Envoy is told of an error instead of a refusal, and its `failure_mode_allow` decides.
pub fn deny(denial: &Denial, incoming: Option<&Incoming<'_>>, defer: bool) -> Answer {
    denied::encode(denial, incoming, defer)
}

/// The same answer with an account of the rules added to its metadata: of a message field that comes twice, a reader
/// of protobuf makes one.
pub fn explained(answer: &Answer, credential: &str, rules: &[Checked]) -> Answer {
    let mut list = Vec::new();
    for checked in rules {
        let mut fields = Vec::new();
        put_field(&mut fields, "rule", checked.criterion.as_str());
        put_field(&mut fields, "verdict", checked.verdict());
        put_field(&mut fields, "detail", &checked.detail);
        let mut value = Vec::new();
        put(&mut value, 5, &fields); // Value.struct_value
        put(&mut list, 1, &value); // ListValue.values
    }
    let mut value = Vec::new();
    put(&mut value, 6, &list); // Value.list_value
    let mut metadata = Vec::new();
    put_field(&mut metadata, "credential", credential);
    put_value(&mut metadata, "explain", &value);
    let mut out = answer.0.to_vec();
    put(&mut out, 4, &metadata);
    Answer::frame(out)
}

/// The headers and the metadata that say of which tenant a request is.
fn render(view: TenantView<'_>, headers: &ReservedHeaders) -> [Bytes; 2] {
    let (mut ok, mut metadata) = (Vec::with_capacity(256), Vec::with_capacity(256));
    put_reserved(&mut ok, headers.of_tenant(view));
    put_field(&mut metadata, "tenant_id", view.tenant.id.as_str());
    if let Some(plan) = &view.tenant.plan {
        put_field(&mut metadata, "plan", plan.as_str());
    }
    let mut list = Vec::new();
    for feature in view.features() {
        let mut value = Vec::with_capacity(feature.as_str().len() + 2);
        put(&mut value, 3, feature.as_str().as_bytes()); // Value.string_value
        put(&mut list, 1, &value); // ListValue.values
    }
    let mut value = Vec::with_capacity(list.len() + 4);
    put(&mut value, 6, &list); // Value.list_value
    put_value(&mut metadata, "features", &value);
    [ok.into(), metadata.into()]
}

fn put_context(
    ok: &mut Vec<u8>,
    metadata: &mut Vec<u8>,
    found: &Found,
    token: Option<&str>,
    headers: &ReservedHeaders,
) {
    let Found { key, tenant } = found;
    // Few keys give up features of their tenant; what the others say of it is made once.
    let made;
    let [of_tenant, facts] = match key.features() {
        None => tenant.rendered(|tenant| render(TenantView::whole(tenant), headers)),
        Some(_) => {
            made = render(TenantView::of(found), headers);
            &made
        }
    };
    ok.extend_from_slice(of_tenant);
    metadata.extend_from_slice(facts);
    put_reserved(ok, headers.of_request(key, token));
    put_field(metadata, "key_id", key.key());
    put_field(metadata, "reason", "allowed");
}

/// Sets each header that has a value and removes the others.
fn put_reserved<'a>(ok: &mut Vec<u8>, headers: impl Iterator<Item = reserved::Header<'a>>) {
    for (name, value) in headers {
        match value {
            Some(value) => set_header(ok, &name, &value),
            None => remove_header(ok, &name),
        }
    }
}

/// Removes every header of the client's that could pass for one of ours and that we do not overwrite.
fn remove_forged(ok: &mut Vec<u8>, incoming: &Incoming<'_>, is_set: impl Fn(&str) -> bool) {
    for name in &incoming.forged {
        // A name that is both set and removed ends up removed.
        if !is_set(name) {
            remove_header(ok, name);
        }
    }
}

/// Takes the key out of the request: every header, raw spelling of a parameter, and cookie that holds it.
fn remove_key(ok: &mut Vec<u8>, incoming: &Incoming<'_>, is_key: impl Fn(&[u8]) -> bool) {
    for name in &incoming.key_headers {
        remove_header(ok, name);
    }
    if let Some((name, token)) = incoming.bearer_header
        && is_key(token)
    {
        remove_header(ok, name);
    }
    match &incoming.cookie_rest {
        Some(rest) if rest.is_empty() => remove_header(ok, "cookie"),
        Some(rest) => set_header(ok, "cookie", &String::from_utf8_lossy(rest)),
        None => {}
    }
    for name in &incoming.key_parameters {
        put(ok, 8, name.as_bytes()); // OkHttpResponse.query_parameters_to_remove
    }
}

fn remove_all<'a>(ok: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
    names.for_each(|name| remove_header(ok, name));
}

fn remove_header(ok: &mut Vec<u8>, name: &str) {
    put(ok, 5, name.as_bytes()); // OkHttpResponse.headers_to_remove
}

fn set_header(ok: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(is_settable(name), "the configuration refuses such prefixes");
    put_header(ok, 2, name, value); // OkHttpResponse.headers
}

/// Appends a `HeaderValueOption` as field `tag`.
fn put_header(out: &mut Vec<u8>, tag: u32, name: &str, value: &str) {
    let header_len = field_len(name.len()) + field_len(value.len());
    put_head(out, tag, field_len(header_len) + 2);
    put_head(out, 1, header_len); // HeaderValueOption.header
    put(out, 1, name.as_bytes()); // HeaderValue.key
    put(out, 2, value.as_bytes()); // HeaderValue.value
    put_number(out, 3, OVERWRITE); // HeaderValueOption.append_action
}

/// Appends an entry of a `google.protobuf.Struct` with a text value.
fn put_field(metadata: &mut Vec<u8>, name: &str, text: &str) {
    let value_len = field_len(text.len());
    put_head(metadata, 1, field_len(name.len()) + field_len(value_len)); // Struct.fields
    put(metadata, 1, name.as_bytes());
    put_head(metadata, 2, value_len);
    put(metadata, 3, text.as_bytes()); // Value.string_value
}

fn put_value(metadata: &mut Vec<u8>, name: &str, value: &[u8]) {
    put_head(metadata, 1, field_len(name.len()) + field_len(value.len())); // Struct.fields
    put(metadata, 1, name.as_bytes());
    put(metadata, 2, value);
}

/// In whole seconds, up: who waits so long and no longer is not refused again.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
