//! Fields of stored records, read as what they stand for.

use std::collections::BTreeSet;

use prost::Message;

use super::{DecodeError, StoredFeatures, optional};
use crate::domain::limit::{Limits, Quota, Rate};
use crate::domain::name::{Feature, InvalidName, KeyId};
use crate::domain::network::canonical;
use crate::domain::role::Role;

/// Reads the fields of one record and names the one that is wrong.
pub(super) struct Reader(pub(super) &'static str);

impl Reader {
    pub(super) fn fail(&self, problem: impl Into<String>) -> DecodeError {
        DecodeError {
            what: self.0,
            problem: problem.into(),
        }
    }

    pub(super) fn message<M: Message + Default>(&self, bytes: &[u8]) -> Result<M, DecodeError> {
        M::decode(bytes).map_err(|error| self.fail(error.to_string()))
    }

    pub(super) fn name<T>(
        &self,
        parse: fn(&str) -> Result<T, InvalidName>,
        text: &str,
    ) -> Result<T, DecodeError> {
        parse(text).map_err(|error| self.fail(error.what))
    }

    pub(super) fn names<T: Ord>(
        &self,
        parse: fn(&str) -> Result<T, InvalidName>,
        texts: &[String],
    ) -> Result<BTreeSet<T>, DecodeError> {
        texts.iter().map(|text| self.name(parse, text)).collect()
    }

    /// The key of that id; none where none is named.
    pub(super) fn key(&self, text: &str) -> Result<Option<KeyId>, DecodeError> {
        let named = optional(text).map(|text| self.name(KeyId::parse, text));
        named.transpose()
    }

    pub(super) fn features(
        &self,
        stored: Option<&StoredFeatures>,
    ) -> Result<Option<BTreeSet<Feature>>, DecodeError> {
        stored
            .map(|features| self.names(Feature::parse, &features.names))
            .transpose()
    }

    pub(super) fn role(&self, number: u32) -> Result<Role, DecodeError> {
        match number {
            1 => Ok(Role::User),
            2 => Ok(Role::TenantAdmin),
            3 => Ok(Role::GlobalAdmin),
            _ => Err(self.fail("role")),
        }
    }

    pub(super) fn networks(&self, texts: &[String]) -> Result<Vec<ipnet::IpNet>, DecodeError> {
        texts
            .iter()
            .map(|text| text.parse().map_err(|_| self.fail("network")))
            // As an earlier version let them in.
            .map(|network| network.map(canonical))
            .collect()
    }

    pub(super) fn limits(&self, rate: &str, quota: &str) -> Result<Limits, DecodeError> {
        Ok(Limits {
            rate: optional(rate)
                .map(|text| self.name(Rate::parse, text))
                .transpose()?,
            quota: optional(quota)
                .map(|text| self.name(Quota::parse, text))
                .transpose()?,
        })
    }

    pub(super) fn array<const N: usize>(&self, bytes: &[u8]) -> Result<[u8; N], DecodeError> {
        bytes.try_into().map_err(|_| self.fail("digest"))
    }
}
