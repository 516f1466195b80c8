//! The section `admin.oidc`, as written.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::JwtAlgorithm;
use crate::config::quantity::HumanDuration;
use crate::config::text::{ClaimName, ClaimValue, FilePath, TokenParty};
use crate::config::url::JwksUrl;
use crate::domain::name::TenantId;
use crate::domain::role::Role;

section! {
    Oidc {
        /// Exactly what the claim `iss` of a JWT must be.
        pub issuer: TokenParty,
        /// The claim `aud` must name one of these: this API, not the issuer's other services.
        #[schemars(length(min = 1, max = 16), extend("uniqueItems" = true))]
        pub audience: Vec<TokenParty>,
        /// Where the issuer's public keys are.
        pub jwks: Jwks,
        /// How a JWT may be signed. Shared secrets (`HS256`) and `none` are never accepted.
        #[serde(default = "jwt_algorithms")]
        #[schemars(length(min = 1, max = 16), extend("uniqueItems" = true))]
        pub algorithms: Vec<JwtAlgorithm>,
        /// How far the issuer's clock may be from ours.
        #[serde(default = "jwt_leeway")]
        #[schemars(extend("x-minimum" = "0s", "x-maximum" = "5m"))]
        pub leeway: HumanDuration,
        /// Which claims are read.
        #[serde(default)]
        pub claims: Claims,
        /// What the values of the claim `claims.role` give. The first entry whose value a JWT has decides; without one it is
        /// refused.
        #[schemars(length(min = 1, max = 1024))]
        pub roles: Vec<JwtRole>,
        /// Tenants by what the issuer calls them. Absent: the claim `claims.tenant` is the tenant's id itself. With it,
        /// a JWT whose tenant is not listed is refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(max = 20_000))]
        pub tenants: Option<Vec<JwtTenant>>,
    }
}

section! {
    Jwks {
        /// A file with the key set. Read again when it changes, and on SIGHUP. Either this or `url`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub file: Option<FilePath>,
        /// Where the issuer publishes the key set: the `jwks_uri` of its `/.well-known/openid-configuration`. `https`, or
        /// `http` on loopback. Redirects are not followed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub url: Option<JwksUrl>,
        /// Certificates in PEM that sign the certificate of `url`. Absent: the CAs of the system.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub ca_file: Option<FilePath>,
        /// How often `url` is read. A JWT signed by a key that is not known has it read sooner, at most every 10 s.
        #[serde(default = "jwks_ttl")]
        #[schemars(extend("x-minimum" = "10s", "x-maximum" = "1d"))]
        pub ttl: HumanDuration,
        /// How long the last key set is used while a new one cannot be read; at least `ttl`. Then no JWT is accepted.
        #[serde(default = "jwks_max_stale")]
        #[schemars(extend("x-minimum" = "1m", "x-maximum" = "30d"))]
        pub max_stale: HumanDuration,
    }
}

section! {
    #[serde(default)]
    Claims {
        /// Where the roles are: a claim, or a path such as `realm_access.roles`. A name with `://` in it is one claim, dots
        /// and all. A text, or a list of texts; a text may hold several between spaces.
        pub role: ClaimName,
        /// Where the tenant of a `user` or `tenant_admin` is, written likewise. Exactly one tenant must come of it.
        pub tenant: ClaimName,
        /// What names the owner whose keys a `user` reaches.
        pub owner: ClaimName,
        /// Where the scopes are that a `user` may give to its keys, such as `scope`. Absent: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scopes: Option<ClaimName>,
    }
}

section! {
    JwtRole {
        /// A value of the claim, exactly.
        pub value: ClaimValue,
        /// What its holder may do.
        #[schemars(extend("x-refused" = json!({
            "admin": "is not a role; write `tenant_admin` for the keys of one tenant, or `global_admin` for everything"
        })))]
        pub role: Role,
    }
}

section! {
    JwtTenant {
        /// A value of the claim, exactly.
        pub value: ClaimValue,
        /// The tenant's id.
        pub tenant: TenantId,
    }
}

fn jwt_algorithms() -> Vec<JwtAlgorithm> {
    vec![
        JwtAlgorithm::RS256,
        JwtAlgorithm::PS256,
        JwtAlgorithm::ES256,
        JwtAlgorithm::EdDSA,
    ]
}

fn jwt_leeway() -> HumanDuration {
    HumanDuration::of_seconds(30)
}

fn jwks_ttl() -> HumanDuration {
    HumanDuration::of_seconds(300)
}

fn jwks_max_stale() -> HumanDuration {
    HumanDuration::of_seconds(86_400)
}

/// Where a key set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwksSource<'a> {
    File(&'a Path),
    Url {
        /// `https`, or `http` on loopback.
        url: &'a str,
        /// `None`: the CAs of the system.
        ca_file: Option<&'a Path>,
    },
}

impl Jwks {
    /// Where the keys are.
    pub fn source(&self) -> JwksSource<'_> {
        let url = || JwksSource::Url {
            url: self
                .url
                .as_deref()
                .expect("a key set that is nowhere is refused when it is loaded"),
            ca_file: self.ca_file.as_deref(),
        };
        self.file.as_deref().map_or_else(url, JwksSource::File)
    }
}
