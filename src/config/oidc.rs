//! The section `admin.oidc`: whose JWTs are accepted, and what its fields say together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::mistake::Mistake;
use super::raw::{RawAdmin, RawJwks, RawJwtTenant, RawOidc};
use super::redis::{host_and_port, is_loopback};
use super::text::{ClaimValue, FilePath, JwksUrl, not_allowed, shown};
use super::{JwtAlgorithm, JwtRole};

const PATH: &str = "admin.oidc";
const URL_LEN_MAX: usize = 2048;

/// Whose JWTs are accepted, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    pub issuer: String,
    pub audience: Vec<String>,
    pub jwks: JwksConfig,
    pub algorithms: Vec<JwtAlgorithm>,
    pub leeway: Duration,
    pub claims: ClaimsConfig,
    /// The first whose value a JWT has decides.
    pub roles: Vec<(String, JwtRole)>,
    /// `None`: the issuer uses our ids.
    pub tenants: Option<Vec<(String, String)>>,
}

/// Where the issuer's public keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksConfig {
    pub source: JwksSource,
    pub ttl: Duration,
    pub max_stale: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    File(PathBuf),
    Url {
        /// `https`, or `http` on loopback.
        url: String,
        /// `None`: the CAs of the system.
        ca_file: Option<PathBuf>,
    },
}

/// Where in a JWT the facts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimsConfig {
    pub role: String,
    pub tenant: String,
    pub owner: String,
    pub scopes: Option<String>,
}

/// Why an algorithm of JWTs is not to be had.
pub(super) fn refused_algorithms() -> serde_json::Value {
    let secret = "is a shared secret: whoever can check such a JWT can make one; write `RS256`, `ES256` or `EdDSA`, as the issuer signs";
    let none = "is no signature: anybody can make such a JWT; write `RS256`, `ES256` or `EdDSA`, as the issuer signs";
    serde_json::json!({"HS256": secret, "HS384": secret, "HS512": secret, "none": none})
}

/// `None` only for what [`check`] refuses.
pub(super) fn config(raw: &RawOidc) -> Option<OidcConfig> {
    let text = ToString::to_string;
    Some(OidcConfig {
        issuer: raw.issuer.to_string(),
        audience: raw.audience.iter().map(text).collect(),
        jwks: jwks(&raw.jwks)?,
        algorithms: raw.algorithms.clone(),
        leeway: raw.leeway.0,
        claims: ClaimsConfig {
            role: raw.claims.role.to_string(),
            tenant: raw.claims.tenant.to_string(),
            owner: raw.claims.owner.to_string(),
            scopes: raw.claims.scopes.as_ref().map(ToString::to_string),
        },
        roles: raw
            .roles
            .iter()
            .map(|entry| (entry.value.to_string(), entry.role))
            .collect(),
        tenants: raw.tenants.as_ref().map(|tenants| {
            let entry = |entry: &RawJwtTenant| (entry.value.to_string(), entry.tenant.to_string());
            tenants.iter().map(entry).collect()
        }),
    })
}

/// `None` only for what [`check_jwks`] refuses.
pub(super) fn jwks(raw: &RawJwks) -> Option<JwksConfig> {
    Some(JwksConfig {
        source: source(raw)?,
        ttl: raw.ttl.0,
        max_stale: raw.max_stale.0,
    })
}

fn source(raw: &RawJwks) -> Option<JwksSource> {
    let url = |url: &JwksUrl| JwksSource::Url {
        url: url.to_string(),
        ca_file: raw.ca_file.as_ref().map(FilePath::to_path),
    };
    let file = raw
        .file
        .as_ref()
        .map(|file| JwksSource::File(file.to_path()));
    file.or_else(|| raw.url.as_ref().map(url))
}

pub(super) fn check(admin: &RawAdmin, mistakes: &mut Vec<Mistake>) {
    let Some(oidc) = &admin.oidc else {
        if !admin.strict_api_key_mode && admin.client_roles.is_empty() {
            let message = "is false and lets nobody in who is not let in anyway; write `admin: {oidc: {issuer: …}}` to accept JWTs, or take the line out";
            mistakes.push(Mistake::new("admin.strict_api_key_mode", message).with(PATH));
        }
        return;
    };
    if admin.strict_api_key_mode {
        let message = "is not used: `admin.strict_api_key_mode` is true, the default, and refuses every JWT; write `strict_api_key_mode: false` beside it, or take the section out";
        mistakes.push(Mistake::new(PATH, message).with("admin.strict_api_key_mode"));
    }
    check_jwks(&format!("{PATH}.jwks"), &oidc.jwks, mistakes);
    let roles = oidc.roles.iter().map(|entry| &entry.value);
    check_values("roles", "a role", roles, mistakes);
    let tenants = oidc.tenants.iter().flatten().map(|entry| &entry.value);
    check_values("tenants", "a tenant", tenants, mistakes);
}

/// `section` is where it stands.
pub(super) fn check_jwks(section: &str, jwks: &RawJwks, mistakes: &mut Vec<Mistake>) {
    let path = |field: &str| format!("{section}{field}");
    match (&jwks.file, &jwks.url) {
        (Some(_), Some(_)) => {
            let message = "is given beside file; keep one of the two";
            mistakes.push(Mistake::new(path(".url"), message).with(path(".file")));
        }
        (None, None) => {
            let message = "names no keys; write `url: https://…`, the `jwks_uri` of the issuer's /.well-known/openid-configuration, or `file: …`";
            mistakes.push(
                Mistake::new(path(""), message)
                    .with(path(".url"))
                    .with(path(".file")),
            );
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    if jwks.ca_file.is_some()
        && !jwks
            .url
            .as_ref()
            .is_some_and(|url| url.starts_with("https:"))
    {
        let message = "is for a `url` that begins with https://; take it out";
        mistakes.push(Mistake::new(path(".ca_file"), message).with(path(".url")));
    }
    if jwks.max_stale.0 < jwks.ttl.0 {
        let message = format!(
            "{} is shorter than ttl, {}: the keys would be too old before they are read again",
            jwks.max_stale, jwks.ttl
        );
        mistakes.push(Mistake::new(path(".max_stale"), message).with(path(".ttl")));
    }
}

fn check_values<'a>(
    list: &str,
    what: &str,
    values: impl Iterator<Item = &'a ClaimValue>,
    mistakes: &mut Vec<Mistake>,
) {
    let mut seen = BTreeMap::new();
    for (index, value) in values.enumerate() {
        if let Some(first) = seen.insert(value, index) {
            let message = format!("has {what} in {PATH}.{list}[{first}] already; keep one");
            mistakes.push(Mistake::new(
                format!("{PATH}.{list}[{index}].value"),
                message,
            ));
        }
    }
}

/// A URL that keys may come from. Who can change them on the way can let anybody in.
pub(super) fn parse_url(text: &str) -> Result<String, String> {
    let form = || not_allowed(text, "a URL such as `https://id.example.com/jwks`");
    let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let legal = |c: char| c.is_ascii_alphanumeric() || "._~%!$&'()*+,;=:@/?-".contains(c);
    if text.len() > URL_LEN_MAX || !path.chars().all(legal) || path.starts_with('?') {
        return Err(form());
    }
    let (host, _) = host_and_port(authority).ok_or_else(form)?;
    match scheme {
        "https" => Ok(text.to_owned()),
        "http" if is_loopback(&host) => Ok(text.to_owned()),
        "http" => Err(format!(
            "{} is not loopback and would bring the keys in plain text: whoever is on the way could put in their own; write https://",
            shown(text)
        )),
        _ => Err(form()),
    }
}
