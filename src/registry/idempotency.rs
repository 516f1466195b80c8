//! Idempotency records: a request that is sent again with the same id gets the first answer, and nothing is done twice.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::domain::change::Actor;
use crate::domain::key::Key;
use crate::domain::name::TenantId;
use crate::registry::{Opened, Registry, RegistryError};
use crate::store::codec::FirstAnswer;
use crate::store::{IdempotencyRecord, records};

/// How long a request may be repeated: longer than any client tries.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A request by the id that its caller gave it, with what it asks for.
#[derive(Clone, Copy)]
pub struct RequestId {
    id: u128,
    content: [u8; 32],
}

impl fmt::Debug for RequestId {
    // Not the hash: what is asked may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({:032x})", self.id)
    }
}

/// A text that is no UUID of version 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID of version 4, for example f81d4fae-7dec-4d0a-a765-00a0c91e6bf6")]
pub struct NotAUuid;

impl RequestId {
    /// The request of that id; `content` is all that it asks for.
    pub fn new(id: &str, content: &[u8]) -> Result<Self, NotAUuid> {
        Ok(Self {
            id: parse_uuid(id).ok_or(NotAUuid)?,
            content: Sha256::digest(content).into(),
        })
    }
}

/// A UUID of version 4 and variant 1 in the text form of RFC 9562.
fn parse_uuid(text: &str) -> Option<u128> {
    let groups: Vec<&str> = text
        .get(..36)
        .filter(|_| text.len() == 36)?
        .split('-')
        .collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let hex = groups.concat();
    let right = lengths == [8, 4, 4, 4, 12] && hex.bytes().all(|b| b.is_ascii_hexdigit());
    let id = u128::from_str_radix(&hex, 16).ok().filter(|_| right)?;
    let (version, variant) = (id >> 76 & 0xf, id >> 62 & 0b11);
    (version == 4 && variant == 0b10).then_some(id)
}

/// What is done under a request id. The words go into the tag: the same id for another verb is another request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    CreateTenant,
    CreateKey,
    ImportKey,
    RotateKey,
    ClaimKey,
}

/// A request with the tag that the store knows it by.
#[derive(Clone, Copy)]
pub(super) struct Tagged {
    tag: [u8; 16],
    content: [u8; 32],
}

impl Registry {
    pub(super) fn tag(
        &self,
        verb: Verb,
        actor: &Actor,
        tenant: &TenantId,
        request: &RequestId,
    ) -> Tagged {
        let verb = match verb {
            Verb::CreateTenant => "create-tenant",
            Verb::CreateKey => "create-key",
            Verb::ImportKey => "import-key",
            Verb::RotateKey => "rotate-key",
            Verb::ClaimKey => "claim-key",
        };
        let tag = self.lookup.request_tag(&[
            verb.as_bytes(),
            actor.to_string().as_bytes(),
            tenant.as_str().as_bytes(),
            &request.id.to_be_bytes(),
        ]);
        Tagged {
            tag,
            content: request.content,
        }
    }

    /// What came of the request, if it was done; the same id for something else is refused.
    pub(super) async fn done(
        &self,
        opened: &Opened,
        request: &Tagged,
    ) -> Result<Option<FirstAnswer>, RegistryError> {
        let tenant = &opened.tenant.id;
        let found = self.store.request(tenant, request.tag).await?;
        let Some(row) = found.filter(|row| row.expires_at > self.now()) else {
            return Ok(None);
        };
        let done = records::open_done(&opened.data_key, tenant, request.tag, &row.body)?;
        if done.content != request.content {
            return Err(RegistryError::RequestReused);
        }
        Ok(Some(done))
    }
}

impl Tagged {
    /// What the store is to remember: that the tenant was made, or a generation of a key.
    pub(super) fn row(
        &self,
        opened: &Opened,
        made: Option<&Key>,
        now: Timestamp,
    ) -> IdempotencyRecord {
        let current = made.and_then(Key::current);
        let done = FirstAnswer {
            key: made.map(|key| key.id.clone()),
            generation: current.map_or(0, |current| current.number),
            content: self.content,
        };
        let mut rng = rand::rng();
        IdempotencyRecord {
            tag: self.tag,
            made_at: now,
            expires_at: now.plus(KEPT),
            body: records::seal_done(
                &opened.data_key,
                &opened.tenant.id,
                self.tag,
                &done,
                &mut rng,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_of_version_4_in_either_case() {
        let lower = RequestId::new("f81d4fae-7dec-4d0a-a765-00a0c91e6bf6", b"").unwrap();
        let upper = RequestId::new("F81D4FAE-7DEC-4D0A-A765-00A0C91E6BF6", b"").unwrap();
        assert_eq!(lower.id, upper.id);
        let long = "f".repeat(1 << 20);
        for bad in [
            "",
            "f81d4fae7dec4d0aa76500a0c91e6bf6",
            "f81d4fae-7dec-1d0a-a765-00a0c91e6bf6",
            "f81d4fae-7dec-4d0a-c765-00a0c91e6bf6",
            "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6 ",
            "+81d4fae-7dec-4d0a-a765-00a0c91e6bf6",
            "{81d4fae-7dec-4d0a-a765-00a0c91e6bf}",
            "f81d4fae-7dec-4d0a-a765-00a0c91e6bfä",
            long.as_str(),
        ] {
            assert!(RequestId::new(bad, b"").is_err(), "{bad:.50}");
        }
    }
}
