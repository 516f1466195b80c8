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
    let (actor_tenant, actor_key, actor_certificate) = match &change.actor {
        Actor::Key { tenant, key } => (tenant.to_string(), key.to_string(), String::new()),
        Actor::Certificate { san } => (String::new(), String::new(), san.to_string()),
        Actor::Operator | Actor::Keystile => Default::default(),
    };
    StoredChange {
        actor_tenant,
        actor_key,
        actor_certificate,
        by_itself: change.actor == Actor::Keystile,
        action: change.action.as_str().to_owned(),
        at: change.at.as_millis(),
        key: text(change.key.as_ref()),
        note: change.note.clone(),
    }
    .encode_to_vec()
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The key that it made or rotated; none when it made the tenant.
    pub key: Option<KeyId>,
    /// The generation that it made of the key; 0 without one.
    pub generation: u32,
    /// The hash of what was asked.
    pub content: [u8; 32],
}

/// The bytes of what came of a request.
pub fn encode_done(done: &Done) -> Vec<u8> {
    StoredRequest {
        key: text(done.key.as_ref()),
        generation: done.generation,
        content: done.content.to_vec(),
    }
    .encode_to_vec()
}

/// What came of the request of these bytes.
pub fn decode_done(bytes: &[u8]) -> Result<Done, DecodeError> {
    let read = Reader("request");
    let stored: StoredRequest = read.message(bytes)?;
    let key = optional(&stored.key).map(|text| read.name(KeyId::parse, text));
    Ok(Done {
        key: key.transpose()?,
        generation: stored.generation,
        content: read.array(&stored.content)?,
    })
}
