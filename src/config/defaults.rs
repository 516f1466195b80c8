//! The value of every field that is not written, and what the profiles change.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::listen::ListenAddr;
use super::quantity::{ByteSize, HumanDuration};
use super::section::{
    Abuse, Admin, ApiKeys, Authz, Cache, Claims, DefaultLimits, Embedded, Injector, Ops, Redis,
    Rotation, Route, SecretFile, Shutdown, Sidecar, SignedContext, Tokens, TrustedHop, UnixSocket,
};
use super::text::Text;
use super::{Delivery, Profile};
use crate::domain::request::Mode;
use crate::domain::role::AdminAccess;
use crate::ext_authz::credential::CredentialSource;

/// Text that this crate wrote itself and a test parses.
pub(super) fn known<T: Text>(text: &str) -> T {
    match T::read(text) {
        Ok(value) => value,
        Err(why) => unreachable!("the default {text} is valid: {why}"),
    }
}

fn loopback(port: u16) -> Vec<ListenAddr> {
    vec![ListenAddr::Tcp(SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        port,
    )))]
}

fn seconds(count: u64) -> HumanDuration {
    HumanDuration::of_seconds(count)
}

impl Default for Authz {
    fn default() -> Self {
        Self {
            listen: loopback(9001),
            unix_socket: UnixSocket::default(),
            tls: None,
            insecure: false,
            max_connections: 4096,
            idle_timeout: seconds(900),
            workers: 0,
            credentials: vec![
                CredentialSource::Header("x-api-key".to_owned()),
                CredentialSource::Bearer("authorization".to_owned()),
            ],
            forward_key: false,
            tenant_header_prefix: known("x-tenant-"),
            key_header_prefix: known("x-api-key-"),
            max_message_bytes: ByteSize(4 << 20),
            store_timeout: HumanDuration(Duration::from_millis(40)),
            routes: Vec::new(),
            method_override: None,
            path_override: None,
            path_variants: super::PathVariants::default(),
            signed_context: None,
            trusted_hop: None,
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            host: None,
            path: None,
            mode: Mode::Required,
            features: Vec::new(),
            scopes: Vec::new(),
            cost: 1,
            shadow: false,
        }
    }
}

impl Default for SignedContext {
    fn default() -> Self {
        Self {
            issuer: known("keystile"),
            audience: Vec::new(),
            ttl: seconds(60),
            key_ref: false,
        }
    }
}

impl Default for TrustedHop {
    fn default() -> Self {
        Self {
            listeners: super::HopListeners::default(),
            issuer: known("keystile"),
            audience: Vec::new(),
            jwks: None,
            max_age: seconds(60),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: loopback(9002),
            unix_socket: UnixSocket::default(),
            tls: None,
            insecure: false,
            max_connections: 512,
            idle_timeout: seconds(300),
            strict_api_key_mode: true,
            guesses: known("1/s burst 100"),
            client_roles: Vec::new(),
            oidc: None,
        }
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            role: known("roles"),
            tenant: known("tenant"),
            owner: known("sub"),
            scopes: None,
        }
    }
}

impl Default for Ops {
    fn default() -> Self {
        Self {
            listen: loopback(9003),
            unix_socket: UnixSocket::default(),
            tls: None,
            insecure: false,
            max_connections: 128,
            idle_timeout: seconds(60),
        }
    }
}

impl Default for Injector {
    fn default() -> Self {
        Self {
            listen: vec![known("0.0.0.0:9443")],
            tls: None,
            max_connections: 128,
            idle_timeout: seconds(300),
            excluded_namespaces: ["kube-system", "kube-public", "kube-node-lease"]
                .map(known)
                .to_vec(),
            sidecar: Sidecar::default(),
        }
    }
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            image: known(concat!("keystile:", env!("CARGO_PKG_VERSION"))),
            image_pull_policy: super::PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            mode: super::SidecarMode::default(),
            connection: super::Connection::default(),
            authz_port: 9001,
            ops_port: 9003,
            config_map: known("keystile-sidecar"),
            secrets: vec![SecretFile {
                name: known("keystile-data-keyring"),
                entry: known("data.keyring"),
                file: None,
            }],
            cpu_request: Some(known("50m")),
            memory_request: Some(known("64Mi")),
            cpu_limit: None,
            memory_limit: Some(known("512Mi")),
            run_as_user: 65532,
        }
    }
}

impl Default for UnixSocket {
    fn default() -> Self {
        Self {
            mode: known("0660"),
            group: None,
        }
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self {
            path: known("keystile.redb"),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            mode: super::RedisMode::Standalone,
            url: None,
            nodes: Vec::new(),
            service: None,
            username: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            tls: false,
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: known("ks:"),
            connect_timeout: seconds(2),
            response_timeout: seconds(2),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: seconds(60),
            max_stale: seconds(3600),
            negative_ttl: seconds(10),
            max_entries: 1_000_000,
            max_bytes: ByteSize(256 << 20),
            max_negative_entries: 100_000,
        }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            live_prefix: known("ks_live"),
            test_prefix: known("ks_test"),
            secret_retention: super::SecretRetention::Sealed,
        }
    }
}

impl Default for Abuse {
    fn default() -> Self {
        Self {
            max_failures: 20,
            window: seconds(60),
            block: seconds(60),
            block_max: seconds(3600),
            trusted_hops: 0,
            nat64_prefixes: Vec::new(),
            known_keys: super::KnownKeys::Pass,
            max_sources: 1_000_000,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            drain_timeout: seconds(10),
        }
    }
}

impl Default for DefaultLimits {
    fn default() -> Self {
        ApiKeys::default().default_limits
    }
}

impl Default for ApiKeys {
    fn default() -> Self {
        api_keys(Profile::Default)
    }
}

/// What a profile makes of other spellings of a path.
pub(super) fn path_variants(profile: Profile) -> super::PathVariants {
    match profile {
        Profile::Default | Profile::Development => super::PathVariants::Ignore,
        Profile::Production => super::PathVariants::Refuse,
    }
}

/// The governance block of a profile.
pub(super) fn api_keys(profile: Profile) -> ApiKeys {
    let default_admin_access = match profile {
        Profile::Default | Profile::Development => AdminAccess::Role,
        Profile::Production => AdminAccess::None,
    };
    let (limits, max_expiry_days, allow_tenant_override, enforce_expiry) = match profile {
        Profile::Default => ([10, 25, 100], 365, true, false),
        Profile::Development => ([15, 35, 150], 90, true, false),
        Profile::Production => ([5, 15, 50], 730, false, true),
    };
    let [
        max_keys_per_user,
        max_keys_per_tenant_admin,
        max_keys_per_global_admin,
    ] = limits;
    ApiKeys {
        enabled: true,
        default_limits: DefaultLimits {
            max_keys_per_user,
            max_keys_per_tenant_admin,
            max_keys_per_global_admin,
        },
        tenant_limits: Vec::new(),
        global_limits_override: None,
        allow_tenant_override,
        allow_admin_override: true,
        max_expiry_days,
        min_expiry_days: 1,
        enforce_expiry,
        default_admin_access,
        origins: BTreeMap::new(),
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            every: known("90d"),
            grace: known("7d"),
            deliver: Delivery::default(),
        }
    }
}
