//! Every name in Redis, in one place. Names are stored: a change needs a new format version.
//!
//! The braces are Redis Cluster's hash tags: what is written between them chooses the slot, so all of a tenant is
//! in one, and what is kept of all tenants together is in the slot of their directory.

use std::fmt::Write as _;

use super::slots;
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;

/// The version of the layout below.
pub(super) const FORMAT: u32 = 1;

/// Fields of the hash [`Keyspace::root`].
pub(super) const ROOT_FORMAT: &str = "format";
pub(super) const ROOT_KEYRING: &str = "keyring_id";
/// Another one for each store that was made: an emptied one that was made again is not the same.
pub(super) const ROOT_STORE: &str = "store_id";
/// There once each slot of a Cluster has its marker.
pub(super) const ROOT_MARKED: &str = "slots_marked";

/// Makes names under a prefix.
#[derive(Clone, Debug)]
pub(super) struct Keyspace {
    prefix: Box<str>,
}

impl Keyspace {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    /// Hash: format version, keyring id, store id.
    pub(super) fn root(&self) -> String {
        format!("{}root", self.prefix)
    }

    /// Hash: the store id again, on a Cluster, in the slot of `name`.
    pub(super) fn marker_beside(&self, name: &str) -> String {
        self.marker(slots::slot_of(name.as_bytes()))
    }

    /// The same, of a slot.
    pub(super) fn marker(&self, slot: u16) -> String {
        format!("{}root:{{{}}}", self.prefix, slots::tag_in(slot))
    }

    /// The store id once more, for when [`Self::root`] is lost alone.
    pub(super) fn store_id(&self) -> String {
        self.of_all("store_id")
    }

    /// A pattern of all our names, as SCAN takes it.
    pub(super) fn all(&self) -> String {
        let mut pattern = String::new();
        for letter in self.prefix.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push('*');
        pattern
    }

    /// Sorted set of all tenants' ids, all with score 0: sorted by name.
    pub(super) fn directory(&self) -> String {
        format!("{}tenants", self.prefix)
    }

    fn of_all(&self, what: &str) -> String {
        format!("{0}{{{0}tenants}}:{what}", self.prefix)
    }

    /// Sorted set of changes under way, by the time they began: where the outbox worker looks.
    pub(super) fn begun(&self) -> String {
        self.of_all("begun")
    }

    /// Hash: tenant and data key id -> sequence number and live keys, as last told.
    pub(super) fn live(&self) -> String {
        self.of_all("live")
    }

    /// Who has a lease, for as long as it does.
    pub(super) fn lease(&self, name: &str) -> String {
        self.of_all(&format!("lease:{name}"))
    }

    /// The sum over [`Self::live`].
    pub(super) fn total(&self) -> String {
        self.of_all("total")
    }

    /// Sorted set of places under `max_total_keys` that creates under way hold, by the time they run out.
    pub(super) fn held(&self) -> String {
        self.of_all("held")
    }

    /// Sorted set of tenants (with data key id) that were deleted, by when: late counts of theirs are ignored.
    pub(super) fn deleted(&self) -> String {
        self.of_all("deleted")
    }

    /// Hash: what a tenant is.
    pub(super) fn tenant(&self, tenant: &TenantId) -> String {
        format!("{}t:{{{tenant}}}", self.prefix)
    }

    /// Hash: what a Check needs of one generation.
    pub(super) fn index(&self, lookup_id: LookupId) -> String {
        let mut name = self.index_prefix();
        write!(name, "{{{lookup_id}}}").expect("writing to a string does not fail");
        name
    }

    /// What every name of [`Self::index`] begins with.
    pub(super) fn index_prefix(&self) -> String {
        format!("{}i:", self.prefix)
    }

    /// What every name of [`Self::tenant`] begins with.
    pub(super) fn tenant_prefix(&self) -> String {
        format!("{}t:", self.prefix)
    }

    /// What the names of all that only the control plane reads and writes of tenants begin with.
    pub(super) fn keys_prefix(&self) -> String {
        format!("{}k:", self.prefix)
    }

    /// Hash: what is used of a limit of a tenant or its key.
    pub(super) fn limit(&self, tenant: &TenantId, what: &str) -> String {
        format!("{}n:{{{tenant}}}:{what}", self.prefix)
    }

    /// The names of all that only the control plane reads and writes of a tenant.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> OfTenant {
        OfTenant {
            tenant: self.tenant(tenant),
            stem: format!("{}k:{{{tenant}}}:", self.prefix),
        }
    }

    /// Sorted set of live sidecars, by their last heartbeat.
    pub(super) fn fleet_live(&self) -> String {
        format!("{}fleet:{{fleet}}:live", self.prefix)
    }

    /// Hash: sidecar -> what it says of itself.
    pub(super) fn fleet_reports(&self) -> String {
        format!("{}fleet:{{fleet}}:says", self.prefix)
    }

    /// Has no meaning: that it can be written shows that Redis takes heartbeats.
    pub(super) fn fleet_probe(&self) -> String {
        format!("{}fleet:{{fleet}}:probe", self.prefix)
    }

    /// Hash: blocked source -> when its block ends and how long it was made for, of one part of all sources.
    pub(super) fn blocks(&self, part: u8) -> String {
        format!("{}{part:02}", self.blocks_prefix())
    }

    /// What every name of [`Self::blocks`] begins with.
    pub(super) fn blocks_prefix(&self) -> String {
        format!("{}n:{{abuse}}:blocks:", self.prefix)
    }

    /// The part that a name of [`Self::blocks`] is for.
    pub(super) fn parse_blocks(&self, name: &[u8]) -> Option<u8> {
        let part = name.strip_prefix(self.blocks_prefix().as_bytes())?;
        std::str::from_utf8(part).ok()?.parse().ok()
    }

    /// What every name of [`Self::question`] begins with.
    pub(super) fn question_prefix(&self) -> String {
        format!("{}fleet:ask:", self.prefix)
    }

    /// Has no value; that it is written asks every sidecar to answer.
    pub(super) fn question(&self, question: &str) -> String {
        format!("{}{question}", self.question_prefix())
    }

    /// Set of the sidecars that have received a question, and so all that was written in its slot before.
    pub(super) fn answers(&self, question: &str) -> String {
        format!("{}fleet:ack:{question}", self.prefix)
    }

    /// The question that a name of [`Self::question`] is for.
    pub(super) fn parse_question<'a>(&self, name: &'a [u8]) -> Option<&'a str> {
        let question = name.strip_prefix(self.question_prefix().as_bytes())?;
        std::str::from_utf8(question).ok()
    }

    /// The lookup id that a name of [`Self::index`] is for.
    pub(super) fn parse_index(&self, name: &[u8]) -> Option<LookupId> {
        let hex = inside(name, self.index_prefix().as_bytes())?;
        let bytes = data_encoding::HEXLOWER.decode(hex).ok()?;
        Some(LookupId(bytes.try_into().ok()?))
    }

    /// The tenant that a name of [`Self::tenant`] is for.
    pub(super) fn parse_tenant(&self, name: &[u8]) -> Option<TenantId> {
        let id = inside(name, self.tenant_prefix().as_bytes())?;
        TenantId::parse(std::str::from_utf8(id).ok()?).ok()
    }
}

/// The lookup id that a question is about: `{<lookup id>}:<random>`.
pub(super) fn parse_question_lookup(question: &str) -> Option<LookupId> {
    let hex = question.strip_prefix('{')?.split_once('}')?.0;
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?;
    Some(LookupId(bytes.try_into().ok()?))
}

fn inside<'a>(name: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    name.strip_prefix(prefix)?
        .strip_prefix(b"{")?
        .strip_suffix(b"}")
}

/// Names in a tenant's slot.
#[derive(Clone, Debug)]
pub(super) struct OfTenant {
    pub(super) tenant: String,
    stem: String,
}

impl OfTenant {
    fn named(&self, what: &str) -> String {
        format!("{}{what}", self.stem)
    }

    /// Hash: key id -> version, newline, sealed key.
    pub(super) fn keys(&self) -> String {
        self.named("keys")
    }

    /// Sorted set of key ids, all with score 0: sorted by name.
    pub(super) fn ids(&self) -> String {
        self.named("ids")
    }

    /// Hash: owner tag -> live keys, and `*` -> live keys of all owners.
    pub(super) fn owners(&self) -> String {
        self.named("owners")
    }

    /// Sorted set of owner tags, each followed by the id of a key, all with score 0: the owner index.
    pub(super) fn by_owner(&self) -> String {
        self.named("by_owner")
    }

    /// Hash: lookup id -> an index write that is not yet confirmed.
    pub(super) fn outbox(&self) -> String {
        self.named("outbox")
    }

    /// Stream of audit entries, numbered from 1.
    pub(super) fn audit(&self) -> String {
        self.named("audit")
    }

    /// Set of the lookup ids of all keys, so that they can be deleted with the tenant.
    pub(super) fn lookups(&self) -> String {
        self.named("lookups")
    }

    /// Hash: tag -> times, newline, sealed answer of a request that was done.
    pub(super) fn requests(&self) -> String {
        self.named("requests")
    }

    /// Sorted set of the tags of [`Self::requests`] by when they expire.
    pub(super) fn requests_due(&self) -> String {
        self.named("requests_due")
    }

    /// Hash: key id -> a revocation that is decided and not yet in the index.
    pub(super) fn revoking(&self) -> String {
        self.named("revoking")
    }

    /// Set of lookup ids of a deleted tenant that are still to be removed.
    pub(super) fn leftovers(&self, dek_id: u64) -> String {
        self.named(&format!("leftovers:{dek_id}"))
    }

    /// What the key scripts take as KEYS, in their order.
    pub(super) fn for_keys(&self) -> Vec<String> {
        vec![
            self.tenant.clone(),
            self.keys(),
            self.ids(),
            self.owners(),
            self.outbox(),
            self.audit(),
            self.lookups(),
            self.requests(),
            self.requests_due(),
            self.revoking(),
            self.by_owner(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design() {
        let names = Keyspace::new("ks:");
        let acme = TenantId::parse("acme").unwrap();
        let id = LookupId([0xab; 16]);
        assert_eq!(names.root(), "ks:root");
        assert_eq!(names.directory(), "ks:tenants");
        assert_eq!(names.tenant(&acme), "ks:t:{acme}");
        assert_eq!(names.index(id), format!("ks:i:{{{}}}", "ab".repeat(16)));
        assert_eq!(names.of_tenant(&acme).keys(), "ks:k:{acme}:keys");
        assert_eq!(names.blocks(7), "ks:n:{abuse}:blocks:07");
        assert_eq!(names.total(), "ks:{ks:tenants}:total");
    }

    #[test]
    fn a_name_is_read_back_and_others_are_not() {
        let names = Keyspace::new("ks:");
        let acme = TenantId::parse("acme").unwrap();
        let id = LookupId([7; 16]);
        assert_eq!(names.parse_index(names.index(id).as_bytes()), Some(id));
        assert_eq!(
            names.parse_tenant(names.tenant(&acme).as_bytes()),
            Some(acme)
        );
        assert_eq!(names.parse_blocks(names.blocks(63).as_bytes()), Some(63));
        for other in ["ks:t:{}", "ks:t:acme", "ks:i:{zz}", "x", ""] {
            assert_eq!(names.parse_index(other.as_bytes()), None, "{other}");
            assert_eq!(names.parse_tenant(other.as_bytes()), None, "{other}");
        }
    }
}
