//! Words of the file that are types of the program, where the words are not those of the type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::oidc;
use crate::domain::role::AdminAccess;

/// Whether keys open the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AdminAccessChoice {
    None,
    #[serde(rename = "self")]
    Itself,
    Role,
}

impl From<AdminAccessChoice> for AdminAccess {
    fn from(choice: AdminAccessChoice) -> Self {
        match choice {
            AdminAccessChoice::None => Self::None,
            AdminAccessChoice::Itself => Self::Itself,
            AdminAccessChoice::Role => Self::Role,
        }
    }
}

/// How JWTs may be signed: with keys that have a public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline, extend("x-refused" = oidc::refused_algorithms()))]
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
