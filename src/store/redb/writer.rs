//! The one thread that writes. Commits that wait together share a transaction and its `fsync`.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::RwLock;
use redb::Database;
use tokio::sync::{mpsc, oneshot};

use crate::store::redb::operation::{Operation, Stop, Touched};
use crate::store::redb::write::Tables;
use crate::store::{CommitError, StoreError, Watcher};

/// The most commits that wait; who comes next waits for a place. Bounds memory, not throughput.
const QUEUE_LEN_MAX: usize = 1024;
/// The most commits in one transaction: enough that the `fsync` no longer matters, few enough that the first one
/// does not wait long for the last.
const BATCH_LEN_MAX: usize = 256;

type Watchers = Arc<RwLock<Vec<Arc<dyn Watcher>>>>;

struct Job {
    operation: Operation,
    answer: oneshot::Sender<Result<(), CommitError>>,
}

/// The queue to the thread, and the thread. Dropping it waits until what is queued is committed.
pub(super) struct Writer {
    // None only while being dropped.
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    watchers: Watchers,
}

impl Writer {
    pub(super) fn start(database: Arc<Database>) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_LEN_MAX);
        let watchers = Watchers::default();
        let notified = Arc::clone(&watchers);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&database, jobs, &notified))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            watchers,
        })
    }

    /// Hands a change to the thread and waits for its end. Once it is queued it happens, or is refused, as a
    /// whole, whether or not anybody still waits.
    pub(super) async fn submit(&self, operation: Operation) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue
            .send(Job { operation, answer })
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Whether commits can still be made.
    pub(super) fn alive(&self) -> Result<(), StoreError> {
        match &self.queue {
            Some(queue) if !queue.is_closed() => Ok(()),
            _ => Err(stopped()),
        }
    }

    pub(super) fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.watchers.write().push(watcher);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A watcher may have held the last reference to the store: the thread cannot wait for itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the writer has stopped".into())
}

fn run(database: &Database, mut jobs: mpsc::Receiver<Job>, watchers: &Watchers) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_LEN_MAX
            && let Ok(next) = jobs.try_recv()
        {
            batch.push(next);
        }
        commit(database, batch, watchers);
    }
}

/// Commits what can be, tells the watchers, then answers everybody.
fn commit(database: &Database, batch: Vec<Job>, watchers: &Watchers) {
    let results = match commit_all(database, &batch) {
        Ok(results) => results,
        Err(error) => {
            tracing::error!(error = %crate::telemetry::chain(&error), "cannot commit");
            batch.iter().map(|_| Err(same(&error).into())).collect()
        }
    };
    // A clone, so that a watcher may add another one.
    let watchers = watchers.read().clone();
    for touched in results.iter().flatten() {
        for watcher in &watchers {
            notify(watcher.as_ref(), touched);
        }
    }
    for (job, result) in batch.into_iter().zip(results) {
        // Nobody waits any more when the caller's future was dropped; the commit stands.
        drop(job.answer.send(result.map(drop)));
    }
}

fn commit_all(
    database: &Database,
    batch: &[Job],
) -> Result<Vec<Result<Touched, CommitError>>, StoreError> {
    let txn = database.begin_write()?;
    let mut tables = Tables::open(&txn)?;
    let mut results = Vec::with_capacity(batch.len());
    for job in batch {
        match tables.apply(&job.operation) {
            Ok(touched) => results.push(Ok(touched)),
            Err(Stop::Refused(error)) => results.push(Err(error)),
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    drop(tables);
    if results.iter().any(Result::is_ok) {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(results)
}

fn notify(watcher: &dyn Watcher, touched: &Touched) {
    for lookup_id in &touched.index {
        watcher.index_changed(*lookup_id);
    }
    if let Some(tenant) = &touched.tenant {
        watcher.tenant_changed(tenant);
    }
}

/// The same failure for each who waited for the transaction.
fn same(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(cause) => StoreError::Unavailable(cause.to_string().into()),
        StoreError::Damaged(problem) => StoreError::Damaged(problem.clone()),
        StoreError::Unusable(problem) => StoreError::Unusable(problem.clone()),
        StoreError::Lost(problem) => StoreError::Lost(problem.clone()),
    }
}
