//! The signing keys of the running process: read before anything listens, read again when their file changes or a
//! SIGHUP asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use opentelemetry::KeyValue;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, KeyringSource};
use crate::crypto::keyring::{Keyring, Ring};
use crate::crypto::signing::ContextKeys;
use crate::keyfile::{self, KeyfileError};
use crate::server::stamp::FileStamp;
use crate::telemetry::metrics::Metrics;

/// How often the file is looked at. A new key signs minutes after it was made, so this need not be quick.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the keys come from and what they are now.
#[derive(Clone, Debug)]
pub(super) struct SigningKeys {
    source: KeyringSource,
    keys: Arc<ArcSwap<ContextKeys>>,
    reloads: Arc<Reloads>,
    /// What the file was before it was last read, or tried.
    tried: Option<FileStamp>,
}

/// How many reloads there were.
#[derive(Debug, Default)]
struct Reloads {
    ok: AtomicU64,
    failed: AtomicU64,
}

impl SigningKeys {
    /// Reads the keys that the configuration names, before anything is bound.
    pub(super) fn load(config: &Config) -> Result<Option<Self>, KeyfileError> {
        config.keyring.signing.clone().map(Self::open).transpose()
    }

    fn open(source: KeyringSource) -> Result<Self, KeyfileError> {
        let tried = stamp(&source);
        let keys = read(&source)?;
        Ok(Self {
            source,
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            reloads: Arc::default(),
            tried,
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

    /// Shows the reloads.
    pub(super) fn observe(&self, metrics: &Metrics) {
        let reloads = Arc::clone(&self.reloads);
        metrics.counters(
            "keystile_signing_keyring_reloads",
            "Reads of a replaced signing keyring, by how they ended.",
            move || {
                let row = |outcome, count: &AtomicU64| {
                    let labels = vec![KeyValue::new("outcome", outcome)];
                    (labels, count.load(Ordering::Relaxed))
                };
                vec![row("ok", &reloads.ok), row("failed", &reloads.failed)]
            },
        );
    }

    /// Follows the file until `stop`. `hangups` ask to read it whether it seems changed or not.
    pub(super) fn follow(
        &self,
        mut hangups: Signal,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let mut this = self.clone();
        async move {
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let asked = tokio::select! {
                    () = stop.cancelled() => return,
                    _ = looks.tick() => false,
                    Some(()) = hangups.recv() => true,
                };
                // The file may be on a disk that does not answer: nothing else may wait for it.
                let looked = tokio::task::spawn_blocking(move || {
                    this.look(asked);
                    this
                });
                let Ok(after) = looked.await else {
                    tracing::error!("the signing keyring is no longer followed: a reload panicked");
                    return;
                };
                this = after;
            }
        }
    }

    fn look(&mut self, asked: bool) {
        let found = stamp(&self.source);
        if found == self.tried && !asked {
            return;
        }
        self.tried = found;
        match read(&self.source) {
            Ok(keys) => {
                let signer = keys.signer(SystemClock.now()).id().to_owned();
                self.keys.store(Arc::new(keys));
                self.reloads.ok.fetch_add(1, Ordering::Relaxed);
                tracing::info!(signer, "the signing keyring was read again");
            }
            Err(error) => {
                self.reloads.failed.fetch_add(1, Ordering::Relaxed);
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "the new signing keyring cannot be used; the old one stays"
                );
            }
        }
    }
}

fn stamp(source: &KeyringSource) -> Option<FileStamp> {
    match source {
        KeyringSource::File(path) => FileStamp::of(path),
        KeyringSource::Env(_) => None,
    }
}

fn read(source: &KeyringSource) -> Result<ContextKeys, KeyfileError> {
    keyfile::load(source, Ring::Signing).map(|keyring| keys(&keyring))
}

fn keys(keyring: &Keyring) -> ContextKeys {
    ContextKeys::new(keyring).expect("a signing keyring has keys")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

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
        assert_eq!(signing.reloads.failed.load(Ordering::Relaxed), 3);
        fs::remove_file(path).unwrap();
        signing.look(false);
        assert_eq!(signing.jwks(), first);

        make(dir.path());
        signing.look(false);
        assert_ne!(signing.jwks(), first);
        assert_eq!(signing.reloads.failed.load(Ordering::Relaxed), 4);
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
