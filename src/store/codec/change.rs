//! What was done: entries of the audit, and what came of requests.

use prost::Message;

use super::{DecodeError, Reader, optional, text};
use crate::domain::change::{Actor, Change};
use crate::domain::name::KeyId;

#[derive(Clone, PartialEq, Message)]
struct StoredChange {
    #[prost(string, tag = "1")]
    actor_tenant: String,
    #[prost(string, tag = "2")]
    actor_key: String,
    #[prost(string, tag = "3")]
    action: String,
    #[prost(int64, tag = "4")]
    at: i64,
    #[prost(string, tag = "5")]
    key: String,
    #[prost(string, tag = "6")]
    note: String,
    /// `dns:…` or `uri:…`, when the actor is the holder of a client certificate.
    #[prost(string, tag = "7")]
    actor_certificate: String,
    /// When the actor is nobody but Keystile itself.
    #[prost(bool, tag = "8")]
    by_itself: bool,
    /// With the subject, when the actor is the holder of a JWT.
    #[prost(string, tag = "9")]
    actor_issuer: String,
    #[prost(string, tag = "10")]
    actor_subject: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRequest {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
    #[prost(uint32, tag = "3")]
    generation: u32,
}

/// The bytes of an audit entry.
pub fn encode_change(change: &Change) -> Vec<u8> {
    let mut stored = StoredChange {
        action: change.action.as_str().to_owned(),
        at: change.at.as_millis(),
        key: text(change.key.as_ref()),
        note: change.note.clone(),
        ..StoredChange::default()
    };
    match &change.actor {
        Actor::Key { tenant, key } => {
            stored.actor_tenant = tenant.to_string();
            stored.actor_key = key.to_string();
        }
        Actor::Certificate { san } => stored.actor_certificate = san.to_string(),
        Actor::Jwt { issuer, subject } => {
            stored.actor_issuer = issuer.to_string();
            stored.actor_subject = subject.to_string();
        }
        Actor::Keystile => stored.by_itself = true,
        Actor::Operator => {}
    }
    stored.encode_to_vec()
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstAnswer {
    /// The key that it made or rotated; none when it made the tenant.
    pub key: Option<KeyId>,
    /// The generation that it made of the key; 0 without one.
    pub generation: u32,
    /// The hash of what was asked.
    pub content: [u8; 32],
}

/// The bytes of what came of a request.
pub fn encode_done(done: &FirstAnswer) -> Vec<u8> {
    StoredRequest {
        key: text(done.key.as_ref()),
        generation: done.generation,
        content: done.content.to_vec(),
    }
    .encode_to_vec()
}

/// What came of the request of these bytes.
pub fn decode_done(bytes: &[u8]) -> Result<FirstAnswer, DecodeError> {
    let read = Reader("request");
    let stored: StoredRequest = read.message(bytes)?;
    let key = optional(&stored.key).map(|text| read.name(KeyId::parse, text));
    Ok(FirstAnswer {
        key: key.transpose()?,
        generation: stored.generation,
        content: read.array(&stored.content)?,
    })
}
