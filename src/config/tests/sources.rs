//! Where each value came from, and how it is shown.

use super::load;
use crate::config::ValueSource;
use crate::domain::governance::Origin;

const YAML: &str = "
profile: production
authz: {workers: 2, listen: [\"127.0.0.1:1\"]}
keyring: {data: {env: SOME_KEK}}
api_keys: {max_expiry_days: 30}
plans: {on: {}}
";

#[test]
fn each_value_says_where_it_came_from() {
    let environment = [
        ("KEYSTILE__AUTHZ__WORKERS", "3"),
        ("KEYSTILE__CACHE", "{ttl: 5s}"),
    ];
    let effective = load(YAML, &environment).effective;
    let variable = |name: &str| ValueSource::Environment(name.to_owned());
    for (path, expected) in [
        ("authz.workers", variable("KEYSTILE__AUTHZ__WORKERS")),
        ("authz.listen", ValueSource::File),
        ("authz.store_timeout", ValueSource::Default),
        ("authz.path_variants", ValueSource::Profile),
        ("cache.ttl", variable("KEYSTILE__CACHE")),
        ("cache.max_stale", ValueSource::Default),
        ("api_keys.max_expiry_days", ValueSource::File),
        ("api_keys.enforce_expiry", ValueSource::Profile),
        (
            "api_keys.default_limits.max_keys_per_user",
            ValueSource::Profile,
        ),
        ("profile", ValueSource::File),
    ] {
        assert_eq!(effective.sources.get(path), Some(&expected), "{path}");
    }
}

#[test]
fn the_governance_block_takes_its_sources_along() {
    let variable = [("KEYSTILE__API_KEYS__MIN_EXPIRY_DAYS", "2")];
    let rules = load(YAML, &variable).config.key_rules();
    for (path, expected) in [
        ("max_expiry_days", Origin::File),
        ("min_expiry_days", Origin::Environment),
        ("enforce_expiry", Origin::Profile),
        ("default_limits.max_keys_per_user", Origin::Profile),
        ("profile", Origin::File),
    ] {
        assert_eq!(*rules.origin(path), expected, "{path}");
    }
    assert_eq!(
        *load(super::SIDECAR, &[])
            .config
            .key_rules()
            .origin("enabled"),
        Origin::Default
    );
}

#[test]
fn yaml_shows_value_and_source_on_one_line() {
    let yaml = load(YAML, &[("KEYSTILE__AUTHZ__WORKERS", "3")])
        .effective
        .to_yaml(true);
    for line in [
        "  workers: 3  # KEYSTILE__AUTHZ__WORKERS",
        "  listen:  # file",
        "    - \"127.0.0.1:1\"",
        "    mode: \"0660\"  # default",
        "    env: SOME_KEK  # file",
        "  enforce_expiry: true  # profile",
        "  \"on\":",
    ] {
        assert!(
            yaml.lines().any(|shown| shown == line),
            "{line:?} is not in\n{yaml}"
        );
    }
}

#[test]
fn without_a_profile_nothing_comes_from_one() {
    let effective = load(super::SIDECAR, &[]).effective;
    assert!(
        effective
            .sources
            .values()
            .all(|source| *source != ValueSource::Profile)
    );
}
