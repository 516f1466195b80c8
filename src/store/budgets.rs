//! Budgets: what is used of the limits of a tenant and its keys, counted once for all processes.
//!
//! Each limit has a bucket. What is used of it leaks away at the limit's rate; the bucket of a quota does not leak and
//! ends with its window. A process can be charged for a request at once, or take a *lease*: a number of requests that
//! it may let through by itself for a short time.
//!
//! Leased requests are *held*: they take room in the bucket and do not leak until their holder says that they were
//! spent. So whatever a holder does until its lease ends, more than the limit never passes: used + held never exceeds
//! the burst. A lease that ends without a report counts as spent.
#![warn(missing_docs)]

mod bucket;

use crate::domain::limit::LimitName;

pub use bucket::{Bucket, Lease, reached, settle};

/// The most buckets of one call: every limit that a request can meet.
pub const BUCKETS_MAX: usize = LimitName::ALL.len();
/// The largest level of a bucket, in parts of a request: what a script in Redis counts exactly (2^53) and some room.
pub const LEVEL_MAX: u64 = 8_000_000_000_000_000;

/// How fast a bucket leaks and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How many parts leak in a millisecond; 0 for a quota.
    pub amount: u64,
    /// How many parts a request is.
    pub period: u64,
    /// How many requests fit.
    pub burst: u64,
    /// The beginning and end of a quota's window, in ms since the epoch.
    pub window: Option<(i64, i64)>,
}

/// What is asked of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketAsk {
    /// Which limit.
    pub limit: LimitName,
    /// Its terms, as of now; a bucket keeps what is used when they change.
    pub terms: Terms,
    /// Whether it is only counted: it is charged when there is room, and never refuses.
    pub shadow: bool,
    /// Requests that were let through without being charged or leased; charged now, room or not.
    pub debt: u64,
    /// The lease to begin, go on with or end.
    pub lease: Option<LeaseAsk>,
}

/// What a holder says of a lease and wants of it. All numbers of requests are sums since the lease began: a message that
/// is lost or comes twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The process and which of its leases on the bucket; never used again after the lease has ended for the holder.
    pub holder: String,
    /// Grows with each message of the holder: one that was overtaken by a later one is not listened to.
    pub sequence: u64,
    /// How many requests were spent of it.
    pub spent: u64,
    /// How many unspent ones the holder would like to have; what it has beyond that, it gives back.
    pub target: u64,
}

/// A call: charges a request to all buckets or to none, and settles their leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// The id of the tenant's data key: a tenant that is made again under the same name has its own buckets.
    pub incarnation: u64,
    /// The key, for the limits that are of the key.
    pub key: Option<String>,
    /// What the request costs; 0 charges nothing.
    pub cost: u64,
    /// How long leases last, in ms.
    pub lease_ms: u64,
    /// At most [`BUCKETS_MAX`], each limit once.
    pub buckets: Vec<BucketAsk>,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The store's time is in another window than the call's terms say: nothing was done.
    OtherWindow {
        /// The store's time, in ms since the epoch.
        now: i64,
    },
    /// It was done.
    Done {
        /// The store's time, in ms since the epoch.
        now: i64,
        /// Whether the cost was charged: whether it fits all buckets that are not in shadow.
        charged: bool,
        /// Each bucket, in the order of the call.
        buckets: Vec<BucketState>,
    },
}

/// A bucket after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// Whether the cost fits.
    pub fits: bool,
    /// How many requests the lease has been granted since it began, given-back ones taken off.
    pub granted: u64,
    /// How long the lease lasts from when the call was received, in ms; 0 if there is none.
    pub lease_ms: u64,
    /// How many requests fit now.
    pub available: u64,
    /// After how many ms the cost fits if nobody else is charged; 0 if it does.
    pub retry_ms: u64,
    /// After how many ms the bucket is empty if nobody is charged.
    pub reset_ms: u64,
    /// 80 or 100 when this call is the first to find so much per cent of a quota used; else 0.
    pub reached: u8,
}
