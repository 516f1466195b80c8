//! The signing keys of the running process: read before anything listens, read again when their file changes or a
//! SIGHUP asks for it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::{Clock as _, SystemClock};
use crate::config::KeyringSource;
use crate::crypto::keyring::Ring;
use crate::crypto::signing::ContextKeys;
use crate::keyfile;
use crate::telemetry::metrics::Metrics;

/// How often the file is looked at. A new key signs minutes after it was made, so this need not be quick.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the keys come from and what they are now.
#[derive(Clone, Debug)]
pub(super) struct SigningKeys {
    source: KeyringSource,
    keys: Arc<ArcSwap<ContextKeys>>,
    failed_reloads: Arc<AtomicU64>,
    /// What the file looked like before it was read.
    seen: Option<Looks>,
}

/// What changes when a file does: a Kubernetes Secret is replaced by a link to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Looks {
    /// `None` when it is not there or no file.
    fn of(source: &KeyringSource) -> Option<Self> {
        let KeyringSource::File(path) = source else {
            return None;
        };
        Self::at(path)
    }

    fn at(path: &Path) -> Option<Self> {
        let facts = fs::metadata(path).ok()?;
        Some(Self {
            device: facts.dev(),
            inode: facts.ino(),
            len: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }
}

impl SigningKeys {
    /// Reads the keys for the first time.
    pub(super) fn open(source: KeyringSource) -> anyhow::Result<Self> {
        let seen = Looks::of(&source);
        let keys = read(&source)?;
        Ok(Self {
            source,
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            failed_reloads: Arc::default(),
            seen,
        })
    }

    /// The keys, for who signs.
    pub(super) fn keys(&self) -> Arc<ArcSwap<ContextKeys>> {
        Arc::clone(&self.keys)
    }

    /// The key set, for who verifies.
    pub(super) fn jwks(&self) -> String {
        self.keys.load().jwks(SystemClock.now())
    }

    /// Shows in `metrics` what operators have to know.
    pub(super) fn observe(&self, metrics: &Metrics) {
        let failed = Arc::clone(&self.failed_reloads);
        metrics.counter(
            "keystile_signing_key_reload_failures",
            "Changed signing keyrings that could not be used; the one before is used on.",
            move || failed.load(Ordering::Relaxed),
        );
    }

    /// Follows the file until the future is dropped.
    pub(super) fn follow(mut self) -> anyhow::Result<impl Future<Output = ()> + Send> {
        let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(async move {
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let asked = tokio::select! {
                    _ = looks.tick() => false,
                    Some(()) = hangups.recv() => true,
                };
                // Files may be on a disk that hangs, and others run on this thread.
                let looked = tokio::task::spawn_blocking(move || {
                    self.look(asked);
                    self
                });
                match looked.await {
                    Ok(after) => self = after,
                    // It panicked, or the process ends.
                    Err(_) => return,
                }
            }
        })
    }

    fn look(&mut self, asked: bool) {
        let looks = Looks::of(&self.source);
        if looks == self.seen && !asked {
            return;
        }
        self.seen = looks;
        match read(&self.source) {
            Ok(keys) => {
                let signer = keys.signer(SystemClock.now()).id().to_owned();
                self.keys.store(Arc::new(keys));
                tracing::info!(signer, "the signing keyring was read again");
            }
            Err(error) => {
                self.failed_reloads.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    error = format!("{error:#}"),
                    "the signing keyring cannot be used; signing goes on with the one before"
                );
            }
        }
    }
}

fn read(source: &KeyringSource) -> anyhow::Result<ContextKeys> {
    let keyring = keyfile::load(source, Ring::Signing)?;
    ContextKeys::new(&keyring).context("the signing keyring has no keys")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn make(dir: &Path) -> KeyringSource {
        let made = keyfile::init(dir, &[Ring::Signing], SystemClock.now()).unwrap();
        KeyringSource::File(made[0].0.clone())
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let source = make(dir.path());
        let mut signing = SigningKeys::open(source.clone()).unwrap();
        let first = signing.jwks();
        signing.look(false);
        assert_eq!(signing.jwks(), first);

        let KeyringSource::File(path) = &source else {
            panic!("a file")
        };
        let good = fs::read(path).unwrap();
        for bad in [&b"{}"[..], &good[..good.len() / 2], b""] {
            fs::write(path, bad).unwrap();
            signing.look(false);
            assert_eq!(signing.jwks(), first);
        }
        assert_eq!(signing.failed_reloads.load(Ordering::Relaxed), 3);
        fs::remove_file(path).unwrap();
        signing.look(false);
        assert_eq!(signing.jwks(), first);

        make(dir.path());
        signing.look(false);
        assert_ne!(signing.jwks(), first);
        assert_eq!(signing.failed_reloads.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_link_to_another_file_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        make(&a);
        make(&b);
        let link = dir.path().join("now");
        symlink(&a, &link).unwrap();
        let source = KeyringSource::File(link.join("signing.keyring"));
        let mut signing = SigningKeys::open(source).unwrap();
        let first = signing.jwks();
        fs::remove_file(&link).unwrap();
        symlink(&b, &link).unwrap();
        signing.look(false);
        assert_ne!(signing.jwks(), first);
    }
}
