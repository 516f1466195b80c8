//! Envoy's external authorization API, v3: what it asks, as facts; what we decide, as bytes.
//!
//! Translates, never decides. The messages are read and written field by field instead of through generated types:
//! decoding a request into maps is half of a plain server's work. The tests hold both against `envoy-types`.
//!
//! An answer to Envoy is dangerous by default: an empty one allows, and so does an error when `failure_mode_allow`
//! is set. So only [`response`] can make an [`response::Answer`], and whatever a client can bring about ends in one.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod credential;
mod forwarded;
pub mod hop;
pub mod request;
pub mod reserved;
pub mod response;
pub mod routes;
pub mod service;
pub mod signed;
mod target;
#[cfg(test)]
mod testing;
mod wire;

pub use service::CheckService;

use crate::domain::block::nat64::Nat64Prefix;

/// What the protocol needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where a key may be, in order.
    pub credentials: Vec<credential::CredentialSource>,
    /// Whether upstreams get the key.
    pub forward_key: bool,
    /// The names of the headers that we inject.
    pub headers: reserved::ReservedHeaders,
    /// The largest request that is read.
    pub max_message_bytes: usize,
    /// When we cannot decide: leave it to Envoy's `failure_mode_allow` instead of refusing.
    pub defer_on_outage: bool,
    /// How many entries of `x-forwarded-for`, from its end, proxies that we trust have written; 0: none is read.
    pub trusted_hops: u8,
    /// Prefixes of addresses that stand for an IPv4 address, beside those that do everywhere.
    pub nat64_prefixes: Vec<Nat64Prefix>,
    /// The rules of the configuration; what a route's own context extensions name goes before them.
    pub routes: routes::RouteSettings,
    /// The signed token that upstreams get, if any.
    pub signed_context: Option<signed::SignedContext>,
    /// Whose signed contexts prove a request at this hop, if anybody's.
    pub trusted_hop: Option<std::sync::Arc<hop::TrustedHop>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            credentials: vec![
                credential::CredentialSource::Header("x-api-key".into()),
                credential::CredentialSource::Bearer("authorization".into()),
            ],
            forward_key: false,
            headers: reserved::ReservedHeaders::new("x-tenant-", "x-api-key-"),
            max_message_bytes: 4 << 20,
            defer_on_outage: false,
            trusted_hops: 0,
            nat64_prefixes: Vec::new(),
            routes: routes::RouteSettings::default(),
            signed_context: None,
            trusted_hop: None,
        }
    }
}
