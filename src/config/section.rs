//! What may be written, as it is used. The one source of the JSON Schema, of docs/CONFIGURATION.md, of the
//! checks on shape and of the types of environment overrides.
//!
//! A doc comment here is a description there: write it for the operator.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::listen::ListenAddr;
use super::quantity::{ByteSize, HumanDuration};
use super::text::{FilePath, HeaderPrefix, TokenPrefix, VariableName};
use super::{LogFormat, LogLevel, OnOutage, PathVariants, Profile, SecretRetention};
use crate::domain::limit::Rate;
use crate::domain::name::PlanName;
use crate::ext_authz::credential::CredentialSource;
use crate::ext_authz::routes::{MethodOverride, PathOverride};
use crate::limiter;
use crate::store::redis::Settings;

/// Declares a section: every field optional unless it says otherwise, unknown fields refused.
macro_rules! section {
    ($(#[$attr:meta])* $name:ident { $($body:tt)* }) => {
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        $(#[$attr])*
        pub struct $name { $($body)* }
    };
}

/// Declares the section of a listener: what all of them have, with the words on its connections, and then its own.
macro_rules! listener {
    ($name:ident { $(#[$connections:meta])* max_connections, $($body:tt)* }) => {
        section! {
            #[serde(default)]
            $name {
                /// Addresses to serve on: `host:port` or `unix:/absolute/path`.
                #[schemars(length(min = 1, max = 16), extend("uniqueItems" = true))]
                pub listen: Vec<ListenAddr>,
                /// Permissions of the Unix sockets in `listen`.
                pub unix_socket: UnixSocket,
                /// TLS on the TCP addresses in `listen`; Unix sockets never have it. Absent: plain text.
                #[serde(skip_serializing_if = "Option::is_none")]
                pub tls: Option<Tls>,
                /// Whether a TCP address that is not loopback may be served in plain text.
                pub insecure: bool,
                $(#[$connections])*
                #[schemars(range(min = 1, max = 1_000_000))]
                pub max_connections: usize,
                /// A connection without a request for this long is closed; a new one that sends none, after 10 s.
                #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1d"))]
                pub idle_timeout: HumanDuration,
                $($body)*
            }
        }
        impl $name {
            fn listener(&self, name: &'static str) -> ListenerSection<'_> {
                ListenerSection {
                    name,
                    listen: &self.listen,
                    tls: self.tls.as_ref(),
                    insecure: self.insecure,
                }
            }
        }
    };
}

/// Declares a section in which exactly one field is written: an enum that says which.
macro_rules! one_of {
    ($type:ty { $(#[doc = $doc:literal] $field:literal = $variant:ident($value:ty)),+ $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                use serde::de::Error as _;
                let fields: std::collections::BTreeMap<String, String> =
                    serde::Deserialize::deserialize(source)?;
                match fields.into_iter().next() {
                    $(Some((name, text)) if name == $field => {
                        let value = <$value as crate::config::text::Text>::read(&text);
                        value.map(|value| Self::$variant(value.into())).map_err(D::Error::custom)
                    })+
                    Some(_) | None => Err(D::Error::custom("has none of its fields")),
                }
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant(value) => sink.collect_map([($field, value)]),)+
                }
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut properties = serde_json::Map::new();
                $(
                    let mut property = generator.subschema_for::<$value>();
                    property.insert("description".to_owned(), $doc.trim().into());
                    properties.insert($field.to_owned(), property.into());
                )+
                schemars::json_schema!({
                    "type": "object", "properties": properties, "additionalProperties": false,
                    "minProperties": 1, "maxProperties": 1
                })
            }
        }
    };
}

mod abuse;
mod api_keys;
mod context;
mod credential;
mod injector;
mod limits;
mod oidc;
mod redis;
mod route;
mod transport;
pub use abuse::Abuse;
pub(super) use api_keys::{ApiKeys, DefaultLimits};
pub use context::{SignedContext, TrustedHop};
pub use injector::{Injector, SecretFile, Sidecar};
pub use limits::Plan;
pub(super) use limits::{RateLimits, Rotation};
pub(super) use oidc::Claims;
pub use oidc::{Jwks, JwksSource, Oidc};
#[cfg(test)]
pub(super) use oidc::{JwtRole, JwtTenant};
pub(super) use redis::Redis;
pub use route::Route;
pub use transport::{ClientEntry, Tls, UnixSocket};

section! {
    /// The configuration of one Keystile process. A listener runs when its section is there: `authz: {}`
    /// switches it on with defaults.
    #[derive(Default)]
    #[serde(default)]
    Config {
        /// Where the defaults of `api_keys` and of `authz.path_variants` come from. Values in this file win over the profile.
        pub profile: Profile,
        /// What the process says about itself.
        pub telemetry: Telemetry,
        /// The ext_authz listener that Envoy asks. Absent: off.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub authz: Option<Authz>,
        /// The admin API (gRPC). Absent: off.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub admin: Option<Admin>,
        /// `/healthz`, `/readyz`, `/metrics` and, with `keyring.signing`, `/.well-known/jwks.json`. Absent: off.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ops: Option<Ops>,
        /// The mutating admission webhook of Kubernetes that puts sidecars into pods (docs/KUBERNETES.md). A process that has
        /// neither `authz` nor `admin` beside it needs no store and no keyring. Absent: off.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub injector: Option<Injector>,
        /// Where tenants and keys are kept.
        pub store: Store,
        /// The key-encryption keys that open what the store holds.
        pub keyring: Keyrings,
        /// What a sidecar remembers of the store.
        pub cache: Cache,
        /// The answer to Envoy when no decision can be made.
        pub failure_policy: FailurePolicy,
        /// The form of API keys and whether they can be shown again.
        pub tokens: Tokens,
        /// How the limits of tenants and keys are counted.
        pub rate_limits: RateLimits,
        /// Plans by name. A tenant names its plan, has the plan's features beside its own, and the plan's limits where
        /// it has none of its own.
        #[schemars(extend("propertyNames" = json!({"format": "plan-name"})))]
        pub plans: BTreeMap<PlanName, Plan>,
        /// How many keys an owner may have and how long they may live (docs/GOVERNANCE.md).
        pub api_keys: ApiKeys,
        /// Blocks sources that guess keys (docs/SECURITY.md). Absent: off; `abuse: {}` switches it on with defaults.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub abuse: Option<Abuse>,
        /// How the process stops.
        pub shutdown: Shutdown,
    }
}

section! {
    #[derive(Default)]
    #[serde(default)]
    Telemetry {
        /// The log on stderr.
        pub log: Log,
    }
}

section! {
    #[derive(Default)]
    #[serde(default)]
    Log {
        /// The least important level that is written.
        pub level: LogLevel,
        /// `auto` is `text` on a terminal and `json` elsewhere.
        pub format: LogFormat,
    }
}

listener! {
    Authz {
        /// Most connections at once, on all of `listen` together; more are refused at once. An Envoy opens one for each of
        /// its worker threads.
        max_connections,
        /// Threads that serve checks; 0 is one per CPU.
        #[schemars(range(max = 256))]
        pub workers: usize,
        /// Where a key may be, in order. Each entry has one of `header`, `bearer`, `query`, `cookie`.
        #[schemars(length(min = 1, max = 8))]
        pub credentials: Vec<CredentialSource>,
        /// Whether the key goes on to the upstream.
        pub forward_key: bool,
        /// Headers that begin so are set by Keystile alone and say who the tenant is.
        pub tenant_header_prefix: HeaderPrefix,
        /// Headers that begin so are set by Keystile alone and say which key was used.
        pub key_header_prefix: HeaderPrefix,
        /// Largest check request that is read, body included.
        #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "64MiB"))]
        pub max_message_bytes: ByteSize,
        /// Longest wait for the store in one check.
        #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "10s"))]
        pub store_timeout: HumanDuration,
        /// What requests need, for meshes whose routes cannot send `keystile.…` context extensions. The first rule that
        /// matches decides; without one a valid key is enough. What a route says of its own replaces the same field of the
        /// rule, and nothing else.
        #[schemars(length(max = 1000))]
        pub routes: Vec<Route>,
        /// A request that asks for another method than its own by `x-http-method-override`, `x-method-override`,
        /// `x-http-method` or the query parameter `_method`: `refuse` answers 400, `ignore` matches it by its own method,
        /// `honour` matches a `POST` by the `PUT`, `PATCH` or `DELETE` that it asks for and refuses all else. Absent:
        /// `refuse` as soon as a rule in `routes` names methods.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub method_override: Option<MethodOverride>,
        /// A request that asks for another path than its own by `x-original-url` or `x-rewrite-url`: `refuse` answers 400,
        /// `ignore` matches it by its own path. Absent: `refuse` as soon as a rule in `routes` has a path.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub path_override: Option<PathOverride>,
        /// A path that is another spelling (`/ADMIN`, `/admin.`, `/admin%20`, `/admin.json`) of one with a stricter rule in
        /// `routes`: `refuse` answers 400, `ignore` matches it as it stands. Under `profile: production` `refuse`.
        pub path_variants: PathVariants,
        /// A signed, short-lived token for upstreams that trust no network (docs/SIGNED_CONTEXT.md). Absent: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub signed_context: Option<SignedContext>,
        /// Takes a request that carries another hop's fresh signed context as proven: its key has been taken out and charged
        /// there (docs/SIGNED_CONTEXT.md). Absent: no context proves anything.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub trusted_hop: Option<TrustedHop>,
    }
}

listener! {
    Admin {
        /// Most connections at once, on all of `listen` together; more are refused at once.
        max_connections,
        /// Whether a caller's credential must be an API key of ours, or a client certificate of `client_roles`: session
        /// tokens and JWTs are refused. With `false`, a JWT that `oidc` accepts will do as well.
        pub strict_api_key_mode: bool,
        /// How many wrong credentials one address (of IPv6 a /64) may send; beyond it is refused (429) without a look at
        /// them, but for keys that are in memory. A proxy in front is one address. With `abuse`, blocks are the bound instead.
        pub guesses: Rate,
        /// What the holder of a client certificate may do when it sends no API key. The first entry that names
        /// one of the certificate's names decides. Needs `tls.client_ca_file`.
        #[schemars(length(max = 1024))]
        pub client_roles: Vec<ClientEntry>,
        /// Whose JWTs are accepted, and what they may do (docs/OIDC.md). Needs `strict_api_key_mode: false`. Absent: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub oidc: Option<Oidc>,
    }
}

listener! {
    Ops {
        /// Most connections at once, on all of `listen` together; more are refused at once.
        max_connections,
    }
}

/// What every section of a listener says.
#[derive(Debug)]
pub struct ListenerSection<'a> {
    pub name: &'static str,
    pub listen: &'a [ListenAddr],
    pub tls: Option<&'a Tls>,
    pub insecure: bool,
}

impl Config {
    /// The listeners that are on.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerSection<'_>> {
        let authz = self.authz.as_ref().map(|section| section.listener("authz"));
        let admin = self.admin.as_ref().map(|section| section.listener("admin"));
        let ops = self.ops.as_ref().map(|section| section.listener("ops"));
        let injector = self.injector.as_ref().map(|section| ListenerSection {
            name: "injector",
            listen: &section.listen,
            tls: section.tls.as_ref(),
            // `injector::check` says that it needs TLS.
            insecure: section.tls.is_none(),
        });
        [authz, admin, ops, injector].into_iter().flatten()
    }
}

/// The stores that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    #[default]
    Embedded,
    Redis,
}

section! {
    #[derive(Default)]
    #[serde(default)]
    Store {
        /// `embedded` is a file of one process, `redis` is shared by many. The other's section is not used.
        pub kind: StoreKind,
        /// The embedded store: one file, one process.
        pub embedded: Embedded,
        /// The store on Redis: 6.2 or newer, or Valkey.
        pub redis: Redis,
    }
}

/// The store that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlace {
    Embedded { path: PathBuf },
    Redis(Box<Settings>),
}

impl Store {
    /// Which store it is.
    pub fn place(&self) -> StorePlace {
        match self.kind {
            StoreKind::Embedded => StorePlace::Embedded {
                path: self.embedded.path.to_path_buf(),
            },
            StoreKind::Redis => StorePlace::Redis(Box::new(self.redis.settings())),
        }
    }
}

section! {
    #[serde(default)]
    Embedded {
        /// The store's file; made when it is not there.
        pub path: FilePath,
    }
}

section! {
    #[derive(Default)]
    #[serde(default)]
    Keyrings {
        /// Opens key records. Needed by `authz` and `admin`. One of `file` and `env`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub data: Option<KeyringSource>,
        /// Opens the tokens kept for showing again. For the control plane only; needed by `admin` unless
        /// `tokens.secret_retention` is `none`. One of `file` and `env`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub vault: Option<KeyringSource>,
        /// Signs the token of `authz.signed_context`; its public half is at `/.well-known/jwks.json` of `ops`. One of
        /// `file` and `env`. A file may change while the process runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub signing: Option<KeyringSource>,
    }
}

/// Where a keyring is found. Never the key itself, so that this can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringSource {
    File(PathBuf),
    /// Name of a variable; `variable` reads it.
    Env(String),
}

one_of!(KeyringSource {
    /// A keyring file, as `keystile keyring init` makes it.
    "file" = File(FilePath),
    /// Name of an environment variable that holds one key: 32 bytes in base64.
    "env" = Env(VariableName),
});

impl Keyrings {
    /// What opens key records.
    pub fn data(&self) -> &KeyringSource {
        let data = self.data.as_ref();
        data.expect("a configuration without a data keyring is refused when it is loaded")
    }
}

section! {
    #[serde(default)]
    Cache {
        /// How long an entry is used without asking the store.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1d"))]
        pub ttl: HumanDuration,
        /// How long an entry is used while the store cannot be reached; at least `ttl`.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "30d"))]
        pub max_stale: HumanDuration,
        /// How long an unknown key stays unknown without asking the store.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
        pub negative_ttl: HumanDuration,
        /// Most keys remembered.
        #[schemars(range(min = 1, max = 50_000_000))]
        pub max_entries: usize,
        /// Most memory that remembered keys take; the fewer fit, the more scopes and restrictions they have.
        #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "64GiB"))]
        pub max_bytes: ByteSize,
        /// Most unknown keys remembered; apart, so that guesses cannot push out keys.
        #[schemars(range(min = 1, max = 50_000_000))]
        pub max_negative_entries: usize,
    }
}

section! {
    #[derive(Default)]
    #[serde(default)]
    FailurePolicy {
        /// The store cannot be reached and the key is not cached: `deny` answers 503, `defer` leaves it to
        /// Envoy's `failure_mode_allow`.
        pub store_outage: OnOutage,
        /// The store cannot be reached and a limit has to be counted: `local` lets each sidecar spend its share of what
        /// was left, `allow` lets every request pass, `deny` answers 503.
        pub limiter_outage: limiter::OnOutage,
    }
}

section! {
    #[serde(default)]
    Tokens {
        /// Beginning of the tokens of live keys.
        pub live_prefix: TokenPrefix,
        /// Beginning of the tokens of test keys.
        pub test_prefix: TokenPrefix,
        /// `sealed` keeps each token encrypted under the vault keyring, `none` does not keep it.
        pub secret_retention: SecretRetention,
    }
}

section! {
    #[serde(default)]
    Shutdown {
        /// Longest wait for running requests after SIGTERM.
        #[schemars(extend("x-minimum" = "0s", "x-maximum" = "10m"))]
        pub drain_timeout: HumanDuration,
    }
}
