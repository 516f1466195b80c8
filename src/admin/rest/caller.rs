//! Who asks, and with what: the parts of an HTTP request that become a call.

use std::error::Error;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::Rest;
use super::answer::Refusal;
use crate::admin::caller::{self, ClientNames, Identity, Peer};
use crate::domain::block::Source;

/// The largest body: no field that is accepted is nearly as large.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A body that takes longer is not going to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What says who asks; the services find out whom.
#[derive(Debug)]
pub(super) struct Caller {
    credentials: HeaderMap,
    client: ClientNames,
    peer: Peer,
}

impl Caller {
    /// The call of a service with this message, on the caller's behalf.
    pub(super) fn call<T>(&self, message: T) -> tonic::Request<T> {
        let mut call = tonic::Request::new(message);
        *call.metadata_mut() = MetadataMap::from_headers(self.credentials.clone());
        call.extensions_mut().insert(self.client.clone());
        call.extensions_mut().insert(self.peer);
        call
    }

    /// Who it is, if it may call at all.
    pub(super) async fn identity(&self, rest: &Rest) -> Result<Identity, Refusal> {
        Ok(rest.admin.caller(&self.call(())).await?.identity)
    }

    /// Who it is; whether it may do what it asks for is asked by the service that does it.
    pub(super) async fn claimed_identity(&self, rest: &Rest) -> Result<Identity, Refusal> {
        let call = self.call(());
        Ok(caller::identify(rest.admin.auth.as_ref(), &call).await?)
    }

    /// Where it is.
    pub(super) fn source(&self) -> Option<Source> {
        self.peer.0
    }

    /// Whether it says at all who it is.
    pub(super) fn is_anonymous(&self) -> bool {
        self.credentials.is_empty() && self.client.0.is_empty()
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut credentials = HeaderMap::new();
        for name in ["authorization", "x-api-key"] {
            for value in parts.headers.get_all(name) {
                credentials.append(name, value.clone());
            }
        }
        let client = parts.extensions.get::<ClientNames>().cloned();
        Ok(Self {
            credentials,
            client: client.unwrap_or_default(),
            peer: parts.extensions.get().copied().unwrap_or_default(),
        })
    }
}

/// The parameters behind `?`; one that is not known is refused.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Query(parameters) = Query::try_from_uri(&parts.uri).map_err(|refused| {
            let text = refused.body_text();
            // Before the words is where they are about: a name that the caller chose.
            let words = ["unknown field", "duplicate field", "missing field"];
            let at = words.iter().find_map(|words| text.find(words));
            let what = known(&text[at.unwrap_or_default()..]);
            let error = format!("the query cannot be read: {what}");
            Refusal::malformed(StatusCode::BAD_REQUEST, error)
        })?;
        Ok(Self(parameters))
    }
}

/// A body of JSON, bounded in size and time; a field that is not known is refused.
pub(super) struct Content<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Content<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        check_is_json(request.headers())?;
        let bytes = read(request.into_body()).await?;
        parse(&bytes)
            .map(Self)
            .map_err(|problem| Refusal::malformed(StatusCode::BAD_REQUEST, problem))
    }
}

/// The same of a caller who is known: a stranger's is not read.
pub(super) struct CallersContent<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Rest> for CallersContent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, rest: &Rest) -> Result<Self, Refusal> {
        check_is_json(request.headers())?;
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, rest).await?;
        caller.identity(rest).await?;
        let Content(content) =
            Content::from_request(Request::from_parts(parts, body), rest).await?;
        Ok(Self(content))
    }
}

fn check_is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    if is_json(headers) {
        return Ok(());
    }
    Err(Refusal::malformed(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the body must be JSON: send `content-type: application/json`",
    ))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

async fn read(body: Body) -> Result<bytes::Bytes, Refusal> {
    let reading = axum::body::to_bytes(body, BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(match overload(&error) {
            Some(overloaded) => overloaded.clone().into(),
            None => Refusal::malformed(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body must be whole and at most {BODY_BYTES_MAX} bytes"),
            ),
        }),
        Err(_) => Err(Refusal::malformed(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

/// What the server says when it has no room for more unfinished requests.
fn overload(error: &axum::Error) -> Option<&Status> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(status) = error.downcast_ref() {
            return Some(status);
        }
        cause = error.source();
    }
    None
}

/// What an object holds. A list is refused here: serde would take its elements for the fields, in our order.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err("the body must be an object: {\"name\": value, ...}".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| unreadable(&error))
}

/// What is wrong with a body, without its content: that may be a token.
fn unreadable(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let what = match error.classify() {
        serde_json::error::Category::Data => known(&error.to_string()),
        _ => "it is not JSON".to_owned(),
    };
    format!("the body cannot be read at line {line} column {column}: {what}")
}

/// The parts of a message of serde's that are ours: names of fields and types, never a value.
fn known(message: &str) -> String {
    let of_us = |marker: &str| message.find(marker).map(|at| &message[at..]);
    let end = |text: &str| {
        text.split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    if message.starts_with("missing field") || message.starts_with("duplicate field") {
        return end(message);
    }
    let expected = of_us(", expected ").map(|text| end(text.trim_start_matches(", ")));
    let what = if message.starts_with("unknown field") {
        "a field is not known"
    } else {
        "a value is of the wrong type"
    };
    match expected {
        Some(expected) => format!("{what}, {expected}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read into")]
    struct Body {
        token: String,
        count: Option<u32>,
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_without_its_content() {
        for (text, expected) in [
            ("{\"token\":\"secret\"", "it is not JSON"),
            ("", "it is not JSON"),
            (" [\"secret\"]", "must be an object"),
            ("{}", "missing field `token`"),
            (
                "{\"token\":\"a\",\"secret\":1}",
                "a field is not known, expected `token` or `count`",
            ),
            (
                "{\"token\":[\"secret\"]}",
                "a value is of the wrong type, expected a string",
            ),
            (
                "{\"token\":\"secret\",\"count\":\"secret, expected gold\"}",
                "a value is of the wrong type",
            ),
            (
                "{\"token\":\"a\",\"token\":\"b\"}",
                "duplicate field `token`",
            ),
        ] {
            let said = parse::<Body>(text.as_bytes()).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
