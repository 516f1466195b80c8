//! Files that are followed while the process runs: one rule for when a changed file is read again, one loop, one
//! count and one log line for how that went.
//!
//! Files are polled, because mounted Secrets and ConfigMaps are swapped in ways that file events miss. Symbolic links
//! are followed, so that a link to another file is another version.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::Metrics;

/// How often files are looked at.
pub(super) const POLL_EVERY: Duration = Duration::from_secs(1);

/// What tells one version of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileVersion {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileVersion {
    /// `None` when nothing is there.
    fn of(path: &Path) -> Option<Self> {
        let facts = fs::metadata(path).ok()?;
        Some(Self {
            device: facts.dev(),
            inode: facts.ino(),
            len: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}

/// Files that belong together, and which versions of them were read.
#[derive(Clone, Debug)]
pub(super) struct WatchedFiles {
    paths: Vec<PathBuf>,
    /// What was there when they were last read, or tried.
    attempted: Vec<Option<FileVersion>>,
    /// What was there at the last poll.
    seen: Vec<Option<FileVersion>>,
}

impl WatchedFiles {
    /// Make it before the first read: what changes between the two is then found at the first poll.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let found = versions(&paths);
        Self {
            paths,
            attempted: found.clone(),
            seen: found,
        }
    }

    /// Whether to read them now: they have changed since the last attempt and not since the last poll, so that
    /// whoever writes in place, or replaces one of a pair, has a poll's time to finish. `forced` reads at once.
    pub(super) fn is_due(&mut self, forced: bool) -> bool {
        let found = versions(&self.paths);
        let settled = found == self.seen;
        self.seen = found;
        let is_due = forced || settled && self.seen != self.attempted;
        if is_due {
            self.attempted.clone_from(&self.seen);
        }
        is_due
    }
}

fn versions(paths: &[PathBuf]) -> Vec<Option<FileVersion>> {
    paths.iter().map(|path| FileVersion::of(path)).collect()
}

/// How many reloads of one kind of file there were.
#[derive(Debug)]
pub(super) struct Reloads {
    /// The kind, for logs.
    what: &'static str,
    ok: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    pub(super) fn new(what: &'static str) -> Arc<Self> {
        Arc::new(Self {
            what,
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Counts and logs a new version that is in use now; `detail` says what of it a reader wants to know.
    pub(super) fn reloaded(&self, detail: impl fmt::Display) {
        self.ok.fetch_add(1, Ordering::Relaxed);
        tracing::info!(%detail, "{} reloaded", self.what);
    }

    /// Counts a read at its regular time, which need not have found anything new.
    pub(super) fn refreshed(&self, detail: impl fmt::Display) {
        self.ok.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%detail, "{} refreshed", self.what);
    }

    /// Counts and logs a new version that cannot be used.
    pub(super) fn rejected(&self, error: impl fmt::Display) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "rejected the new {}, keeping the current one", self.what);
    }

    #[cfg(test)]
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Shows them as the counter `name`, by outcome.
    pub(super) fn observe(
        self: &Arc<Self>,
        metrics: &Metrics,
        name: &'static str,
        description: &'static str,
    ) {
        let this = Arc::clone(self);
        metrics.counters(name, description, move || {
            let row = |outcome, count: &AtomicU64| {
                let labels = vec![KeyValue::new("outcome", outcome)];
                (labels, count.load(Ordering::Relaxed))
            };
            vec![row("ok", &this.ok), row("failed", &this.failed)]
        });
    }
}

/// What [`follow`] polls.
pub(super) trait Followed: Send + 'static {
    /// What it is, for logs.
    const WHAT: &'static str;

    /// Reads what is due to be read; `forced` reads it whether it seems changed or not. May block.
    fn poll(&mut self, forced: bool);
}

/// Polls until `stop`. A hangup forces a read.
pub(super) async fn follow<F: Followed>(
    mut followed: F,
    mut hangups: Signal,
    stop: CancellationToken,
) {
    let mut polls = interval(POLL_EVERY);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let forced = tokio::select! {
            () = stop.cancelled() => return,
            _ = polls.tick() => false,
            Some(()) = hangups.recv() => true,
        };
        // A file may be on a disk that does not answer: nothing else may wait for it.
        let polled = tokio::task::spawn_blocking(move || {
            followed.poll(forced);
            followed
        });
        let Ok(after) = polled.await else {
            tracing::error!("a reload panicked: the {} is no longer followed", F::WHAT);
            return;
        };
        followed = after;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_file_is_due_once_it_has_stopped_changing() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
        write(&cert, "1");
        let mut files = WatchedFiles::new(vec![cert.clone(), key.clone()]);
        assert!(!files.is_due(false), "nothing has changed");
        assert!(files.is_due(true), "forced");
        write(&cert, "22");
        assert!(!files.is_due(false), "just changed");
        write(&key, "2");
        assert!(!files.is_due(false), "its twin has just changed");
        assert!(files.is_due(false));
        assert!(!files.is_due(false), "read once");
        fs::remove_file(&key).unwrap();
        assert!(!files.is_due(false));
        assert!(files.is_due(false), "gone is changed");
    }

    #[test]
    fn a_link_to_another_file_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write(&a, "same");
        write(&b, "same");
        let link = dir.path().join("now");
        symlink(&a, &link).unwrap();
        let mut files = WatchedFiles::new(vec![link.clone()]);
        fs::remove_file(&link).unwrap();
        symlink(&b, &link).unwrap();
        assert!(!files.is_due(false));
        assert!(files.is_due(false));
    }
}
