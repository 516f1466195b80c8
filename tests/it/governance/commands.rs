//! What an operator types about limits on keys, and sees.

use std::sync::LazyLock;

use serde_json::Value;

use crate::support::program::{Place, Running};

const RULES: &str = "api_keys: {min_expiry_days: 0, max_expiry_days: 0}";

/// One control plane for all of them, each with a tenant of its own.
static SERVER: LazyLock<(Place, Running)> = LazyLock::new(|| {
    let place = Place::bootstrapped();
    place.edit_config(
        RULES,
        "api_keys: {min_expiry_days: 0, max_expiry_days: 30, tenant_limits: [{tenant_id: words, max_keys_per_user: 20}], \
         global_limits_override: {max_keys_per_global_admin: 40}}",
    );
    let running = place.serve();
    (place, running)
});

fn place(tenant: &str) -> &'static Place {
    SERVER.0.do_it(&["tenant", "create", tenant]);
    &SERVER.0
}

#[test]
fn limits_are_shown_changed_and_taken_back() {
    let place = place("numbers");
    let shown = place.do_it(&["limits", "get", "numbers"]);
    for line in [
        ["keys per user", "10 (default)"],
        ["keys per tenant admin", "25 (default)"],
        ["keys per global admin", "40 (global_override)"],
    ] {
        let has = |found: &str| line.iter().all(|words| found.contains(words));
        assert!(shown.lines().any(has), "{line:?}: {shown}");
    }
    let set = [
        "limits",
        "set",
        "numbers",
        "--max-keys-per-user",
        "15",
        "-o",
        "json",
    ];
    let set: Value = serde_json::from_str(&place.do_it(&set)).unwrap();
    assert_eq!(set["max_keys_per_user"], 15);
    assert_eq!(set["effective_limits"][0]["value"], 15);
    assert_eq!(set["effective_limits"][0]["source"], "tenant_runtime");
    assert_eq!(set["configuration"]["sources"]["max_expiry_days"], "file");
    let taken = place.do_it(&["limits", "set", "numbers", "--max-keys-per-user", "none"]);
    assert!(taken.contains("10 (default)"), "{taken}");
}

#[test]
fn an_explanation_is_in_words_with_every_source() {
    let place = place("words");
    place.do_it(&["limits", "set", "words", "--max-keys-per-user", "12"]);
    let explained = place.do_it(&["limits", "explain", "words"]);
    assert_eq!(
        explained,
        "Keys that an owner may have\n  \
           12 for one more with the role user: set for this tenant at run time, which wins over 20 that is configured for this tenant (tenant_runtime)\n  \
           25 for one more with the role tenant_admin: the default of the configuration (default)\n  \
           40 for one more with the role global_admin: the override for all tenants in the configuration (global_override)\n\
         Expiry of a key\n  \
           a new key may have one or not (enforce_expiry is from the default)\n  \
           no shortest life (min_expiry_days is from the file)\n  \
           at most 30 days (max_expiry_days is from the file)\n\
         Who may change the limits\n  \
           tenant admins, of their own tenant, and global admins\n\
         Requests\n  \
           tenant rate: unlimited\n  \
           tenant quota: unlimited\n"
    );
}

#[test]
fn what_is_wrong_says_what_to_do() {
    let place = place("wrong");
    for (args, code, words) in [
        (&["limits", "set", "wrong"][..], 2, "--max-keys-per-user"),
        (
            &["limits", "set", "wrong", "--max-keys-per-user", "many"],
            2,
            "must be a whole number, or none",
        ),
        (
            &[
                "limits",
                "set",
                "wrong",
                "--max-keys-per-user",
                "0",
                "--max-keys-per-global-admin",
                "100001",
            ],
            1,
            "2 fields are not acceptable\n  key_limits.max_keys_per_user: must be 1 to 100000",
        ),
        (&["limits", "get", "nobody"], 1, "tenant not found\nhint: "),
        (
            &[
                "limits",
                "set",
                "wrong",
                "--max-keys-per-user",
                "3",
                "--etag",
                "1-1",
            ],
            1,
            "modified concurrently",
        ),
    ] {
        let ended = place.run(args);
        assert_eq!(ended.code, code, "{args:?} {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{args:?} {}", ended.stderr);
    }
}

#[test]
fn the_effective_configuration_says_what_follows_for_each_tenant() {
    let place = place("shown");
    let shown = place.do_it(&["config", "show", "--effective", "-c", "keystile.yaml"]);
    for line in [
        "  max_expiry_days: 30  # file",
        "  allow_tenant_override: true  # default",
        "#   words       20 (tenant_config)  25 (default)  40 (global_override)",
        "#   all others  10 (default)        25 (default)  40 (global_override)",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
    }
    let json = [
        "config",
        "show",
        "--effective",
        "-c",
        "keystile.yaml",
        "-o",
        "json",
    ];
    let json: Value = serde_json::from_str(&place.do_it(&json)).unwrap();
    assert_eq!(json["sources"]["api_keys.max_expiry_days"], "file");
    let words = &json["key_limits"][0];
    assert_eq!(words["tenant_id"], "words");
    assert_eq!(words["max_keys_per_user"]["value"], 20);
    assert_eq!(words["max_keys_per_user"]["source"], "tenant_config");
}

#[test]
fn the_first_key_is_made_under_every_profile_and_its_days_are_counted_by_the_server() {
    for profile in ["default", "development", "production"] {
        let mut place = Place::with_keyrings();
        place.edit_config(RULES, "api_keys: {enabled: false}");
        place.add_config(&format!("profile: {profile}"));
        place.bootstrap();
        place.edit_config("enabled: false", "enabled: true");
        let _running = place.serve();
        place.do_it(&["tenant", "create", "acme"]);
        let make = |expiry: &[&str]| {
            let args = ["key", "create", "acme", "--name", "k", "--owner", "alice"];
            place.run(&[&args[..], expiry].concat())
        };
        // Exactly the shortest life: the server counts from when it makes the key.
        let shortest = make(&["--expires-in", "1d"]);
        assert_eq!(shortest.code, 0, "{profile} {}", shortest.stderr);
        let short = make(&["--expires-in", "23h"]);
        assert!(
            short
                .stderr
                .contains("API key expiry validation failed: is 23h from now"),
            "{}",
            short.stderr
        );
        let never = make(&[]);
        assert_eq!(never.code == 0, profile != "production", "{}", never.stderr);
        let longest = match profile {
            "default" => ("365d", "366d"),
            "development" => ("90d", "91d"),
            _ => ("730d", "731d"),
        };
        assert_eq!(make(&["--expires-in", longest.0]).code, 0);
        let long = make(&["--expires-in", longest.1]);
        assert!(
            long.stderr.contains("API key expiry validation failed"),
            "{}",
            long.stderr
        );
        let explained = place.do_it(&["limits", "explain", "acme"]);
        let limit = match profile {
            "default" => "10 for one more with the role user",
            "development" => "15 for one more with the role user",
            _ => "5 for one more with the role user",
        };
        assert!(explained.contains(limit), "{explained}");
    }
}
