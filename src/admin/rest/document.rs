//! What the description of the API says beside the handlers: who may come, what every answer carries, and which
//! refusals an endpoint has.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{
    ArrayBuilder, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr};
use utoipa::{IntoResponses, OpenApi, PartialSchema as _, ToSchema as _};

use crate::domain::key::SCOPES_MAX;

use super::answer::{CHALLENGE, GUARDS, Problem, RETRY_AFTER};

/// What each refusal means.
const REFUSALS: &[(&str, &str, &str)] = &[
    (
        "400",
        "BadRequest",
        "The request is malformed, brings more than one key, or a field is not acceptable.",
    ),
    (
        "401",
        "Unauthorized",
        "No credential, or none that is valid.",
    ),
    (
        "403",
        "Forbidden",
        "The caller's role or the configuration does not allow it, or the caller's tenant is suspended.",
    ),
    (
        "404",
        "NotFound",
        "It is not there, or belongs to another tenant.",
    ),
    ("408", "RequestTimeout", "The body did not arrive in time."),
    (
        "409",
        "Conflict",
        "Somebody else changed it at the same time, or it is in no state for this.",
    ),
    ("413", "PayloadTooLarge", "The body is too large."),
    ("415", "UnsupportedMediaType", "The body is not JSON."),
    (
        "429",
        "TooManyRequests",
        "A limit is reached, or too many wrong credentials came from the caller's address (then with `retry-after`).",
    ),
    ("500", "Internal", "We failed."),
    (
        "503",
        "Unavailable",
        "The store does not answer: try again.",
    ),
];

/// Those of every endpoint.
pub(super) struct Always;

impl IntoResponses for Always {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&["400", "401", "403", "429", "500", "503"])
    }
}

/// Those of every endpoint that reads a body.
pub(super) struct OfBody;

impl IntoResponses for OfBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&["408", "413", "415"])
    }
}

/// One that only some have.
pub(super) struct May<const STATUS: u16>;

impl<const STATUS: u16> IntoResponses for May<STATUS> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[&STATUS.to_string()])
    }
}

fn refusals(statuses: &[&str]) -> BTreeMap<String, RefOr<Response>> {
    let listed = REFUSALS
        .iter()
        .filter(|(status, ..)| statuses.contains(status));
    listed
        .map(|(status, name, _)| ((*status).to_owned(), Ref::from_response_name(*name).into()))
        .collect()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keystile admin API",
        description = "API keys over REST. Every other operation is on gRPC, on the same port.",
    ),
    tags((name = "apikeys", description = "API keys and what limits them")),
)]
struct Description;

/// What there is before the endpoints.
pub(super) fn begin() -> Document {
    let mut document = Description::openapi();
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(header));
    components
        .schemas
        .insert(Problem::name().into(), Problem::schema());
    for (_, name, meaning) in REFUSALS {
        components
            .responses
            .insert((*name).into(), refusal(meaning).into());
    }
    document
}

fn refusal(meaning: &str) -> Response {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name())));
    ResponseBuilder::new()
        .description(meaning)
        .content("application/json", problem.build())
        .build()
}

/// The whole description: every answer has its headers, which are always there. (`utoipa` cannot say the latter.)
pub(super) fn complete(document: &Document) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    for (status, name, _) in REFUSALS {
        let own = match *status {
            "401" => Some(("www-authenticate", CHALLENGE)),
            "503" => Some(("retry-after", RETRY_AFTER)),
            _ => None,
        };
        let headers = guards().chain(own.map(|(name, value)| (name.to_owned(), always(value))));
        document["components"]["responses"][name]["headers"] = headers.collect();
    }
    let paths = document["paths"].as_object_mut();
    let operations = paths.into_iter().flat_map(|paths| paths.values_mut());
    let operations = operations.filter_map(Value::as_object_mut);
    for operation in operations.flat_map(|item| item.values_mut()) {
        let answers = operation["responses"].as_object_mut();
        for answer in answers.into_iter().flat_map(|answers| answers.values_mut()) {
            if answer.get("$ref").is_none() {
                answer["headers"] = guards().collect();
            }
        }
    }
    document
}

fn guards() -> impl Iterator<Item = (String, Value)> {
    GUARDS
        .into_iter()
        .map(|(name, value)| (name.to_string(), always(value)))
}

/// A header with this one value.
fn always(value: &str) -> Value {
    json!({"required": true, "schema": {"type": "string", "const": value}})
}

/// A key's name.
pub(super) fn name() -> Schema {
    text("For people.", 1, 128).schema_type(Type::String).into()
}

/// A key's description.
pub(super) fn description() -> Schema {
    text("For people.", 0, 256)
        .schema_type(or_null(Type::String))
        .into()
}

/// Text as `DisplayName` and `Description` take it.
fn text(meaning: &str, min: usize, max: usize) -> ObjectBuilder {
    // Control characters, and those that reorder or hide text.
    const NEVER: &str =
        r"\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff";
    ObjectBuilder::new()
        .description(Some(meaning))
        .min_length(Some(min))
        .max_length(Some(max))
        // What the pattern cannot say of all of Unicode: assigned characters that a reader can see.
        .format(Some(SchemaFormat::Custom("visible-text".to_owned())))
        // No space at either end.
        .pattern(Some(format!(
            r"^(?:[^\s{NEVER}](?:[^{NEVER}]*[^\s{NEVER}])?)?$"
        )))
}

/// Scopes as `Scope` takes them.
pub(super) fn scopes() -> Schema {
    let scope = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(64))
        .pattern(Some(r"^[!#-+\--\[\]-~]+$"));
    ArrayBuilder::new()
        .schema_type(or_null(Type::Array))
        .description(Some(
            "What it may do. A user's key can give no scope that it has not.",
        ))
        .items(scope)
        .max_items(Some(SCOPES_MAX))
        .into()
}

fn or_null(kind: Type) -> SchemaType {
    SchemaType::from_iter([kind, Type::Null])
}
