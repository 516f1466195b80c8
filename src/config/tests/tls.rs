//! TLS, plain text and the roles of certificates.

use super::mistakes::file_with;
use super::{Config, load, mistakes};
use crate::config::defaults::known;
use crate::config::{ClientEntry, ClientRole, Tls, TlsVersion};
use crate::domain::name::TenantId;

fn parsed(snippet: &str) -> Config {
    load(&file_with(snippet), &[]).config
}

#[test]
fn what_is_written_arrives_and_the_rest_has_its_default() {
    let least = parsed("ops: {tls: {cert_file: a.crt, key_file: a.key}}");
    let expected = Tls {
        cert_file: known("a.crt"),
        key_file: known("a.key"),
        client_ca_file: None,
        client_sans: Vec::new(),
        min_version: TlsVersion::V1_2,
    };
    assert_eq!(least.ops.unwrap().tls, Some(expected.clone()));
    let most = parsed(
        "authz: {tls: {cert_file: a.crt, key_file: a.key, client_ca_file: ca.crt, \
         client_sans: [\"dns:Envoy.mesh\", \"uri:spiffe://mesh/ns/*/sa/envoy\"], min_version: \"1.3\"}}",
    );
    let sans = ["dns:envoy.mesh", "uri:spiffe://mesh/ns/*/sa/envoy"];
    let expected = Tls {
        client_ca_file: Some(known("ca.crt")),
        client_sans: sans.map(|text| text.parse().unwrap()).into(),
        min_version: TlsVersion::V1_3,
        ..expected
    };
    assert_eq!(most.authz.unwrap().tls, Some(expected));
}

#[test]
fn certificates_are_given_roles() {
    let config = parsed(
        "admin: {tls: {cert_file: a, key_file: b, client_ca_file: c}, client_roles: [\
         {san: \"dns:ops.mesh\", role: global_admin}, \
         {san: \"uri:spiffe://mesh/acme\", role: tenant_admin, tenant: acme}]}\n\
         tokens: {secret_retention: none}",
    );
    let role = |san: &str, role, tenant: Option<&str>| ClientEntry {
        san: san.parse().unwrap(),
        role,
        tenant: tenant.map(|tenant| TenantId::parse(tenant).unwrap()),
    };
    let expected = [
        role("dns:ops.mesh", ClientRole::GlobalAdmin, None),
        role(
            "uri:spiffe://mesh/acme",
            ClientRole::TenantAdmin,
            Some("acme"),
        ),
    ];
    assert_eq!(config.admin.unwrap().client_roles, expected);
}

#[test]
fn plain_text_stays_on_the_machine_unless_it_is_called_insecure() {
    let refused = "is not loopback and would carry keys in plain text; write `ops: {tls: {cert_file: …, key_file: …}}`, or `ops: {insecure: true}` to do so all the same";
    for address in [
        "0.0.0.0:9003",
        "[::]:9003",
        "192.0.2.1:9003",
        "[::ffff:192.0.2.1]:9003",
    ] {
        let written = format!("ops: {{listen: [\"127.0.0.1:1\", \"{address}\"]}}");
        let found = mistakes(&file_with(&written), &[]);
        assert_eq!(found, [format!("ops.listen[1]: {address} {refused}")]);
        parsed(&format!("ops: {{listen: [\"{address}\"], insecure: true}}"));
        parsed(&format!(
            "ops: {{listen: [\"{address}\"], tls: {{cert_file: a, key_file: b}}}}"
        ));
    }
    for address in [
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "unix:/run/ops.sock",
    ] {
        parsed(&format!("ops: {{listen: [\"{address}\"]}}"));
    }
}

#[test]
fn a_mistake_says_what_to_write() {
    const ADMIN: &str = "tokens: {secret_retention: none}\nadmin: ";
    const MUTUAL: &str = "tls: {cert_file: a, key_file: b, client_ca_file: c}";
    for (snippet, expected) in [
        (
            "ops: {tls: {}}".to_owned(),
            "ops.tls: needs the field `cert_file`\nops.tls: needs the field `key_file`",
        ),
        (
            "ops: {tls: {cert_file: a, key_file: b}, insecure: true}".to_owned(),
            "ops.insecure: ops.tls is on; keep one of the two",
        ),
        (
            "ops: {tls: {cert_file: a, key_file: b, client_sans: [\"dns:a\"]}}".to_owned(),
            "ops.tls.client_sans: needs client_ca_file beside it: without that no client is asked for a certificate",
        ),
        (
            "ops: {tls: {cert_file: a, key_file: b, min_version: 1.2}}".to_owned(),
            "ops.tls.min_version: is a number; must be one of `1.2`, `1.3`; put text in quotes",
        ),
        (
            "ops: {tls: {cert_file: a, key_file: b, min_version: \"1.1\"}}".to_owned(),
            "ops.tls.min_version: `1.1` is not one of `1.2`, `1.3`; did you mean `1.2`?",
        ),
        (
            format!(
                "ops: {{{}}}",
                MUTUAL.replace("c}", "c, client_sans: [envoy]}")
            ),
            "ops.tls.client_sans[0]: `envoy` must be `dns:NAME` or `uri:SCHEME://AUTHORITY/PATH`, such as `uri:spiffe://mesh/ns/*/sa/envoy`",
        ),
        (
            format!("{ADMIN}{{client_roles: [{{san: \"dns:a\", role: global_admin}}]}}"),
            "admin.client_roles: needs admin.tls.client_ca_file: without that no client is asked for a certificate",
        ),
        (
            format!("{ADMIN}{{{MUTUAL}, client_roles: [{{san: \"dns:a\", role: tenant_admin}}]}}"),
            "admin.client_roles[0].tenant: is missing: a tenant_admin administers one tenant; write `tenant: acme`",
        ),
        (
            format!(
                "{ADMIN}{{{MUTUAL}, client_roles: [{{san: \"dns:a\", role: global_admin, tenant: b}}]}}"
            ),
            "admin.client_roles[0].tenant: is not for a global_admin, who administers every tenant; remove it",
        ),
        (
            format!(
                "{ADMIN}{{{MUTUAL}, client_roles: [{{san: \"dns:a\", role: user, tenant: b}}]}}"
            ),
            "admin.client_roles[0].role: a `user` reaches the keys of one owner, and a certificate has none; write `tenant_admin` or `global_admin`, or give its holder an API key",
        ),
        (
            format!(
                "{ADMIN}{{{MUTUAL}, client_roles: [{{san: \"dns:a\", role: global_admin}}, {{san: \"dns:A\", role: global_admin}}]}}"
            ),
            "admin.client_roles[1].san: `dns:a` has a role in admin.client_roles[0] already; keep one",
        ),
        (
            format!("{ADMIN}{{strict_api_key_mode: false}}"),
            "admin.strict_api_key_mode: is false and lets nobody in who is not let in anyway; write `admin: {oidc: {issuer: …}}` to accept JWTs, or take the line out",
        ),
    ] {
        assert_eq!(
            mistakes(&file_with(&snippet), &[]).join("\n"),
            expected,
            "{snippet}"
        );
    }
}
