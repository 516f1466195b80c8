//! Who made a key.

use prost::Message;

use super::{DecodeError, Reader};
use crate::domain::change::Actor;
use crate::domain::name::{Issuer, KeyId, Subject, TenantId};
use crate::domain::san::San;

/// One of them is set; none of it is somebody with access to the store.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredActor {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, tag = "3")]
    dns: String,
    #[prost(string, tag = "4")]
    uri: String,
    #[prost(string, tag = "5")]
    issuer: String,
    #[prost(string, tag = "6")]
    subject: String,
    #[prost(bool, tag = "7")]
    by_itself: bool,
}

impl StoredActor {
    pub(super) fn of(actor: &Actor) -> Self {
        let mut stored = Self::default();
        match actor {
            Actor::Key { tenant, key } => {
                stored.tenant = tenant.to_string();
                stored.key = key.to_string();
            }
            Actor::Certificate {
                san: San::Dns(name),
            } => stored.dns.clone_from(name),
            Actor::Certificate { san: San::Uri(uri) } => stored.uri.clone_from(uri),
            Actor::Jwt { issuer, subject } => {
                stored.issuer = issuer.to_string();
                stored.subject = subject.to_string();
            }
            Actor::Keystile => stored.by_itself = true,
            Actor::Operator => {}
        }
        stored
    }

    pub(super) fn read(&self, read: &Reader) -> Result<Actor, DecodeError> {
        Ok(if !self.key.is_empty() {
            Actor::Key {
                tenant: read.name(TenantId::parse, &self.tenant)?,
                key: read.name(KeyId::parse, &self.key)?,
            }
        } else if !self.dns.is_empty() {
            Actor::Certificate {
                san: San::Dns(self.dns.clone()),
            }
        } else if !self.uri.is_empty() {
            Actor::Certificate {
                san: San::Uri(self.uri.clone()),
            }
        } else if !self.issuer.is_empty() {
            Actor::Jwt {
                issuer: read.name(Issuer::parse, &self.issuer)?,
                subject: read.name(Subject::parse, &self.subject)?,
            }
        } else if self.by_itself {
            Actor::Keystile
        } else {
            Actor::Operator
        })
    }
}
