//! Every mistake, with where, what and what instead.

use super::{mistakes, try_load};

/// `snippet` in a file that is otherwise right.
pub(super) fn file_with(snippet: &str) -> String {
    let mut yaml = String::new();
    for (section, line) in [
        ("authz", "authz: {}"),
        ("keyring", "keyring: {data: {file: data.keyring}}"),
    ] {
        if !snippet.contains(&format!("{section}:")) {
            yaml.push_str(line);
            yaml.push('\n');
        }
    }
    yaml + snippet
}

#[test]
fn one_mistake_is_one_line_that_says_what_to_write() {
    for (snippet, expected) in [
        // names
        (
            "authz: {listn: []}",
            "authz.listn: unknown field `listn`; did you mean `listen`?",
        ),
        (
            "opps: {}",
            "opps: unknown field `opps`; did you mean `ops`?",
        ),
        (
            "failure-policy: {}",
            "failure-policy: unknown field `failure-policy`; did you mean `failure_policy`?",
        ),
        (
            "Cache: {}",
            "Cache: unknown field `Cache`; did you mean `cache`?",
        ),
        (
            "shutdown: {zzz: 1}",
            "shutdown.zzz: unknown field `zzz`; known here: drain_timeout",
        ),
        (
            "shutdown: {\"a b\\n\": 1}",
            "shutdown[\"a b\\n\"]: unknown field `a b\\n`; known here: drain_timeout",
        ),
        (
            "profile: prod",
            "profile: `prod` is not one of `default`, `development`, `production`",
        ),
        (
            "profile: Production",
            "profile: `Production` is not one of `default`, `development`, `production`; did you mean `production`?",
        ),
        (
            "telemetry: {log: {level: warning}}",
            "telemetry.log.level: `warning` is not one of `error`, `warn`, `info`, `debug`, `trace`",
        ),
        // types
        (
            "cache: 5",
            "cache: is a number; must be a section (fields with values)",
        ),
        (
            "admin:",
            "admin: is empty; write `{}` for a section with defaults, or take the line out",
        ),
        (
            "cache: {ttl: 5}",
            "cache.ttl: is a number; must be a duration such as `30s`, from 1s to 1d",
        ),
        (
            "cache: {ttl: }",
            "cache.ttl: is empty; must be a duration such as `30s`, from 1s to 1d",
        ),
        (
            "cache: {max_entries: 1.5}",
            "cache.max_entries: 1.5 is not a whole number from 1 to 50000000",
        ),
        (
            "cache: {max_entries: ten}",
            "cache.max_entries: is text; must be a whole number from 1 to 50000000",
        ),
        (
            "authz: {forward_key: yes}",
            "authz.forward_key: is text; must be true or false",
        ),
        (
            "authz: {listen: \"127.0.0.1:1\"}",
            "authz.listen: is text; must be a list",
        ),
        (
            "authz: {unix_socket: {mode: 0660}}",
            "authz.unix_socket.mode: is a number; must be octal text in quotes such as \"0660\"; put text in quotes",
        ),
        // bounds
        (
            "authz: {workers: 257}",
            "authz.workers: 257 is not a whole number from 0 to 256",
        ),
        (
            "authz: {max_message_bytes: 1KiB}",
            "authz.max_message_bytes: `1KiB` is out of bounds; must be from 64KiB to 64MiB",
        ),
        (
            "authz: {max_message_bytes: 65535}",
            "authz.max_message_bytes: `65535` is out of bounds; must be from 64KiB to 64MiB",
        ),
        (
            "authz: {store_timeout: 11s}",
            "authz.store_timeout: `11s` is out of bounds; must be from 1ms to 10s",
        ),
        (
            "authz: {store_timeout: 0s}",
            "authz.store_timeout: `0s` is out of bounds; must be from 1ms to 10s",
        ),
        (
            "cache: {ttl: 500ms}",
            "cache.ttl: `500ms` is out of bounds; must be from 1s to 1d",
        ),
        (
            "shutdown: {drain_timeout: 11m}",
            "shutdown.drain_timeout: `11m` is out of bounds; must be from 0s to 10m",
        ),
        (
            "api_keys: {default_limits: {max_keys_per_user: 0}}",
            "api_keys.default_limits.max_keys_per_user: 0 is not a whole number from 1 to 100000",
        ),
        (
            "api_keys: {default_limits: {max_keys_per_user: 100001}}",
            "api_keys.default_limits.max_keys_per_user: 100001 is not a whole number from 1 to 100000",
        ),
        (
            "api_keys: {global_limits_override: {max_total_keys: -1}}",
            "api_keys.global_limits_override.max_total_keys: -1 is not a whole number from 1 to 100000000",
        ),
        (
            "api_keys: {max_expiry_days: -1}",
            "api_keys.max_expiry_days: -1 is not a whole number from 0 to 36500",
        ),
        (
            "authz: {credentials: []}",
            "authz.credentials: is an empty list; write at least one item, or take the line out for the default",
        ),
        // routes
        (
            "authz: {routes: [{methods: [get]}]}",
            "authz.routes[0].methods[0]: `get` is not a method as requests send it (1 to 32 of A-Z _ -, a letter first), such as `GET`",
        ),
        (
            "authz: {routes: [{path: v1}]}",
            "authz.routes[0].path: `v1` must begin with `/`, such as /v1/images/{id}",
        ),
        (
            "authz: {routes: [{path: \"/v1/*\"}]}",
            "authz.routes[0].path: `/v1/*` has a wildcard in another form; write {id} for one segment and {*rest} for all that follow",
        ),
        (
            "authz: {routes: [{host: \"a.b:80\"}]}",
            "authz.routes[0].host: `a.b:80` is not a host without port, such as api.example.com or *.example.com",
        ),
        (
            "authz: {routes: [{feature: x}]}",
            "authz.routes[0].feature: unknown field `feature`; did you mean `features`?",
        ),
        (
            "authz: {routes: [{cost: 1000001}]}",
            "authz.routes[0].cost: 1000001 is not a whole number from 0 to 1000000",
        ),
        (
            "authz: {routes: [{mode: none}]}",
            "authz.routes[0].mode: `none` is not one of `required`, `optional`, `off`",
        ),
        (
            "authz: {routes: [{scopes: [\"a,b\"]}]}",
            "authz.routes[0].scopes[0]: `a,b` is not a scope (1 to 64 visible ASCII characters, none of \" \\ ,)",
        ),
        // texts with rules
        (
            "cache: {ttl: 1h30m}",
            "cache.ttl: `1h30m` is not a duration (a whole number and ms, s, m, h or d, such as `30s`)",
        ),
        (
            "cache: {ttl: -1s}",
            "cache.ttl: `-1s` is not a duration (a whole number and ms, s, m, h or d, such as `30s`)",
        ),
        (
            "cache: {ttl: \"1 s\"}",
            "cache.ttl: `1 s` is not a duration (a whole number and ms, s, m, h or d, such as `30s`)",
        ),
        (
            "cache: {ttl: 99999999999999999999d}",
            "cache.ttl: `99999999999999999999d` is not a duration (a whole number and ms, s, m, h or d, such as `30s`)",
        ),
        (
            "authz: {listen: [\"127.0.0.1:1\", \"example.com:80\"]}",
            "authz.listen[1]: `example.com:80` is not an address (write `127.0.0.1:9001`, `[::1]:9001` or `unix:/absolute/path`)",
        ),
        (
            "authz: {listen: [\"localhost:65536\"]}",
            "authz.listen[0]: `65536` is not a port; ports are 0 to 65535",
        ),
        (
            "authz: {listen: [\"unix:relative\"]}",
            "authz.listen[0]: `unix:relative` is not a socket address (write `unix:/absolute/path/to.sock`)",
        ),
        (
            "authz: {unix_socket: {mode: \"0888\"}}",
            "authz.unix_socket.mode: `0888` is not a socket mode (octal text with read and write for the owner, such as \"0660\")",
        ),
        (
            "authz: {unix_socket: {mode: \"0077\"}}",
            "authz.unix_socket.mode: `0077` is not a socket mode (octal text with read and write for the owner, such as \"0660\")",
        ),
        (
            "authz: {tenant_header_prefix: x-}",
            "authz.tenant_header_prefix: `x-` would take in `x-b3-traceid` headers, which requests need; choose one of your own, such as `x-tenant-`",
        ),
        (
            "authz: {tenant_header_prefix: x-envoy-me-}",
            "authz.tenant_header_prefix: `x-envoy-me-` would take in `x-envoy-` headers, which requests need; choose one of your own, such as `x-tenant-`",
        ),
        (
            "authz: {key_header_prefix: content-}",
            "authz.key_header_prefix: `content-` would take in `content-length` headers, which requests need; choose one of your own, such as `x-tenant-`",
        ),
        (
            "authz: {key_header_prefix: x-key}",
            "authz.key_header_prefix: `x-key` is not a header prefix (2 to 32 of a-z 0-9 -, a letter first, `-` last)",
        ),
        (
            "authz: {credentials: [{header: host}]}",
            "authz.credentials[0].header: `host` frames the message and cannot hold a key; use a header of its own, such as `x-api-key`",
        ),
        (
            "authz: {credentials: [{header: x-envoy-a}]}",
            "authz.credentials[0].header: `x-envoy-a` belongs to Envoy and cannot hold a key; use a header of its own, such as `x-api-key`",
        ),
        (
            "authz: {credentials: [{cookie: \"a;b\"}]}",
            "authz.credentials[0].cookie: `a;b` is not a cookie name (1 to 64 of A-Z a-z 0-9 ! # $ % & ' * + . ^ _ ` | ~ -)",
        ),
        (
            "authz: {credentials: [{header: a, query: b}]}",
            "authz.credentials[0]: has 2 fields; must have exactly one of `bearer`, `cookie`, `header`, `query`",
        ),
        (
            "tokens: {live_prefix: ks__live}",
            "tokens.live_prefix: `ks__live` is not a token prefix (2 to 16 of a-z 0-9 _, no `_` first, last or doubled)",
        ),
        (
            "plans: {Pro: {}}",
            "plans.Pro: the name `Pro` is not a plan name (1 to 63 of a-z 0-9 -, a letter or digit first and last)",
        ),
        (
            "plans: {pro: {rate: 100/sec}}",
            "plans.pro.rate: `100/sec` is not a number from 1 to 1000000000 and /s, /m or /h, then `burst` and a number if more or fewer may come at once, then `shadow` if it is only reported, such as `100/s` or `100/s burst 200`",
        ),
        (
            "plans: {pro: {quota: 0/day}}",
            "plans.pro.quota: `0/day` is not a number from 1 to 1000000000000 and /day or /month, then `shadow` if it is only reported, or one of each with a comma between, such as `1000000/month` or `1000/day, 20000/month`",
        ),
        (
            "rate_limits: {mod: strict}",
            "rate_limits.mod: unknown field `mod`; did you mean `mode`?",
        ),
        (
            "plans: {pro: {features: [-x]}}",
            "plans.pro.features[0]: `-x` is not a feature name (1 to 64 of A-Z a-z 0-9 . _ : -, a letter or digit first)",
        ),
        (
            "plans: {pro: {features: [a, b, a]}}",
            "plans.pro.features[2]: repeats plans.pro.features[0]",
        ),
        (
            "api_keys: {tenant_limits: [{tenant_id: A, max_keys_per_user: 1}]}",
            "api_keys.tenant_limits[0].tenant_id: `A` is not a tenant id (1 to 63 of a-z 0-9 -, a letter or digit first and last)",
        ),
        (
            "api_keys: {tenant_limits: [{max_keys_per_user: 1}]}",
            "api_keys.tenant_limits[0]: needs the field `tenant_id`",
        ),
        (
            "store: {embedded: {path: \"\"}}",
            "store.embedded.path: must not be empty; write a file path",
        ),
        (
            "store: {kind: sqlite}",
            "store.kind: `sqlite` is not one of `embedded`, `redis`",
        ),
        (
            "keyring: {data: {}}",
            "keyring.data: has 0 fields; must have exactly one of `env`, `file`",
        ),
        (
            "keyring: {data: {file: k, env: K}}",
            "keyring.data: has 2 fields; must have exactly one of `env`, `file`",
        ),
    ] {
        assert_eq!(mistakes(&file_with(snippet), &[]), [expected], "{snippet}");
    }
}

#[test]
fn every_mistake_is_reported_at_once() {
    let yaml = "
profile: prod
authz: {listn: [], workers: 1000, listen: [1, nowhere]}
cache: {ttl: 2h}
api_keys: {min_expiry_days: 400}
opps: {}
";
    let environment = [("KEYSTILE__STORE__KIND", "sqlite"), ("KEYSTILE__X", "1")];
    let paths: Vec<String> = mistakes(yaml, &environment)
        .iter()
        .map(|line| line.split([':', ' ']).next().unwrap().to_owned())
        .collect();
    assert_eq!(
        paths,
        [
            "api_keys.min_expiry_days",
            "authz.listen[0]",
            "authz.listen[1]",
            "authz.listn",
            "authz.workers",
            "cache.max_stale",
            "keyring.data",
            "opps",
            "profile",
            "store.kind",
            "x",
        ]
    );
}

#[test]
fn a_mistake_is_not_told_twice() {
    for (yaml, expected) in [
        // Would otherwise be missing as well.
        (
            "{authz: {}, keyrng: {data: {file: k}}}",
            "keyrng: unknown field `keyrng`; did you mean `keyring`?",
        ),
        (
            "{auhtz: {}}",
            "auhtz: unknown field `auhtz`; did you mean `authz`?",
        ),
        (
            "{authz: {}, keyring: {data: {file: 1}}}",
            "keyring.data.file: is a number; must be a file path; put text in quotes",
        ),
        // Would otherwise collide by its default.
        (
            "{authz: {listen: [\"127.0.0.1:1\", x]}, ops: {listen: [\"127.0.0.1:9001\"]}, keyring: {data: {file: k}}}",
            "authz.listen[1]: `x` is not an address (write `127.0.0.1:9001`, `[::1]:9001` or `unix:/absolute/path`)",
        ),
    ] {
        assert_eq!(mistakes(yaml, &[]), [expected]);
    }
}

#[test]
fn nothing_switched_on_is_a_mistake() {
    let expected = "authz: nothing to serve: neither `authz` nor `admin` nor `injector` is there; `authz: {}` switches a listener on with defaults";
    for yaml in ["", "{}", "# nothing", "ops: {}"] {
        assert_eq!(mistakes(yaml, &[]), [expected], "{yaml}");
    }
}

#[test]
fn a_file_that_is_no_section_is_a_mistake() {
    for (yaml, written) in [
        ("- a", "a list"),
        ("text", "text"),
        ("5", "a number"),
        ("true", "true or false"),
    ] {
        let expected =
            format!("the top level: is {written}; must be a section (fields with values)");
        assert_eq!(mistakes(yaml, &[]), [expected]);
    }
}

/// People paste the key where the name of its file or variable belongs.
#[test]
fn a_key_in_the_wrong_place_is_never_repeated() {
    let key = "bm90IGEgcmVhbCBrZXksIG9ubHkgYSB0ZXN0ISEhISE=";
    for snippet in [
        format!("keyring: {{data: \"{key}\"}}"),
        format!("keyring: {{data: {{env: \"{key}\"}}}}"),
        format!("keyring: \"{key}\""),
        format!("keyring: {{data: {{file: [\"{key}\"]}}}}"),
        format!("keyring: {{data: {{kek: \"{key}\"}}}}"),
    ] {
        let found = mistakes(&file_with(&snippet), &[]);
        assert!(!found.concat().contains("bm90"), "{found:?}");
    }
    let found = mistakes(
        &file_with("keyring: {}"),
        &[("KEYSTILE__KEYRING__DATA", key)],
    );
    assert!(!found.concat().contains("bm90"), "{found:?}");
}

#[test]
fn a_long_or_hostile_value_is_shown_short_and_on_one_line() {
    let yaml = file_with(&format!("profile: \"\\e[31m\\n{}\"", "x".repeat(10_000)));
    let found = mistakes(&yaml, &[]);
    assert!(
        found[0].len() < 200 && !found[0].contains(['\n', '\u{1b}']),
        "{found:?}"
    );
}

#[test]
fn the_last_line_says_how_many_and_what_to_do() {
    let text = try_load("{}", &[]).unwrap_err().to_string();
    assert_eq!(
        text.lines().last(),
        Some(
            "1 mistake in test.yaml: correct the above and try again; `keystile config schema --markdown` explains every field"
        )
    );
}
