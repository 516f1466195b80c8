//! Words of the file for types of other modules, which know nothing of the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::request;
use crate::domain::role::{AdminAccess, Role};
use crate::ext_authz::routes::{MethodOverride, PathOverride};
use crate::limiter;

/// The words of an enum.
macro_rules! words {
    ($type:ty { $($word:literal = $variant:ident),+ $(,)? }) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(source)?;
                match &*word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(serde::de::Error::unknown_variant(&word, &[$($word),+])),
                }
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
                sink.serialize_str(match self {
                    $(Self::$variant => $word),+
                })
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "enum": [$($word),+]})
            }
        }
    };
}

words!(request::Mode { "required" = Required, "optional" = Optional, "off" = Off });
words!(MethodOverride { "refuse" = Refuse, "ignore" = Ignore, "honour" = Honour });
words!(PathOverride { "refuse" = Refuse, "ignore" = Ignore });
words!(limiter::Mode { "strict" = Strict, "leased" = Leased, "local" = Local });
words!(limiter::OnOutage { "local" = Local, "allow" = Allow, "deny" = Deny });
words!(AdminAccess { "none" = None, "self" = Itself, "role" = Role });
words!(Role { "user" = User, "tenant_admin" = TenantAdmin, "global_admin" = GlobalAdmin });

/// Why an algorithm of JWTs is not to be had.
fn refused_algorithms() -> serde_json::Value {
    let secret = "is a shared secret: whoever can check such a JWT can make one; write `RS256`, `ES256` or `EdDSA`, as the issuer signs";
    let none = "is no signature: anybody can make such a JWT; write `RS256`, `ES256` or `EdDSA`, as the issuer signs";
    serde_json::json!({"HS256": secret, "HS384": secret, "HS512": secret, "none": none})
}

/// How JWTs may be signed: with keys that have a public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, extend("x-refused" = refused_algorithms()))]
pub enum JwtAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}
