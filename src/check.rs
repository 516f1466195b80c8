//! Compares everything in a store with everything else in it, and puts right what can be put right safely.
//!
//! A record that opens is right: it is sealed. What is derived from it (index entries, counts, lists, the fields in clear
//! beside it) is compared with it and, in a repair, made again. A key that works and has no record of its own is revoked.
//! Each write holds only if what was seen is still there, so control planes may run beside it, and an
//! interrupted check is resumed by running it again. What cannot be put right (a tenant's record that is lost) is named.
#![warn(missing_docs)]

pub mod background;
mod index;
mod tenants;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::clock::Timestamp;
use crate::crypto::envelope::DataKey;
use crate::crypto::keyring::Keyring;
use crate::domain::key::LookupId;
use crate::domain::name::{KeyId, TenantId};
use crate::registry::{Registry, RegistryError};
use crate::store::{Store, StoreError};

pub use crate::store::damage::Entry;
pub use crate::store::repair::Mode;

/// The most findings that are kept; what is beyond is counted.
const FINDINGS_MAX: usize = 10_000;
/// A change that is younger than this may be under way.
const YOUNG: Duration = Duration::from_secs(30);
/// How often, and after what wait, something is looked at again that a change under way could explain.
const LOOKS: usize = 10;
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why a check stopped. What has been put right stays so.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The store failed.
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    /// A repair failed.
    #[error("cannot repair")]
    Registry(#[from] RegistryError),
}

/// What came of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was put right.
    Repaired,
    /// A repair can put it right.
    Repairable,
    /// Nobody but an operator can.
    ByHand,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Of which kind of entry.
    pub entry: Entry,
    /// Whose, if that is known.
    pub tenant: Option<TenantId>,
    /// Of which key.
    pub key: Option<KeyId>,
    /// Where its index entry is.
    pub lookup_id: Option<LookupId>,
    /// What is wrong, and what to do or what was done.
    pub problem: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Finding {
    fn of(entry: Entry, tenant: &TenantId, problem: impl Into<String>) -> Self {
        Self {
            entry,
            tenant: Some(tenant.clone()),
            key: None,
            lookup_id: None,
            problem: problem.into(),
            outcome: Outcome::Repairable,
        }
    }

    fn key(self, key: &KeyId) -> Self {
        Self {
            key: Some(key.clone()),
            ..self
        }
    }

    fn at(self, lookup_id: LookupId) -> Self {
        Self {
            lookup_id: Some(lookup_id),
            ..self
        }
    }

    fn by_hand(self) -> Self {
        Self {
            outcome: Outcome::ByHand,
            ..self
        }
    }
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tenants that were looked at.
    pub tenants: u64,
    /// Keys.
    pub keys: u64,
    /// Index entries.
    pub index_entries: u64,
    /// What is wrong, up to a bound.
    pub findings: Vec<Finding>,
    /// How many findings there are beyond that.
    pub more: u64,
    /// How many of all findings are not put right.
    pub unrepaired: u64,
}

/// A store and what opens its records.
pub struct Check {
    store: Arc<dyn Store>,
    registry: Registry,
    keyring: Arc<Keyring>,
    mode: Mode,
    now: Timestamp,
    /// For how many times as long as a batch took it rests after it.
    rest: u32,
    /// Whether the owner index is compared too.
    compares_owners: bool,
    report: Mutex<Report>,
    /// Data keys of tenants, and none for those that have no record that opens.
    open: Mutex<BTreeMap<TenantId, Option<Arc<DataKey>>>>,
    /// Where something was found already.
    reported: Mutex<BTreeSet<LookupId>>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({:?})", self.store)
    }
}

impl Check {
    /// Of the store that `registry` is over, whose records `keyring` opens, at `now`.
    pub fn new(registry: Registry, keyring: Arc<Keyring>, mode: Mode, now: Timestamp) -> Self {
        Self {
            store: Arc::clone(registry.store()),
            registry,
            keyring,
            mode,
            now,
            rest: 0,
            compares_owners: true,
            report: Mutex::default(),
            open: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    /// Looks at everything. `done` is told how many tenants are done of how many there are.
    pub async fn run(self, done: &dyn Fn(usize, usize)) -> Result<Report, CheckError> {
        if !self.check_markers().await? {
            return Ok(self.into_report());
        }
        let tenants = self.all_tenants().await?;
        for (at, tenant) in tenants.iter().enumerate() {
            self.check_tenant(tenant).await?;
            done(at + 1, tenants.len());
        }
        self.check_entries().await?;
        self.check_sum().await?;
        Ok(self.into_report())
    }

    fn into_report(self) -> Report {
        self.report.into_inner()
    }

    /// The count of all tenants together.
    async fn check_sum(&self) -> Result<(), StoreError> {
        if self.store.repair().is_sum_wrong(self.mode).await? {
            self.report(Finding {
                entry: Entry::Counts,
                tenant: None,
                key: None,
                lookup_id: None,
                problem: "the number of live keys of all tenants is not the sum of theirs"
                    .to_owned(),
                outcome: self.outcome(),
            });
        }
        Ok(())
    }

    /// Rests after a batch that was begun then.
    async fn rest_since(&self, begun: Instant) {
        if self.rest > 0 {
            sleep(begun.elapsed() * self.rest).await;
        }
    }

    /// Answers whether anything else can be read.
    async fn check_markers(&self) -> Result<bool, StoreError> {
        let lost = self.store.repair().lost_markers(self.mode).await?;
        let finding = |problem, outcome| Finding {
            entry: Entry::Lists,
            tenant: None,
            key: None,
            lookup_id: None,
            problem,
            outcome,
        };
        if lost.alone > 0 {
            let problem = format!(
                "{} slots of the Cluster have lost their markers: the store is out, and nothing else is looked at, until they are put back",
                lost.alone
            );
            self.report(finding(problem, self.outcome()));
        }
        if lost.with_data > 0 {
            let problem = format!(
                "{} slots of the Cluster have lost their data: restore it from a backup; nothing else is looked at before",
                lost.with_data
            );
            self.report(finding(problem, Outcome::ByHand));
        }
        Ok(lost.with_data == 0 && (lost.alone == 0 || self.repairs()))
    }

    async fn all_tenants(&self) -> Result<BTreeSet<TenantId>, StoreError> {
        let mut all = BTreeSet::new();
        let mut cursor = None;
        loop {
            let (page, next) = self.store.repair().scan_tenants(cursor).await?;
            all.extend(page);
            cursor = next;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    fn repairs(&self) -> bool {
        self.mode == Mode::Repair
    }

    /// What comes of a finding that the store itself has put right, if it was to.
    fn outcome(&self) -> Outcome {
        match self.mode {
            Mode::Check => Outcome::Repairable,
            Mode::Repair => Outcome::Repaired,
        }
    }

    fn report(&self, finding: Finding) {
        if let Some(lookup_id) = finding.lookup_id {
            self.reported.lock().insert(lookup_id);
        }
        let mut report = self.report.lock();
        report.unrepaired += u64::from(finding.outcome != Outcome::Repaired);
        if report.findings.len() < FINDINGS_MAX {
            report.findings.push(finding);
        } else {
            report.more += 1;
        }
    }

    /// Tells of a finding that `repair` puts right, and lets it, in a repair.
    async fn put_right(
        &self,
        finding: Finding,
        repair: impl Future<Output = Result<bool, RegistryError>>,
    ) -> Result<(), CheckError> {
        let outcome = match self.repairs().then_some(repair) {
            None => Outcome::Repairable,
            Some(repair) => match repair.await {
                Ok(true) => Outcome::Repaired,
                // Somebody else has written meanwhile: it is looked at again the next time.
                Ok(false) | Err(RegistryError::Conflict { .. }) => Outcome::Repairable,
                Err(error) => return Err(error.into()),
            },
        };
        self.report(Finding { outcome, ..finding });
        Ok(())
    }

    /// Whether a change of that time may be under way; then it waits for it a little.
    async fn may_be_under_way(&self, changed_at: Timestamp, look: usize) -> bool {
        if look >= LOOKS || self.now.since(changed_at) > YOUNG {
            return false;
        }
        sleep(LOOK_AGAIN_AFTER).await;
        true
    }
}
