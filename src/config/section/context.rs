//! The sections `authz.signed_context` and `authz.trusted_hop`, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::oidc::Jwks;
use crate::config::HopListeners;
use crate::config::quantity::HumanDuration;
use crate::config::text::TokenParty;

section! {
    #[serde(default)]
    SignedContext {
        /// The `iss` claim. Give each installation its own.
        pub issuer: TokenParty,
        /// The `aud` claim. Empty: the host of the request, without its port.
        #[schemars(length(max = 16), extend("uniqueItems" = true))]
        pub audience: Vec<TokenParty>,
        /// How long a token is valid.
        #[schemars(extend("x-minimum" = "10s", "x-maximum" = "5m"))]
        pub ttl: HumanDuration,
        /// Whether the claim `key_ref` is in it, by which another hop of ours finds the key again (`authz.trusted_hop`). It is
        /// a part of the token's digest, and no way back to the token.
        pub key_ref: bool,
    }
}

section! {
    #[serde(default)]
    TrustedHop {
        /// Where a context is believed: `marked`, on routes whose context extensions say `keystile.trusted_hop: "true"` or
        /// `"rewritten"`; `all`, wherever they do not say `"false"`. `all` is for processes that no client reaches but through
        /// the first hop.
        pub listeners: HopListeners,
        /// The `iss` claim of the first hop: its `authz.signed_context.issuer`.
        pub issuer: TokenParty,
        /// The `aud` claim must name one of these. Empty: it must be the host of the request, without its port.
        #[schemars(length(max = 16), extend("uniqueItems" = true))]
        pub audience: Vec<TokenParty>,
        /// Where the first hop's public keys are, such as its `https://…/.well-known/jwks.json`. Absent: the keys of
        /// `keyring.signing`, when both hops have the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub jwks: Option<Jwks>,
        /// How long after it was made a context is believed, if it does not expire sooner.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "5m"))]
        pub max_age: HumanDuration,
    }
}
