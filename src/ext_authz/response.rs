//! A decision -> the bytes of a `CheckResponse`. The only place that makes one: [`allow`] or [`deny`].
//!
//! Every answer carries a `status`: an answer without one allows. Every injected header says
//! `OVERWRITE_IF_EXISTS_OR_ADD`: what is not said is read differently by Envoy 1.37 and by other data planes.

mod denied;
mod limits;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::authorizer::explain::Checked;
use crate::authorizer::policy;
use crate::authorizer::{Allowed, Authorizer, Grant};
use crate::cache::{CachedKey, Found};
use crate::domain::access::TenantAccess;
use crate::domain::decision::{Denial, Keyless};
use crate::domain::name::Feature;
use crate::ext_authz::Settings;
use crate::ext_authz::request::Incoming;
use crate::ext_authz::reserved::{ReservedHeaders, TOKEN, is_settable};
use crate::ext_authz::wire::{field_len, put, put_head, put_number};

/// `HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD`
const OVERWRITE: u64 = 2;
/// Long enough for 64 features; far below the 60 KiB that Envoy allows for all headers.
const VALUE_LEN_MAX: usize = 8 * 1024;
/// What is not visible ASCII, and the sign that the encoding itself uses.
const NOT_VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What stands before a message in gRPC: a flag and a length of four bytes.
const FRAME_LEN: usize = 5;

/// An encoded `CheckResponse`, framed for gRPC. Nothing outside this module can make one.
#[derive(Clone, Debug)]
pub struct Answer(Bytes);

impl Answer {
    /// Joins the parts behind a frame in one allocation: a `status`, one kind of response, and metadata.
    fn assemble(status: &[u8], tag: u32, response: &[u8], metadata: &[u8]) -> Self {
        let parts = field_len(status.len()) + field_len(response.len()) + field_len(metadata.len());
        let mut out = Vec::with_capacity(FRAME_LEN + parts);
        out.extend_from_slice(&[0; FRAME_LEN]);
        put(&mut out, 1, status);
        put(&mut out, tag, response);
        put(&mut out, 4, metadata);
        Self::frame(out)
    }

    /// Fills in the frame in front of a message.
    fn frame(mut out: Vec<u8>) -> Self {
        let len = u32::try_from(out.len() - FRAME_LEN)
            .expect("an answer is bounded by its headers, far below 4 GiB");
        out[1..FRAME_LEN].copy_from_slice(&len.to_be_bytes());
        Self(out.into())
    }

    /// With its frame, for the wire.
    pub fn into_framed(self) -> Bytes {
        self.0
    }

    /// The message alone.
    pub fn into_bytes(self) -> Bytes {
        self.0.slice(FRAME_LEN..)
    }
}

/// Lets a request pass, with the tenant's context set and everything that could pass for it removed.
pub fn allow(
    allowed: &Allowed,
    incoming: &Incoming<'_>,
    settings: &Settings,
    authorizer: &Authorizer,
) -> Answer {
    let mut ok = Vec::with_capacity(768);
    let mut metadata = Vec::with_capacity(256);
    match &allowed.grant {
        Grant::Key(found) => {
            let token = settings
                .signed_context
                .as_ref()
                .and_then(|signed| signed.token(found, &incoming.target, authorizer.time_of_day()));
            let token = token.as_deref();
            put_context(&mut ok, &mut metadata, found, token, &settings.headers);
            remove_forged(&mut ok, incoming, |name| {
                is_set(name, &settings.headers, found, token.is_some())
            });
        }
        Grant::Keyless(keyless) => {
            remove_all(&mut ok, settings.headers.tenant());
            remove_all(&mut ok, settings.headers.key());
            remove_forged(&mut ok, incoming, |_| false);
            put_field(&mut metadata, "reason", keyless.as_str());
        }
    }
    if let Some(reason) = allowed.shadow {
        put_field(&mut metadata, "shadow_reason", reason.as_str());
    }
    if incoming.filtered {
        remove_all(&mut ok, settings.headers.aliases());
    }
    if !settings.forward_key {
        let exempt = matches!(allowed.grant, Grant::Keyless(Keyless::Exempt));
        remove_key(&mut ok, incoming, |token| {
            !exempt || authorizer.prefixes().appear_in(token)
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

/// What is rendered once a tenant: headers and metadata, each without the features and the features alone.
fn render(tenant: &TenantAccess, headers: &ReservedHeaders) -> [Bytes; 4] {
    let [id, name, plan, _, rate_limit, _] = headers.tenant();
    let mut fixed = Vec::with_capacity(256);
    set_header(&mut fixed, id, tenant.id.as_str());
    set_header(&mut fixed, name, &sanitise(tenant.display_name.as_str()));
    match &tenant.plan {
        Some(tenant_plan) => set_header(&mut fixed, plan, tenant_plan.as_str()),
        None => remove_header(&mut fixed, plan),
    }
    match tenant.limits.rate {
        Some(rate) => set_header(
            &mut fixed,
            rate_limit,
            &format!("{}/{}", rate.amount(), rate.period().as_str()),
        ),
        None => remove_header(&mut fixed, rate_limit),
    }
    for (name, value) in &tenant.metadata {
        let header = headers.metadata(name.as_str());
        if value.as_str().is_empty() {
            remove_header(&mut fixed, &header);
        } else {
            set_header(&mut fixed, &header, &sanitise(value.as_str()));
        }
    }
    let mut facts = Vec::with_capacity(128);
    put_field(&mut facts, "tenant_id", tenant.id.as_str());
    if let Some(plan) = &tenant.plan {
        put_field(&mut facts, "plan", plan.as_str());
    }
    let [features_header, features_metadata] =
        render_features(&tenant.features.iter().collect(), headers);
    [
        fixed.into(),
        features_header.into(),
        facts.into(),
        features_metadata.into(),
    ]
}

fn render_features(features: &BTreeSet<&Feature>, headers: &ReservedHeaders) -> [Vec<u8>; 2] {
    let name = &headers.tenant()[3];
    let (mut header, mut metadata, mut list) = (Vec::new(), Vec::new(), Vec::new());
    let joined = features
        .iter()
        .map(|feature| feature.as_str())
        .collect::<Vec<_>>()
        .join(",");
    if joined.is_empty() {
        remove_header(&mut header, name);
    } else {
        set_header(&mut header, name, &sanitise(&joined));
    }
    for feature in features {
        let mut value = Vec::with_capacity(feature.as_str().len() + 2);
        put(&mut value, 3, feature.as_str().as_bytes()); // Value.string_value
        put(&mut list, 1, &value); // ListValue.values
    }
    let mut value = Vec::with_capacity(list.len() + 4);
    put(&mut value, 6, &list); // Value.list_value
    put_value(&mut metadata, "features", &value);
    [header, metadata]
}

fn put_context(
    ok: &mut Vec<u8>,
    metadata: &mut Vec<u8>,
    found: &Found,
    token: Option<&str>,
    headers: &ReservedHeaders,
) {
    let Found { key, tenant } = found;
    let [fixed, features_header, facts, features_metadata] =
        tenant.rendered(|tenant| render(tenant, headers));
    ok.extend_from_slice(fixed);
    metadata.extend_from_slice(facts);
    if let Some(narrow) = key.features() {
        let own = tenant.access().features.intersection(narrow).collect();
        let [header, list] = render_features(&own, headers);
        ok.extend_from_slice(&header);
        metadata.extend_from_slice(&list);
    } else {
        ok.extend_from_slice(features_header);
        metadata.extend_from_slice(features_metadata);
    }
    let token_header = &headers.tenant()[TOKEN];
    match token {
        Some(token) => set_header(ok, token_header, token),
        None => remove_header(ok, token_header),
    }
    let [id, owner, scopes] = headers.key();
    set_header(ok, id, key.key());
    set_header(ok, owner, key.owner());
    if key.scopes().is_empty() {
        remove_header(ok, scopes);
    } else {
        set_header(ok, scopes, &sanitise(key.scopes()));
    }
    put_field(metadata, "key_id", key.key());
    put_field(metadata, "reason", "allowed");
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

/// Whether [`put_context`] sets a header of this name.
fn is_set(
    name: &str,
    headers: &ReservedHeaders,
    Found { key, tenant }: &Found,
    has_token: bool,
) -> bool {
    let tenant = tenant.access();
    if let Some(at) = headers
        .tenant()
        .iter()
        .position(|header| header.eq_ignore_ascii_case(name))
    {
        return [
            true,
            true,
            tenant.plan.is_some(),
            has_features(tenant, key),
            tenant.limits.rate.is_some(),
            has_token,
        ][at];
    }
    if let Some(at) = headers
        .key()
        .iter()
        .position(|header| header.eq_ignore_ascii_case(name))
    {
        return [true, true, !key.scopes().is_empty()][at];
    }
    let set = |(name, value): (&_, &crate::domain::name::Description)| -> Option<String> {
        let name: &crate::domain::name::MetadataName = name;
        (!value.as_str().is_empty()).then(|| headers.metadata(name.as_str()))
    };
    tenant
        .metadata
        .iter()
        .filter_map(set)
        .any(|header| header.eq_ignore_ascii_case(name))
}

fn has_features(tenant: &TenantAccess, key: &CachedKey) -> bool {
    tenant
        .features
        .iter()
        .any(|feature| policy::has_feature(tenant, key.features(), feature.as_str()))
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

fn remove_all(ok: &mut Vec<u8>, names: &[String]) {
    names.iter().for_each(|name| remove_header(ok, name));
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

/// A value that is safe in a header: visible ASCII, everything else percent-encoded, of bounded length.
fn sanitise(value: &str) -> Cow<'_, str> {
    let encoded: Cow<'_, str> = utf8_percent_encode(value, NOT_VISIBLE).into();
    if encoded.len() <= VALUE_LEN_MAX {
        return encoded;
    }
    // Cut at an item's end, so that no part of a name passes for a name.
    let end = encoded[..VALUE_LEN_MAX].rfind(',').unwrap_or(0);
    Cow::Owned(encoded[..end].to_owned())
}

/// In whole seconds, up: who waits so long and no longer is not refused again.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
