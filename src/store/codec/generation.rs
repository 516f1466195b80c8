//! The generations of a key.

use prost::Message;

use super::{DecodeError, Reader};
use crate::clock::Timestamp;
use crate::domain::key::{Delivery, Generation, LookupId};

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredGeneration {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(bytes = "vec", tag = "2")]
    lookup_id: Vec<u8>,
    #[prost(string, tag = "3")]
    hint: String,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(int64, optional, tag = "5")]
    retires_at: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "6")]
    sealed_token: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "7")]
    digest: Vec<u8>,
    /// 0 handed, 1 waiting, 2 claimed.
    #[prost(uint32, tag = "8")]
    delivery: u32,
}

pub(super) fn stored_generation(generation: &Generation) -> StoredGeneration {
    StoredGeneration {
        number: generation.number,
        lookup_id: generation.lookup_id.0.to_vec(),
        hint: generation.hint.clone(),
        created_at: generation.created_at.as_millis(),
        retires_at: generation.retires_at.map(Timestamp::as_millis),
        sealed_token: generation.sealed_token.clone(),
        digest: generation.digest.to_vec(),
        delivery: match generation.delivery {
            Delivery::Handed => 0,
            Delivery::Waiting => 1,
            Delivery::Claimed => 2,
        },
    }
}

pub(super) fn decode_generation(
    read: &Reader,
    stored: &StoredGeneration,
) -> Result<Generation, DecodeError> {
    Ok(Generation {
        number: stored.number,
        lookup_id: LookupId(read.array(&stored.lookup_id)?),
        digest: read.array(&stored.digest)?,
        hint: stored.hint.clone(),
        created_at: Timestamp::from_millis(stored.created_at),
        retires_at: stored.retires_at.map(Timestamp::from_millis),
        sealed_token: stored.sealed_token.clone(),
        delivery: match stored.delivery {
            0 => Delivery::Handed,
            1 => Delivery::Waiting,
            2 => Delivery::Claimed,
            _ => return Err(read.fail("delivery")),
        },
    })
}
