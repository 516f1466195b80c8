//! Whose JWTs are accepted.

use std::path::Path;
use std::time::Duration;

use super::mistakes::file_with;
use super::{load, mistakes};
use crate::config::defaults::known;
use crate::config::section::{Claims, JwtRole, JwtTenant};
use crate::config::{HumanDuration, Jwks, JwksSource, JwtAlgorithm, Oidc};
use crate::domain::role::Role;

const REST: &str = "tokens: {secret_retention: none}\nadmin: {strict_api_key_mode: false, oidc: ";
const ROLES: &str = "roles: [{value: admins, role: tenant_admin}]";

/// With these fields in `admin.oidc`.
fn file(fields: &str) -> String {
    file_with(&format!("{REST}{{{fields}}}}}"))
}

fn seconds(count: u64) -> HumanDuration {
    HumanDuration(Duration::from_secs(count))
}

fn role(value: &str, role: Role) -> JwtRole {
    JwtRole {
        value: known(value),
        role,
    }
}

#[test]
fn what_is_written_arrives_and_the_rest_has_its_default() {
    let least = file(&format!(
        "issuer: \"https://id.example.com\", audience: [keystile], jwks: {{file: keys.json}}, {ROLES}"
    ));
    let expected = Oidc {
        issuer: known("https://id.example.com"),
        audience: vec![known("keystile")],
        jwks: Jwks {
            file: Some(known("keys.json")),
            url: None,
            ca_file: None,
            ttl: seconds(300),
            max_stale: seconds(86_400),
        },
        algorithms: vec![
            JwtAlgorithm::RS256,
            JwtAlgorithm::PS256,
            JwtAlgorithm::ES256,
            JwtAlgorithm::EdDSA,
        ],
        leeway: seconds(30),
        claims: Claims {
            role: known("roles"),
            tenant: known("tenant"),
            owner: known("sub"),
            scopes: None,
        },
        roles: vec![role("admins", Role::TenantAdmin)],
        tenants: None,
    };
    let found = load(&least, &[]).config.admin.unwrap().oidc.unwrap();
    let path = Path::new("keys.json");
    assert_eq!(found.jwks.source(), JwksSource::File(path));
    assert_eq!(found, expected);

    let most = file(
        "issuer: \"https://id.example.com\", audience: [a, b], algorithms: [ES384], leeway: 0s, \
         jwks: {url: \"https://id.example.com:8443/certs?x=1\", ca_file: ca.crt, ttl: 1m, max_stale: 1m}, \
         claims: {role: realm_access.roles, tenant: \"https://example.com/t\", owner: email, scopes: scope}, \
         roles: [{value: Platform Admins, role: global_admin}, {value: \"*\", role: user}], \
         tenants: [{value: /customers/Acme, tenant: acme}]",
    );
    let expected = Oidc {
        audience: vec![known("a"), known("b")],
        jwks: Jwks {
            file: None,
            url: Some(known("https://id.example.com:8443/certs?x=1")),
            ca_file: Some(known("ca.crt")),
            ttl: seconds(60),
            max_stale: seconds(60),
        },
        algorithms: vec![JwtAlgorithm::ES384],
        leeway: seconds(0),
        claims: Claims {
            role: known("realm_access.roles"),
            tenant: known("https://example.com/t"),
            owner: known("email"),
            scopes: Some(known("scope")),
        },
        roles: vec![
            role("Platform Admins", Role::GlobalAdmin),
            role("*", Role::User),
        ],
        tenants: Some(vec![JwtTenant {
            value: known("/customers/Acme"),
            tenant: known("acme"),
        }]),
        ..expected
    };
    let source = JwksSource::Url {
        url: "https://id.example.com:8443/certs?x=1",
        ca_file: Some(Path::new("ca.crt")),
    };
    let found = load(&most, &[]).config.admin.unwrap().oidc.unwrap();
    assert_eq!(found.jwks.source(), source);
    assert_eq!(found, expected);
}

#[test]
fn every_mistake_says_what_to_write() {
    let with = |jwks: &str, more: &str| {
        let more = if more.contains("roles:") {
            more.to_owned()
        } else {
            format!("{ROLES}{more}")
        };
        file(&format!(
            "issuer: i, audience: [a], jwks: {{{jwks}}}, {more}"
        ))
    };
    let at = |url: &str| with(&format!("url: \"{url}\""), "");
    for (yaml, expected) in [
        (
            with("file: a, url: \"https://b/\"", ""),
            "admin.oidc.jwks.url: is given beside file; keep one of the two",
        ),
        (
            with("", ""),
            "admin.oidc.jwks: names no keys; write `url: https://…`",
        ),
        (
            with("file: a, ca_file: b", ""),
            "admin.oidc.jwks.ca_file: is for a `url` that begins with https://",
        ),
        (
            with("file: a, ttl: 2d", ""),
            "admin.oidc.jwks.ttl: `2d` is out of bounds; must be",
        ),
        (
            with("file: a, ttl: 1h, max_stale: 1m", ""),
            "admin.oidc.jwks.max_stale: 1m is shorter than ttl, 1h",
        ),
        (
            at("http://id.example.com/jwks"),
            "is not loopback and would bring the keys in plain text",
        ),
        (
            at("ftp://id.example.com/jwks"),
            "is not a URL such as `https://id.example.com/jwks`",
        ),
        (
            at("https://user:pw@id.example.com/"),
            "is not a URL such as",
        ),
        (at("https:///jwks"), "is not a URL such as"),
        (at("https://id.example.com/#x"), "is not a URL such as"),
        (at("https://id.example.com:0/"), "is not a URL such as"),
        (
            with("file: a", ", algorithms: [RS256, HS256]"),
            "admin.oidc.algorithms[1]: is a shared secret",
        ),
        (
            with("file: a", ", algorithms: [none]"),
            "admin.oidc.algorithms[0]: is no signature",
        ),
        (
            with("file: a", ", algorithms: [ES25]"),
            "is not one of `RS256`",
        ),
        (
            with("file: a", ", algorithms: []"),
            "admin.oidc.algorithms: is an empty list",
        ),
        (
            with("file: a", ", leeway: 6m"),
            "admin.oidc.leeway: `6m` is out of bounds",
        ),
        (
            with("file: a", ", claims: {role: a..b}"),
            "admin.oidc.claims.role: `a..b` is not a claim's name or path",
        ),
        (
            with("file: a", ", claims: {rol: a}"),
            "did you mean `role`?",
        ),
        (
            with("file: a", "roles: []"),
            "admin.oidc.roles: is an empty list",
        ),
        (
            with("file: a", "roles: [{value: a, role: admin}]"),
            "admin.oidc.roles[0].role: is not a role; write `tenant_admin`",
        ),
        (
            with(
                "file: a",
                "roles: [{value: a, role: user}, {value: a, role: global_admin}]",
            ),
            "admin.oidc.roles[1].value: has a role in admin.oidc.roles[0] already",
        ),
        (
            with(
                "file: a",
                ", tenants: [{value: a, tenant: b}, {value: a, tenant: c}]",
            ),
            "admin.oidc.tenants[1].value: has a tenant in admin.oidc.tenants[0] already",
        ),
        (
            with("file: a", ", tenants: [{value: a, tenant: A}]"),
            "admin.oidc.tenants[0].tenant: `A` is not a tenant id",
        ),
        (
            file(&format!("jwks: {{file: a}}, audience: [a], {ROLES}")),
            "admin.oidc: needs the field `issuer`",
        ),
        (
            with("file: a", "").replace("strict_api_key_mode: false, ", ""),
            "admin.oidc: is not used: `admin.strict_api_key_mode` is true",
        ),
    ] {
        let found = mistakes(&yaml, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{} lacks {expected}", found[0]);
    }
    let several = with(
        "file: a, url: \"https://b/\", ttl: 1h, max_stale: 1m",
        "roles: [{value: a, role: user}, {value: a, role: user}]",
    );
    assert_eq!(mistakes(&several, &[]).len(), 3);
    for plain in [
        "http://localhost/jwks",
        "http://127.0.0.1:8080/jwks",
        "http://[::1]:8080/jwks",
    ] {
        load(&at(plain), &[]);
    }
}

#[test]
fn the_example_of_the_documentation_is_one() {
    let text = include_str!("../../../docs/OIDC.md");
    let example = text
        .split("```")
        .find_map(|part| part.strip_prefix("yaml\n"));
    let yaml = file_with(&format!(
        "tokens: {{secret_retention: none}}\n{}",
        example.unwrap()
    ));
    let oidc = load(&yaml, &[]).config.admin.unwrap().oidc.unwrap();
    assert_eq!(oidc.roles.len(), 3);
}
