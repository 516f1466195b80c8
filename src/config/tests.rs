//! What an operator sees: a file in, a configuration or a list of mistakes out.

use std::collections::BTreeMap;
use std::time::Duration;

use super::defaults::known;
use super::section::{
    ApiKeys, Cache, Embedded, FailurePolicy, Keyrings, Log, RateLimits, Redis, Shutdown, Store,
    StoreKind, Telemetry, Tokens,
};
use super::*;
use crate::domain::governance::{GlobalOverride, KeyLimits, PerRole};
use crate::domain::limit::Rate;
use crate::domain::name::{Feature, TenantId};
use crate::ext_authz::credential;
use crate::limiter;

mod contradictions;
mod environment;
mod files;
mod injector;
mod mistakes;
mod oidc;
mod redis;
mod schema;
mod sources;
mod tls;

/// The least that serves checks.
const SIDECAR: &str = "{authz: {}, keyring: {data: {file: data.keyring}}}";

#[track_caller]
fn load(yaml: &str, environment: &[(&str, &str)]) -> Loaded {
    match try_load(yaml, environment) {
        Ok(loaded) => loaded,
        Err(wrong) => panic!("{yaml}\n{wrong}"),
    }
}

fn try_load(yaml: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::parse(yaml, "test.yaml", environment.iter().map(owned))
}

/// One line a mistake.
#[track_caller]
fn mistakes(yaml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match try_load(yaml, environment) {
        Err(ConfigError::Mistakes(mistakes)) => {
            mistakes.list.iter().map(ToString::to_string).collect()
        }
        other => panic!("expected mistakes in {yaml}, got {other:?}"),
    }
}

fn tcp(address: &str) -> ListenAddr {
    ListenAddr::Tcp(address.parse().unwrap())
}

fn limits(user: u32, tenant_admin: u32, global_admin: u32) -> PerRole<u32> {
    PerRole {
        user,
        tenant_admin,
        global_admin,
    }
}

fn without_origins(mut config: Config) -> Config {
    config.api_keys.origins.clear();
    config
}

#[test]
fn what_is_not_written_has_the_documented_default() {
    let socket = UnixSocket {
        mode: SocketMode(0o660),
        group: None,
    };
    let seconds = |count| HumanDuration(Duration::from_secs(count));
    let expected = Config {
        profile: Profile::Default,
        telemetry: Telemetry {
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Auto,
            },
        },
        authz: Some(Authz {
            listen: vec![tcp("127.0.0.1:9001")],
            unix_socket: socket.clone(),
            tls: None,
            insecure: false,
            max_connections: 4096,
            idle_timeout: seconds(900),
            workers: 0,
            credentials: vec![
                credential::CredentialSource::Header("x-api-key".to_owned()),
                credential::CredentialSource::Bearer("authorization".to_owned()),
            ],
            forward_key: false,
            tenant_header_prefix: known("x-tenant-"),
            key_header_prefix: known("x-api-key-"),
            max_message_bytes: ByteSize(4 * 1024 * 1024),
            store_timeout: HumanDuration(Duration::from_millis(40)),
            routes: Vec::new(),
            method_override: None,
            path_override: None,
            path_variants: PathVariants::Ignore,
            signed_context: None,
            trusted_hop: None,
        }),
        admin: Some(Admin {
            listen: vec![tcp("127.0.0.1:9002")],
            unix_socket: socket.clone(),
            tls: None,
            insecure: false,
            max_connections: 512,
            idle_timeout: seconds(300),
            strict_api_key_mode: true,
            guesses: Rate::parse("1/s burst 100").unwrap(),
            client_roles: Vec::new(),
            oidc: None,
        }),
        ops: Some(Ops {
            listen: vec![tcp("127.0.0.1:9003")],
            unix_socket: socket,
            tls: None,
            insecure: false,
            max_connections: 128,
            idle_timeout: seconds(60),
        }),
        injector: None,
        store: Store {
            kind: StoreKind::Embedded,
            embedded: Embedded {
                path: known("keystile.redb"),
            },
            redis: Redis::default(),
        },
        keyring: Keyrings {
            data: Some(KeyringSource::File("data.keyring".into())),
            vault: Some(KeyringSource::Env("VAULT_KEK".to_owned())),
            signing: None,
        },
        cache: Cache {
            ttl: seconds(60),
            max_stale: seconds(3600),
            negative_ttl: seconds(10),
            max_entries: 1_000_000,
            max_bytes: ByteSize(256 << 20),
            max_negative_entries: 100_000,
        },
        failure_policy: FailurePolicy {
            store_outage: OnOutage::Deny,
            limiter_outage: limiter::OnOutage::Local,
        },
        tokens: Tokens {
            live_prefix: known("ks_live"),
            test_prefix: known("ks_test"),
            secret_retention: SecretRetention::Sealed,
        },
        rate_limits: RateLimits {
            mode: limiter::Mode::Leased,
        },
        plans: BTreeMap::new(),
        api_keys: ApiKeys::default(),
        abuse: None,
        shutdown: Shutdown {
            drain_timeout: seconds(10),
        },
    };
    let yaml = "
authz: {}
admin: {}
ops: {}
keyring: {data: {file: data.keyring}, vault: {env: VAULT_KEK}}
";
    let config = without_origins(load(yaml, &[]).config);
    assert_eq!(config.key_rules(), KeyRules::default());
    assert_eq!(config, expected);
}

#[test]
fn a_section_that_is_absent_is_a_listener_that_is_off() {
    let config = load(SIDECAR, &[]).config;
    assert!(config.authz.is_some());
    assert_eq!((config.admin, config.ops), (None, None));
    assert_eq!(config.keyring.vault, None);
}

#[test]
fn what_is_written_arrives() {
    let yaml = r#"
authz:
  listen: ["localhost:7000", "[::1]:7000", "unix:/run/keystile/authz.sock"]
  unix_socket: {mode: "660", group: envoy}
  workers: 4
  credentials: [{query: api_key}, {cookie: key}, {header: X-Key}, {bearer: Authorization}]
  max_message_bytes: 65536
  store_timeout: 1s
  signed_context: {issuer: "https://keys.example", audience: [orders, billing], ttl: 30s}
keyring: {data: {env: KEYSTILE_KEK}, signing: {file: keys/signing.keyring}}
plans:
  pro: {features: [export, images], rate: 100/s burst 200, quota: "1000/day,20000/month", shadow: true}
  new: {rotation: {every: 30d, grace: 2d}}
  old: {rotation: {}}
rate_limits: {mode: strict}
failure_policy: {store_outage: defer, limiter_outage: deny}
telemetry: {log: {level: trace, format: json}}
shutdown: {drain_timeout: 0s}
"#;
    let config = load(yaml, &[]).config;
    let authz = config.authz.unwrap();
    let unix = ListenAddr::Unix("/run/keystile/authz.sock".into());
    assert_eq!(
        authz.listen,
        [tcp("127.0.0.1:7000"), tcp("[::1]:7000"), unix]
    );
    assert_eq!(authz.unix_socket.mode, SocketMode(0o660));
    assert_eq!(authz.unix_socket.group.as_deref(), Some("envoy"));
    assert_eq!(authz.workers, 4);
    assert_eq!(
        authz.credentials,
        [
            credential::CredentialSource::Query("api_key".to_owned()),
            credential::CredentialSource::Cookie("key".to_owned()),
            credential::CredentialSource::Header("x-key".to_owned()),
            credential::CredentialSource::Bearer("authorization".to_owned()),
        ]
    );
    assert_eq!(authz.max_message_bytes, ByteSize(65536));
    assert_eq!(authz.store_timeout.0, Duration::from_secs(1));
    assert_eq!(
        config.keyring.data(),
        &KeyringSource::Env("KEYSTILE_KEK".to_owned())
    );
    assert_eq!(
        authz.signed_context,
        Some(SignedContext {
            issuer: known("https://keys.example"),
            audience: vec![known("orders"), known("billing")],
            ttl: HumanDuration(Duration::from_secs(30)),
            key_ref: false,
        })
    );
    assert_eq!(
        config.keyring.signing,
        Some(KeyringSource::File("keys/signing.keyring".into()))
    );
    let pro = config.plans["pro"].features.iter().map(Feature::as_str);
    assert_eq!(pro.collect::<Vec<_>>(), ["export", "images"]);
    assert_eq!(config.failure_policy.store_outage, OnOutage::Defer);
    assert_eq!(
        config.failure_policy.limiter_outage,
        limiter::OnOutage::Deny
    );
    assert_eq!(config.rate_limits.mode, limiter::Mode::Strict);
    let limits = config.plans["pro"].limits();
    assert_eq!(limits.rate.unwrap().to_string(), "100/s burst 200");
    assert_eq!(limits.quota.unwrap().to_string(), "1000/day, 20000/month");
    assert!(config.plans["pro"].shadow);
    let days = |plan: &str| {
        let rotation = config.plans[plan].rotation.as_ref()?;
        let of = |time: HumanDuration| time.0.as_secs() / 86_400;
        Some((of(rotation.every), of(rotation.grace)))
    };
    assert_eq!(days("pro"), None);
    assert_eq!((days("new"), days("old")), (Some((30, 2)), Some((90, 7))));
    assert_eq!(
        (config.telemetry.log.level, config.telemetry.log.format),
        (LogLevel::Trace, LogFormat::Json)
    );
    assert_eq!(config.shutdown.drain_timeout.0, Duration::ZERO);
}

#[test]
fn the_governance_block_of_the_contract_is_read_as_it_stands() {
    let yaml = "
authz: {}
keyring: {data: {file: data.keyring}}
api_keys:
  enabled: true
  default_limits: {max_keys_per_user: 10, max_keys_per_tenant_admin: 25, max_keys_per_global_admin: 100}
  tenant_limits: [{tenant_id: production, max_keys_per_user: 20, max_keys_per_tenant_admin: 50, max_keys_per_global_admin: 150}]
  global_limits_override: {max_keys_per_user: 15, max_keys_per_tenant_admin: 35, max_keys_per_global_admin: 200, max_total_keys: 5000}
  allow_tenant_override: true
  allow_admin_override: true
  max_expiry_days: 365
  min_expiry_days: 1
  enforce_expiry: false
";
    let all = |user, tenant_admin, global_admin| KeyLimits {
        user: Some(user),
        tenant_admin: Some(tenant_admin),
        global_admin: Some(global_admin),
    };
    let production = TenantId::parse("production").unwrap();
    let expected = KeyRules {
        tenants: [(production, all(20, 50, 150))].into(),
        global_override: Some(GlobalOverride {
            limits: all(15, 35, 200),
            max_total: Some(5000),
        }),
        ..KeyRules::default()
    };
    assert_eq!(
        without_origins(load(yaml, &[]).config).key_rules(),
        expected
    );
}

#[test]
fn a_profile_sets_what_the_file_does_not() {
    for (profile, default_limits, max_days, tenant_override, enforce) in [
        ("default", limits(10, 25, 100), 365, true, false),
        ("development", limits(15, 35, 150), 90, true, false),
        ("production", limits(5, 15, 50), 730, false, true),
    ] {
        let yaml = format!("profile: {profile}\nauthz: {{}}\nkeyring: {{data: {{file: k}}}}");
        let config = load(&yaml, &[]).config;
        let api_keys = config.key_rules();
        let refuses = config.authz.unwrap().path_variants == PathVariants::Refuse;
        assert_eq!(refuses, profile == "production");
        assert_eq!(api_keys.defaults, default_limits, "{profile}");
        assert_eq!(api_keys.expiry.max_days, max_days, "{profile}");
        assert_eq!(api_keys.allow_tenant_override, tenant_override, "{profile}");
        assert!(api_keys.allow_admin_override, "{profile}");
        assert_eq!((api_keys.enabled, api_keys.expiry.min_days), (true, 1));
        assert_eq!(api_keys.profile, profile);
        assert_eq!(api_keys.expiry.enforce, enforce, "{profile}");
    }
}

#[test]
fn the_file_wins_over_the_profile_field_by_field() {
    let yaml = "
profile: production
authz: {path_variants: ignore}
keyring: {data: {file: k}}
api_keys: {default_limits: {max_keys_per_user: 7}, enforce_expiry: false}
";
    let config = load(yaml, &[]).config;
    let api_keys = config.key_rules();
    assert_eq!(config.authz.unwrap().path_variants, PathVariants::Ignore);
    let control_plane =
        "{profile: production, admin: {}, keyring: {data: {file: k}, vault: {file: v}}}";
    assert!(
        load(control_plane, &[]).config.authz.is_none(),
        "a profile switches no listener on"
    );
    assert_eq!(api_keys.defaults, limits(7, 15, 50));
    assert!(!api_keys.expiry.enforce);
    assert_eq!(api_keys.expiry.max_days, 730);
}

#[test]
fn null_is_no_override_and_each_field_of_an_override_is_optional() {
    let with = |value: &str| {
        let yaml = format!(
            "{{authz: {{}}, keyring: {{data: {{file: k}}}}, api_keys: {{global_limits_override: {value}}}}}"
        );
        load(&yaml, &[]).config.key_rules().global_override
    };
    assert_eq!(with("null"), None);
    assert_eq!(with("{}"), Some(GlobalOverride::default()));
    let one = GlobalOverride {
        max_total: Some(9),
        ..GlobalOverride::default()
    };
    assert_eq!(
        with("{max_total_keys: 9, max_keys_per_user: null}"),
        Some(one)
    );
}

#[test]
fn a_summary_names_what_is_switched_on() {
    assert_eq!(
        load(SIDECAR, &[]).config.summary(),
        "authz on 127.0.0.1:9001; embedded store keystile.redb; profile default"
    );
}
