//! Overrides by environment variable.

use super::{load, mistakes, tcp};
use crate::config::{ListenAddr, LogLevel};
use crate::ext_authz::credential::CredentialSource;

const SIDECAR: &str = super::SIDECAR;

#[test]
fn a_variable_wins_over_the_file() {
    let yaml = "{authz: {workers: 2}, keyring: {data: {file: k}}}";
    let config = load(yaml, &[("KEYSTILE__AUTHZ__WORKERS", "8")]).config;
    assert_eq!(config.authz.unwrap().workers, 8);
}

#[test]
fn the_environment_alone_is_enough() {
    let environment = [
        ("KEYSTILE__AUTHZ", "{}"),
        (
            "KEYSTILE__KEYRING__DATA__FILE",
            "/etc/keystile/data.keyring",
        ),
        ("KEYSTILE__AUTHZ__LISTEN", "127.0.0.1:1, unix:/run/a.sock"),
        ("keystile__telemetry__log__level", "debug"),
        ("KEYSTILE__PROFILE", "production"),
        ("Keystile__Plans__Pro__Features", "[images, 'export']"),
        ("KEYSTILE__AUTHZ__CREDENTIALS", "[{query: key}]"),
        ("KEYSTILE__AUTHZ__FORWARD_KEY", "TRUE"),
        ("KEYSTILE__AUTHZ__UNIX_SOCKET__MODE", "0600"),
        (
            "KEYSTILE__API_KEYS__GLOBAL_LIMITS_OVERRIDE__MAX_TOTAL_KEYS",
            "9",
        ),
    ];
    let config = load("", &environment).config;
    let key_rules = config.key_rules();
    let authz = config.authz.unwrap();
    assert_eq!(
        authz.listen,
        [tcp("127.0.0.1:1"), ListenAddr::Unix("/run/a.sock".into())]
    );
    assert_eq!(
        authz.credentials,
        [CredentialSource::Query("key".to_owned())]
    );
    assert!(authz.forward_key);
    assert_eq!(authz.unix_socket.mode.0, 0o600);
    assert_eq!(config.telemetry.log.level, LogLevel::Debug);
    assert!(
        key_rules.expiry.enforce,
        "the profile of the environment holds"
    );
    assert_eq!(config.plans["pro"].features.len(), 2);
    let overridden = key_rules.global_override.unwrap();
    assert_eq!(overridden.max_total, Some(9));
}

#[test]
fn a_field_has_the_last_word_over_its_section() {
    let environment = [
        ("KEYSTILE__CACHE__TTL", "5s"),
        ("KEYSTILE__CACHE", "{ttl: 30s, max_stale: 2h}"),
    ];
    let cache = load(SIDECAR, &environment).config.cache;
    assert_eq!(
        (cache.ttl.0.as_secs(), cache.max_stale.0.as_secs()),
        (5, 7200)
    );
}

#[test]
fn variables_of_the_client_and_of_others_are_left_alone() {
    let environment = [
        ("KEYSTILE_ADDR", "http://127.0.0.1:9002"),
        ("KEYSTILE_API_KEY", "anything"),
        ("KEYSTILE_SERVICE_HOST", "10.0.0.1"),
        ("KEYSTILE_ADMIN_PORT", "tcp://10.0.0.1:9002"),
        ("KEYSTILE_ADMIN_PORT_9002_TCP_ADDR", "10.0.0.1"),
        ("KEYSTILÉ__X", "1"),
        ("PATH", "/bin"),
    ];
    assert_eq!(
        load(SIDECAR, &environment).config,
        load(SIDECAR, &[]).config
    );
}

#[test]
fn a_mistake_in_a_variable_names_the_variable() {
    for (variable, value, expected) in [
        (
            "KEYSTILE__AUTHZ__LISTN",
            "x",
            "authz.listn (from KEYSTILE__AUTHZ__LISTN): unknown field `listn`; did you mean `listen`?",
        ),
        (
            "KEYSTILE_AUTHZ__LISTEN",
            "127.0.0.1:1",
            "authz (from KEYSTILE_AUTHZ__LISTEN): sets nothing: write `KEYSTILE__AUTHZ__LISTEN`",
        ),
        (
            "KEYSTILE__AUTHZ__WORKERS",
            "many",
            "authz.workers (from KEYSTILE__AUTHZ__WORKERS): is text; must be a whole number from 0 to 256",
        ),
        (
            "KEYSTILE__AUTHZ__WORKERS",
            "-1",
            "authz.workers (from KEYSTILE__AUTHZ__WORKERS): -1 is not a whole number from 0 to 256",
        ),
        (
            "KEYSTILE__AUTHZ__LISTEN",
            "127.0.0.1:1,nowhere",
            "authz.listen[1] (from KEYSTILE__AUTHZ__LISTEN): `nowhere` is not an address (write `127.0.0.1:9001`, `[::1]:9001` or `unix:/absolute/path`)",
        ),
        (
            "KEYSTILE__AUTHZ__LISTEN",
            "",
            "authz.listen (from KEYSTILE__AUTHZ__LISTEN): is an empty list; write at least one item, or take the line out for the default",
        ),
        (
            "KEYSTILE__AUTHZ__LISTEN__0",
            "x",
            "authz.listen (from KEYSTILE__AUTHZ__LISTEN__0): is a list, which a variable sets as a whole: `a,b` or `[a, b]`",
        ),
        (
            "KEYSTILE__PROFILE__X",
            "x",
            "profile (from KEYSTILE__PROFILE__X): has no fields of its own",
        ),
        (
            "KEYSTILE__CACHE",
            "{ttl: 1s",
            "cache (from KEYSTILE__CACHE): is not YAML: unclosed bracket '{' at line 1, column 1",
        ),
        (
            "KEYSTILE__CACHE",
            "",
            "cache (from KEYSTILE__CACHE): is empty; write `{}` for a section with defaults, or take the line out",
        ),
        (
            "KEYSTILE__CACHE__TTL",
            "2h",
            "cache.max_stale (from KEYSTILE__CACHE__TTL): 1h is shorter than cache.ttl 2h; must be at least as long",
        ),
    ] {
        assert_eq!(mistakes(SIDECAR, &[(variable, value)]), [expected]);
    }
}

#[test]
fn a_variable_without_a_name_is_a_mistake() {
    let found = mistakes(SIDECAR, &[("KEYSTILE__", "x")]);
    assert!(found[0].contains("KEYSTILE__"), "{found:?}");
}

#[test]
fn two_variables_for_one_field_are_a_mistake() {
    let environment = [
        ("KEYSTILE__PROFILE", "production"),
        ("keystile__profile", "default"),
    ];
    assert_eq!(
        mistakes(SIDECAR, &environment),
        [
            "profile (from KEYSTILE__PROFILE): is set by both KEYSTILE__PROFILE and keystile__profile; keep one"
        ]
    );
}
