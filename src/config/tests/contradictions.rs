//! Fields that are right by themselves and not together.

use super::mistakes::file_with;
use super::{load, mistakes};

#[test]
fn fields_that_contradict_each_other_are_one_mistake() {
    for (snippet, expected) in [
        (
            "cache: {ttl: 2h}",
            "cache.max_stale: 1h is shorter than cache.ttl 2h; must be at least as long",
        ),
        (
            "tokens: {secret_retention: none}\nadmin: {guesses: 1/s shadow}",
            "admin.guesses: has no `shadow`: whoever guesses is refused",
        ),
        (
            "abuse: {block: 2h}",
            "abuse.block_max: 1h is shorter than abuse.block 2h; must be at least as long",
        ),
        (
            "plans: {pro: {rotation: {every: 1d}}}",
            "plans.pro.rotation.grace: 7d is longer than plans.pro.rotation.every 1d; must be at most that",
        ),
        (
            "tokens: {test_prefix: ks_live}",
            "tokens.test_prefix: `ks_live` is tokens.live_prefix too; the two must differ",
        ),
        (
            "api_keys: {min_expiry_days: 9, max_expiry_days: 8}",
            "api_keys.min_expiry_days: 9 is more than api_keys.max_expiry_days 8; must be at most that (a maximum of 0 is no maximum)",
        ),
        (
            "api_keys: {tenant_limits: [{tenant_id: a, max_keys_per_user: 1}, {tenant_id: a, max_keys_per_user: 2}]}",
            "api_keys.tenant_limits[1].tenant_id: tenant `a` has limits in api_keys.tenant_limits[0] already; keep one",
        ),
        (
            "api_keys: {tenant_limits: [{tenant_id: a}]}",
            "api_keys.tenant_limits[0]: sets no limit; write one of `max_keys_per_user`, `max_keys_per_tenant_admin`, `max_keys_per_global_admin`",
        ),
        (
            "authz: {routes: [{path: /a}, {path: \"/v1/{*rest}\"}, {methods: [GET], path: \"/v1/{id}\", host: a.b}]}",
            "authz.routes[2]: never reached: routes[1] matches everything that it does; put it before that one or take it out",
        ),
        (
            "authz: {routes: [{path: /a, shadow: true}, {path: /a}, {path: /a, shadow: true}]}",
            "authz.routes[2]: never reached: routes[0] matches everything that it does; put it before that one or take it out",
        ),
        (
            "authz: {routes: [{path: /a, mode: off, scopes: [read]}]}",
            "authz.routes[0].mode: `off` checks nothing and this rule asks for features or scopes; take those out or write `required` or `optional`",
        ),
        (
            "authz: {trusted_hop: {}}",
            "authz.trusted_hop.jwks: is missing: a context is checked with the first hop's keys; write `jwks: {url: https://…/.well-known/jwks.json}`, or `keyring.signing` where both hops have the same",
        ),
        (
            "authz: {trusted_hop: {jwks: {file: a, url: \"https://a.b/c\"}}}",
            "authz.trusted_hop.jwks.url: is given beside file; keep one of the two",
        ),
        (
            "authz: {key_header_prefix: x-tenant-key-}",
            "authz.key_header_prefix: `x-tenant-key-` overlaps authz.tenant_header_prefix `x-tenant-`; neither may begin with the other",
        ),
        (
            "authz: {credentials: [{header: x-api_key-v2}]}",
            "authz.credentials[0]: `x-api_key-v2` begins with authz.key_header_prefix `x-api-key-`, which clients may not send; choose another header",
        ),
        (
            "authz: {credentials: [{header: a}, {query: a}, {bearer: A}]}",
            "authz.credentials[2]: reads the same header `a` as authz.credentials[0]; keep one",
        ),
        (
            "ops: {listen: [\"127.0.0.1:9001\"]}",
            "ops.listen[0]: 127.0.0.1:9001 cannot be bound beside 127.0.0.1:9001 of authz.listen[0]; choose another port or path",
        ),
        (
            "ops: {listen: [\"0.0.0.0:9001\"], insecure: true}",
            "ops.listen[0]: 0.0.0.0:9001 cannot be bound beside 127.0.0.1:9001 of authz.listen[0]; choose another port or path",
        ),
        (
            "ops: {listen: [\"[::]:9001\"], insecure: true}",
            "ops.listen[0]: [::]:9001 cannot be bound beside 127.0.0.1:9001 of authz.listen[0]; choose another port or path",
        ),
        (
            "authz: {listen: [\"unix:/a/s\", \"unix:/a//s\"]}",
            "authz.listen[1]: unix:/a//s cannot be bound beside unix:/a/s of authz.listen[0]; choose another port or path",
        ),
        (
            "keyring: {}",
            "keyring.data: is missing: `authz` and `admin` need it to open keys; `keystile keyring init` makes one, then write `keyring: {data: {file: keys/data.keyring}}`",
        ),
        (
            "admin: {}",
            "keyring.vault: is missing: `admin` seals tokens with it; write `vault: {file: keys/vault.keyring}`, or `tokens: {secret_retention: none}` to keep no tokens",
        ),
        (
            "keyring: {data: {file: a}, vault: {file: ./a}}",
            "keyring.vault.file: is the same as keyring.data.file: every sidecar has that one, and none may open the vault; make another",
        ),
        (
            "keyring: {data: {env: A}, vault: {env: A}}",
            "keyring.vault.env: is the same as keyring.data.env: every sidecar has that one, and none may open the vault; make another",
        ),
        (
            "authz: {signed_context: {}}",
            "keyring.signing: is missing: `authz.signed_context` signs with it; `keystile keyring init --ring signing` makes one, then write `signing: {file: keys/signing.keyring}`",
        ),
        (
            "keyring: {data: {file: a}, signing: {file: ./a}}",
            "keyring.signing.file: is the same as keyring.data.file: a key that seals may not sign; make another",
        ),
        (
            "keyring: {data: {env: A}, vault: {env: B}, signing: {env: B}}",
            "keyring.signing.env: is the same as keyring.vault.env: a key that seals may not sign; make another",
        ),
        (
            "keyring: {data: {file: keystile.redb}}",
            "keyring.data.file: is the store's own file (store.embedded.path)",
        ),
    ] {
        assert_eq!(mistakes(&file_with(snippet), &[]), [expected], "{snippet}");
    }
}

#[test]
fn what_only_looks_like_a_contradiction_is_accepted() {
    for snippet in [
        "api_keys: {min_expiry_days: 9, max_expiry_days: 0}",
        "admin: {}\ntokens: {secret_retention: none}",
        "authz: {listen: [\"127.0.0.1:0\"]}\nops: {listen: [\"127.0.0.1:0\"]}",
        "authz: {listen: [\"127.0.0.1:9001\", \"127.0.0.2:9001\", \"[::1]:9001\"]}",
        "authz: {credentials: [{query: a}, {cookie: a}, {header: a}]}",
        "cache: {ttl: 1h}",
        // The control plane publishes what sidecars sign with.
        "admin: {}\ntokens: {secret_retention: none}\nkeyring: {data: {file: a}, signing: {file: b}}",
    ] {
        load(&file_with(snippet), &[]);
    }
}

#[test]
fn a_schedule_needs_kept_tokens_where_it_is_followed() {
    let with = |listener: &str| {
        format!(
            "{{{listener}: {{}}, keyring: {{data: {{file: k}}}}, tokens: {{secret_retention: none}}, plans: {{pro: {{rotation: {{}}}}}}}}"
        )
    };
    let expected = "plans.pro.rotation: needs kept tokens, so that they can be claimed, and tokens.secret_retention is `none`; set that to `sealed`, or leave this out";
    assert_eq!(mistakes(&with("admin"), &[]), [expected]);
    // A sidecar keeps no tokens and rotates nothing; what it reads of plans may be the same.
    let sidecar = load(&with("authz"), &[]).config;
    assert!(sidecar.plans["pro"].rotation.is_some());
}
