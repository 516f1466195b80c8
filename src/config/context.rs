//! What the sections `authz.signed_context` and `authz.trusted_hop` say.

use std::time::Duration;

use super::JwksConfig;

/// Whose signed contexts prove a request at this hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedHopConfig {
    /// Not only those whose context extensions say so.
    pub all_listeners: bool,
    pub issuer: String,
    /// Empty: the host of the request.
    pub audience: Vec<String>,
    /// `None`: the keys of `keyring.signing`.
    pub jwks: Option<JwksConfig>,
    pub max_age: Duration,
}

/// The signed token that upstreams get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedContextConfig {
    pub issuer: String,
    /// Empty: the host of the request.
    pub audience: Vec<String>,
    pub ttl: Duration,
    pub key_ref: bool,
}
