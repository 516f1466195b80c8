//! What the operator decides: one YAML file, a profile beneath it, the environment above it.
//!
//! Everything is parsed and checked here, before a port is bound or a file is made, and every mistake is
//! reported at once. Nothing else in the crate reads the environment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::governance::KeyRules;
use crate::domain::limit::{Limits, Rate};
use crate::domain::plan::Rotation;
use crate::domain::san::SanPattern;
use crate::file_access::Exposure;

mod abuse;
mod authz;
mod choice;
mod context;
mod defaults;
mod effective;
mod env;
mod file;
mod format;
mod listen;
mod load;
mod markdown;
mod mistake;
mod oidc;
mod quantity;
mod raw;
mod redis;
mod route;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod typed;
mod validate;
mod values;

pub use abuse::AbuseConfig;
pub use authz::{AuthzConfig, CredentialSource};
pub use choice::{AdminAccessChoice, JwtAlgorithm};
pub use context::{SignedContextConfig, TrustedHopConfig};
pub use effective::{Effective, Source, yaml};
pub use listen::ListenAddr;
pub(crate) use mistake::nearest;
pub use mistake::{ConfigError, Mistake, Mistakes};
pub use oidc::{ClaimsConfig, JwksConfig, JwksSource, OidcConfig};
pub use redis::{RedisAddress, RedisConfig, RedisLogin, RedisNode, RedisServers, RedisTlsConfig};
pub use route::RouteConfig;
pub use text::PlanName;
pub use values::{duration, environment, redis_at, redis_prefix, redis_user, variable};

/// A configuration that holds no known mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub profile: Profile,
    pub log: LogConfig,
    /// `None` is a listener that is off; so for the next two.
    pub authz: Option<AuthzConfig>,
    pub admin: Option<AdminConfig>,
    pub ops: Option<OpsConfig>,
    pub store: StoreConfig,
    pub keyring: KeyringConfig,
    pub cache: CacheConfig,
    pub failure_policy: FailurePolicy,
    pub tokens: TokenConfig,
    pub rate_mode: RateMode,
    pub plans: BTreeMap<PlanName, Plan>,
    /// How many keys an owner may have and how long they may live.
    pub api_keys: KeyRules,
    /// `None`: failures are not counted.
    pub abuse: Option<AbuseConfig>,
    pub shutdown: ShutdownConfig,
}

/// Words of the file that are types of the program as well.
macro_rules! choice {
    ($name:ident = $default:ident { $($word:ident),+ }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[schemars(inline)]
        pub enum $name { $($word),+ }

        impl Default for $name {
            fn default() -> Self {
                Self::$default
            }
        }
    };
}

choice!(
    Profile = Default {
        Default,
        Development,
        Production
    }
);
choice!(
    LogLevel = Info {
        Error,
        Warn,
        Info,
        Debug,
        Trace
    }
);
choice!(LogFormat = Auto { Auto, Text, Json });
choice!(
    RedisMode = Standalone {
        Standalone,
        Sentinel,
        Cluster
    }
);
choice!(
    RouteMode = Required {
        Required,
        Optional,
        Off
    }
);
choice!(
    MethodOverride = Refuse {
        Refuse,
        Ignore,
        Honour
    }
);
choice!(PathOverride = Refuse { Refuse, Ignore });
choice!(HopListeners = Marked { Marked, All });
choice!(PathVariants = Ignore { Ignore, Refuse });
choice!(KnownKeys = Pass { Pass, Block });
choice!(OnOutage = Deny { Deny, Defer });
choice!(LimiterOutage = Local { Local, Allow, Deny });
choice!(
    RateMode = Leased {
        Strict,
        Leased,
        Local
    }
);
choice!(SecretRetention = Sealed { Sealed, None });
choice!(Delivery = Claim { Claim });
choice!(
    ClientRole = TenantAdmin {
        TenantAdmin,
        GlobalAdmin
    }
);

choice!(
    JwtRole = User {
        User,
        TenantAdmin,
        GlobalAdmin
    }
);

/// The oldest version of TLS that a listener speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

impl Profile {
    pub(crate) const ALL: [Self; 3] = [Self::Default, Self::Development, Self::Production];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    pub listen: Vec<ListenAddr>,
    pub unix_socket: UnixSocketConfig,
    pub tls: Option<TlsConfig>,
    /// Whether plain text may leave the machine.
    pub insecure: bool,
    /// On all addresses together.
    pub max_connections: usize,
    /// After which a connection on which nothing is asked is closed.
    pub idle_timeout: Duration,
    /// How many wrong credentials an address may send where `abuse` does not block it.
    pub guesses: Option<Rate>,
    /// The first that names a client decides.
    pub client_roles: Vec<ClientRoleConfig>,
    /// `None`: no JWT is accepted.
    pub oidc: Option<OidcConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpsConfig {
    pub listen: Vec<ListenAddr>,
    pub unix_socket: UnixSocketConfig,
    pub tls: Option<TlsConfig>,
    /// Whether plain text may leave the machine.
    pub insecure: bool,
    /// On all addresses together.
    pub max_connections: usize,
    /// After which a connection on which nothing is asked is closed.
    pub idle_timeout: Duration,
}

/// Names files; holds no key, so that this can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// `Some`: every client must have a certificate of these.
    pub client_ca_file: Option<PathBuf>,
    /// Empty: every name.
    pub client_sans: Vec<SanPattern>,
    pub min_version: TlsVersion,
}

/// What the holder of a certificate may do on the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRoleConfig {
    pub san: SanPattern,
    pub role: ClientRole,
    /// `Some` exactly for a tenant admin.
    pub tenant: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocketConfig {
    pub mode: u32,
    /// Name or number.
    pub group: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    Embedded { path: PathBuf },
    Redis(Box<RedisConfig>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringConfig {
    pub data: KeyringSource,
    pub vault: Option<KeyringSource>,
    pub signing: Option<KeyringSource>,
}

/// Where a keyring is found. Never the key itself, so that this can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyringSource {
    File(PathBuf),
    /// Name of a variable; `variable` reads it.
    Env(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    pub ttl: Duration,
    pub max_stale: Duration,
    pub negative_ttl: Duration,
    pub max_entries: usize,
    /// The most memory that remembered keys take, in bytes.
    pub max_bytes: usize,
    pub max_negative_entries: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailurePolicy {
    pub store_outage: OnOutage,
    pub limiter_outage: LimiterOutage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    pub live_prefix: String,
    pub test_prefix: String,
    pub secret_retention: SecretRetention,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub features: BTreeSet<String>,
    pub limits: Limits,
    pub shadow: bool,
    pub rotation: Option<Rotation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownConfig {
    pub drain_timeout: Duration,
}

/// A configuration and how it came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub config: Config,
    pub effective: Effective,
    /// Who else than we and root may write the file.
    pub exposure: Option<Exposure>,
}

impl Config {
    /// Reads `path`, or nothing, and lays `environment` over it.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        match path {
            Some(path) => {
                let (text, exposure) = file::read(path)?;
                let mut loaded = Self::parse(&text, &path.display().to_string(), environment)?;
                loaded.exposure = exposure;
                Ok(loaded)
            }
            None => Self::parse("", "the environment", environment),
        }
    }

    /// The same from text; `origin` is what errors call it.
    pub fn parse(
        text: &str,
        origin: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let root = file::parse(text).map_err(|message| ConfigError::NotYaml {
            origin: origin.to_owned(),
            message,
        })?;
        load::load(root, environment).map_err(|list| {
            ConfigError::Mistakes(Mistakes {
                origin: origin.to_owned(),
                list,
            })
        })
    }

    /// One line: what is switched on, where, and on which store.
    pub fn summary(&self) -> String {
        let listeners = [
            ("authz", self.authz.as_ref().map(|authz| &authz.listen)),
            ("admin", self.admin.as_ref().map(|admin| &admin.listen)),
            ("ops", self.ops.as_ref().map(|ops| &ops.listen)),
        ];
        let on = listeners.into_iter().filter_map(|(name, listen)| {
            let addresses: Vec<String> = listen?.iter().map(ToString::to_string).collect();
            Some(format!("{name} on {}", addresses.join(" and ")))
        });
        let store = match &self.store {
            StoreConfig::Embedded { path } => format!("embedded store {}", path.display()),
            StoreConfig::Redis(redis) => format!("Redis store {}", redis.servers),
        };
        let on: Vec<String> = on.collect();
        format!(
            "{}; {store}; profile {}",
            on.join(", "),
            self.profile.as_str()
        )
    }
}

/// The JSON Schema of the file.
pub fn json_schema() -> &'static Value {
    &schema::SCHEMA
}

/// docs/CONFIGURATION.md.
pub fn markdown() -> String {
    markdown::render(json_schema())
}
