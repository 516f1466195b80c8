//! From what was written, once it is known to be right, to what the rest of the program uses.

use std::collections::BTreeMap;

use super::quantity::HumanDuration;
use super::raw::{
    RawAdmin, RawApiKeys, RawAuthz, RawClientRole, RawConfig, RawCredential, RawKeyringSource,
    RawLimitsOverride, RawPlan, RawStore, RawStoreKind, RawTenantLimits, RawTls, RawTrustedHop,
    RawUnixSocket,
};
use super::text::{FilePath, QuotaText, RateText, SanText};
use super::{
    AdminConfig, AuthzConfig, CacheConfig, ClientRoleConfig, Config, CredentialSource,
    FailurePolicy, HopListeners, KeyringConfig, KeyringSource, LogConfig, OpsConfig, Plan, Profile,
    ShutdownConfig, SignedContextConfig, StoreConfig, TlsConfig, TokenConfig, TrustedHopConfig,
    UnixSocketConfig,
};
use super::{abuse, oidc, redis, route};
use crate::domain::governance::{ExpiryRules, GlobalOverride, KeyLimits, KeyRules, PerRole};
use crate::domain::limit::Limits;
use crate::domain::name::TenantId;
use crate::domain::plan::Rotation;

/// `None` only for what `validate` refuses.
pub(super) fn config(raw: RawConfig) -> Option<Config> {
    let keyring = KeyringConfig {
        data: raw.keyring.data.and_then(keyring_source)?,
        vault: raw.keyring.vault.and_then(keyring_source),
        signing: raw.keyring.signing.and_then(keyring_source),
    };
    Some(Config {
        profile: raw.profile,
        log: LogConfig {
            level: raw.telemetry.log.level,
            format: raw.telemetry.log.format,
        },
        authz: raw.authz.map(authz),
        admin: raw.admin.map(admin),
        ops: raw.ops.map(|ops| OpsConfig {
            listen: ops.listen,
            unix_socket: unix_socket(ops.unix_socket),
            tls: ops.tls.as_ref().map(tls),
            insecure: ops.insecure,
            max_connections: ops.max_connections,
            idle_timeout: ops.idle_timeout.0,
        }),
        store: store(&raw.store)?,
        keyring,
        cache: CacheConfig {
            ttl: raw.cache.ttl.0,
            max_stale: raw.cache.max_stale.0,
            negative_ttl: raw.cache.negative_ttl.0,
            max_entries: raw.cache.max_entries,
            max_bytes: raw.cache.max_bytes.0,
            max_negative_entries: raw.cache.max_negative_entries,
        },
        failure_policy: FailurePolicy {
            store_outage: raw.failure_policy.store_outage,
            limiter_outage: raw.failure_policy.limiter_outage,
        },
        tokens: TokenConfig {
            live_prefix: raw.tokens.live_prefix.to_string(),
            test_prefix: raw.tokens.test_prefix.to_string(),
            secret_retention: raw.tokens.secret_retention,
        },
        rate_mode: raw.rate_limits.mode,
        plans: raw
            .plans
            .into_iter()
            .map(|(name, raw)| (name, plan(&raw)))
            .collect(),
        api_keys: api_keys(&raw.api_keys, raw.profile)?,
        abuse: raw.abuse.as_ref().map(abuse::config),
        shutdown: ShutdownConfig {
            drain_timeout: raw.shutdown.drain_timeout.0,
        },
    })
}

fn plan(raw: &RawPlan) -> Plan {
    Plan {
        features: raw.features.iter().map(ToString::to_string).collect(),
        limits: Limits {
            rate: raw.rate.as_ref().and_then(RateText::to_rate),
            quota: raw.quota.as_ref().and_then(QuotaText::to_quota),
        },
        shadow: raw.shadow,
        rotation: raw.rotation.as_ref().map(|raw| Rotation {
            every: raw.every.0,
            grace: raw.grace.0,
        }),
    }
}

fn store(raw: &RawStore) -> Option<StoreConfig> {
    Some(match raw.kind {
        RawStoreKind::Embedded => StoreConfig::Embedded {
            path: raw.embedded.path.to_path(),
        },
        RawStoreKind::Redis => StoreConfig::Redis(Box::new(redis::config(&raw.redis)?)),
    })
}

fn authz(raw: RawAuthz) -> AuthzConfig {
    let HumanDuration(store_timeout) = raw.store_timeout;
    AuthzConfig {
        listen: raw.listen,
        unix_socket: unix_socket(raw.unix_socket),
        tls: raw.tls.as_ref().map(tls),
        insecure: raw.insecure,
        max_connections: raw.max_connections,
        idle_timeout: raw.idle_timeout.0,
        workers: raw.workers,
        credentials: raw.credentials.into_iter().filter_map(credential).collect(),
        forward_key: raw.forward_key,
        tenant_header_prefix: raw.tenant_header_prefix.to_string(),
        key_header_prefix: raw.key_header_prefix.to_string(),
        max_message_bytes: raw.max_message_bytes.0,
        store_timeout,
        routes: raw.routes.iter().map(route::config).collect(),
        method_override: raw.method_override,
        path_override: raw.path_override,
        path_variants: raw.path_variants,
        signed_context: raw.signed_context.map(|signed| SignedContextConfig {
            issuer: signed.issuer.to_string(),
            audience: signed.audience.iter().map(ToString::to_string).collect(),
            ttl: signed.ttl.0,
            key_ref: signed.key_ref,
        }),
        trusted_hop: raw.trusted_hop.as_ref().map(trusted_hop),
    }
}

fn trusted_hop(raw: &RawTrustedHop) -> TrustedHopConfig {
    TrustedHopConfig {
        all_listeners: raw.listeners == HopListeners::All,
        issuer: raw.issuer.to_string(),
        audience: raw.audience.iter().map(ToString::to_string).collect(),
        jwks: raw.jwks.as_ref().and_then(oidc::jwks),
        max_age: raw.max_age.0,
    }
}

fn admin(raw: RawAdmin) -> AdminConfig {
    AdminConfig {
        listen: raw.listen,
        unix_socket: unix_socket(raw.unix_socket),
        tls: raw.tls.as_ref().map(tls),
        insecure: raw.insecure,
        max_connections: raw.max_connections,
        idle_timeout: raw.idle_timeout.0,
        guesses: raw.guesses.to_rate(),
        client_roles: raw.client_roles.iter().filter_map(client_role).collect(),
        oidc: raw.oidc.as_ref().and_then(oidc::config),
    }
}

fn tls(raw: &RawTls) -> TlsConfig {
    TlsConfig {
        cert_file: raw.cert_file.to_path(),
        key_file: raw.key_file.to_path(),
        client_ca_file: raw.client_ca_file.as_ref().map(FilePath::to_path),
        client_sans: raw
            .client_sans
            .iter()
            .filter_map(SanText::to_pattern)
            .collect(),
        min_version: raw.min_version,
    }
}

fn client_role(raw: &RawClientRole) -> Option<ClientRoleConfig> {
    Some(ClientRoleConfig {
        san: raw.san.to_pattern()?,
        role: raw.role,
        tenant: raw.tenant.as_ref().map(ToString::to_string),
    })
}

fn credential(raw: RawCredential) -> Option<CredentialSource> {
    let header = raw
        .header
        .map(|name| CredentialSource::Header(name.to_string()));
    let bearer = raw
        .bearer
        .map(|name| CredentialSource::Bearer(name.to_string()));
    let query = raw
        .query
        .map(|name| CredentialSource::Query(name.to_string()));
    let cookie = raw
        .cookie
        .map(|name| CredentialSource::Cookie(name.to_string()));
    header.or(bearer).or(query).or(cookie)
}

fn keyring_source(raw: RawKeyringSource) -> Option<KeyringSource> {
    let file = raw.file.map(|path| KeyringSource::File(path.to_path()));
    file.or_else(|| raw.env.map(|name| KeyringSource::Env(name.to_string())))
}

fn unix_socket(raw: RawUnixSocket) -> UnixSocketConfig {
    UnixSocketConfig {
        mode: raw.mode.bits(),
        group: raw.group.map(|group| group.to_string()),
    }
}

/// `None` only for what `validate` refuses.
fn api_keys(raw: &RawApiKeys, profile: Profile) -> Option<KeyRules> {
    let of_tenant = |limits: &RawTenantLimits| {
        let tenant = TenantId::parse(&limits.tenant_id).ok()?;
        Some((tenant, tenant_limits(limits)))
    };
    Some(KeyRules {
        enabled: raw.enabled,
        defaults: PerRole {
            user: raw.default_limits.max_keys_per_user,
            tenant_admin: raw.default_limits.max_keys_per_tenant_admin,
            global_admin: raw.default_limits.max_keys_per_global_admin,
        },
        tenants: raw
            .tenant_limits
            .iter()
            .map(of_tenant)
            .collect::<Option<_>>()?,
        global_override: raw.global_limits_override.as_ref().map(global_override),
        allow_tenant_override: raw.allow_tenant_override,
        allow_admin_override: raw.allow_admin_override,
        expiry: ExpiryRules {
            enforce: raw.enforce_expiry,
            min_days: raw.min_expiry_days,
            max_days: raw.max_expiry_days,
        },
        default_admin_access: raw.default_admin_access.into(),
        profile: profile.as_str(),
        origins: BTreeMap::new(),
    })
}

fn tenant_limits(raw: &RawTenantLimits) -> KeyLimits {
    KeyLimits {
        user: raw.max_keys_per_user,
        tenant_admin: raw.max_keys_per_tenant_admin,
        global_admin: raw.max_keys_per_global_admin,
    }
}

fn global_override(raw: &RawLimitsOverride) -> GlobalOverride {
    GlobalOverride {
        limits: KeyLimits {
            user: raw.max_keys_per_user,
            tenant_admin: raw.max_keys_per_tenant_admin,
            global_admin: raw.max_keys_per_global_admin,
        },
        max_total: raw.max_total_keys,
    }
}
