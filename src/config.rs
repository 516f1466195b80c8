//! What the operator decides: one YAML file, a profile beneath it, the environment above it.
//!
//! Everything is parsed and checked here, before a port is bound or a file is made, and every mistake is
//! reported at once. Nothing else in the crate reads the environment.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::governance::KeyRules;
use crate::file_access::Exposure;

mod abuse;
mod choice;
mod defaults;
mod effective;
mod env;
mod file;
mod format;
mod injector;
mod kubernetes;
mod listen;
mod load;
mod markdown;
mod mistake;
mod oidc;
mod quantity;
mod redis;
mod route;
mod schema;
mod section;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod url;
mod validate;
mod values;

pub use choice::JwtAlgorithm;
pub use effective::{Effective, ValueSource, yaml};
pub(crate) use injector::sidecar_value;
pub use listen::ListenAddr;
pub(crate) use mistake::nearest;
pub use mistake::{ConfigError, Mistake, Mistakes};
pub use quantity::{ByteSize, HumanDuration};
pub use redis::is_plain_text_beyond_the_machine;
pub use section::{
    Abuse, Admin, Authz, ClientEntry, Config, Injector, Jwks, JwksSource, KeyringSource, Oidc, Ops,
    Plan, Route, SecretFile, Sidecar, SignedContext, StorePlace, Tls, TrustedHop, UnixSocket,
};
pub use text::{FilePath, SocketMode};
pub use values::{duration, environment, redis_at, redis_prefix, redis_user, variable};

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
choice!(HopListeners = Marked { Marked, All });
choice!(PathVariants = Ignore { Ignore, Refuse });
choice!(KnownKeys = Pass { Pass, Block });
choice!(OnOutage = Deny { Deny, Defer });
choice!(SecretRetention = Sealed { Sealed, None });
choice!(Delivery = Claim { Claim });
choice!(SidecarMode = Native { Native, Container });
choice!(Connection = Port { Port, Socket });
choice!(
    ClientRole = TenantAdmin {
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

/// When nodes fetch an image, in Kubernetes' words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum PullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
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

/// A configuration and how it came to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// It holds no known mistake.
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

    /// How many keys an owner may have and how long they may live.
    pub fn key_rules(&self) -> KeyRules {
        self.api_keys.rules(self.profile)
    }

    /// Whether the process needs a store: an injector alone does not.
    pub fn has_store(&self) -> bool {
        self.authz.is_some() || self.admin.is_some()
    }

    /// One line: what is switched on, where, and on which store.
    pub fn summary(&self) -> String {
        let on = self.listeners().map(|section| {
            let addresses: Vec<String> = section.listen.iter().map(ToString::to_string).collect();
            format!("{} on {}", section.name, addresses.join(" and "))
        });
        let store = match self.store.place() {
            _ if !self.has_store() => "no store".to_owned(),
            StorePlace::Embedded { path } => format!("embedded store {}", path.display()),
            StorePlace::Redis(redis) => format!("Redis store {}", redis.location()),
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
