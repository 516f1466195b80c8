//! Memory goes back to the system when a burst is over.
//!
//! The allocator gives back what has been free for a second, but looks only when a large piece is freed: after the last
//! request of a burst nobody would. So one is taken and freed now and then. It is wiped as all that is freed, so it is no
//! larger than it takes.

use std::hint::black_box;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Larger than what the allocator keeps for reuse; as much of it stays resident.
const LARGE: usize = 2 << 20;
const EVERY: Duration = Duration::from_secs(2);

/// Has free memory given back until `stop`.
pub(super) async fn keep_giving_back(stop: CancellationToken) {
    let giving = async {
        loop {
            tokio::time::sleep(EVERY).await;
            drop(black_box(Vec::<u8>::with_capacity(LARGE)));
        }
    };
    stop.run_until_cancelled(giving).await;
}
