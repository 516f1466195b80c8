//! The issuer's keys: read from a file when it changes, or from where it publishes them every so often, and once more
//! when a token names a key that is not known. What cannot be read leaves the last good set in use, for a while.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::signal::unix::Signal;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::fetch::{FetchError, Fetcher};
use crate::config::{Jwks, JwksSource};
use crate::file_access::{self, Exposure, Readers, Refusal};
use crate::oidc::{KEY_SET_BYTES_MAX, KeySet, KeySetError};
use crate::server::file_watch::{POLL_EVERY, Reloads, WatchedFiles};
use crate::telemetry::chain;
use crate::telemetry::metrics::Metrics;

/// How often unknown keys have the set read again: anybody can name one.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How long a caller with an unknown key waits for it. Longer than a read takes at most.
const ASK_TIMEOUT: Duration = Duration::from_secs(8);
/// The first pause after a failure; each that follows is twice as long, up to the time between reads.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a key set was not read.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum ReadError {
    #[error("there is no file {}: put the issuer's key set there, or correct the path", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is {kind}, but a file with the issuer's key set is needed", .path.display())]
    NotAFile { path: PathBuf, kind: &'static str },
    #[error("{0}")]
    Exposed(Exposure),
    #[error("cannot fetch {url}")]
    Fetch {
        url: String,
        #[source]
        source: FetchError,
    },
    #[error("what is at {place} {error}")]
    NotAKeySet { place: String, error: KeySetError },
    #[error("a read panicked")]
    Panicked,
}

/// What is wrong with the files that a section names; `path` is where that is in the configuration.
pub(in crate::server) fn mistakes(path: &str, section: &Jwks) -> Vec<String> {
    match section.source() {
        JwksSource::File(file) => match read_file(file) {
            Ok(_) => Vec::new(),
            Err(error) => vec![format!("{path}.file: {}", chain(&error))],
        },
        JwksSource::Url { url, ca_file } => {
            match Fetcher::new(url, ca_file.map(Path::to_owned)).check() {
                Ok(()) => Vec::new(),
                Err(error) => vec![format!("{path}: {}", chain(&error))],
            }
        }
    }
}

enum KeySetSource {
    File {
        path: PathBuf,
        files: Mutex<WatchedFiles>,
    },
    Url(Arc<Fetcher>),
}

/// A key set, and when it was last known to be the issuer's.
struct Current {
    set: Arc<KeySet>,
    at: Instant,
}

pub(in crate::server) struct Keys {
    source: KeySetSource,
    every: Duration,
    max_stale: Duration,
    current: ArcSwapOption<Current>,
    /// Whether the last read went well.
    good: Mutex<bool>,
    asked: Notify,
    /// When unknown keys last asked for a read, and which read answers.
    last_ask: Mutex<Option<(Instant, u64)>>,
    begun: AtomicU64,
    finished: watch::Sender<u64>,
    reloads: Arc<Reloads>,
}

impl Keys {
    /// With the file's keys, if they are in a file.
    pub(in crate::server) fn open(section: &Jwks) -> Result<Self, ReadError> {
        let mut current = None;
        let (source, every) = match section.source() {
            JwksSource::File(path) => {
                let files = Mutex::new(WatchedFiles::new(vec![path.to_owned()]));
                let set = Arc::new(read_file(path)?);
                let at = Instant::now();
                current = Some(Arc::new(Current { set, at }));
                let path = path.to_owned();
                (KeySetSource::File { path, files }, POLL_EVERY)
            }
            JwksSource::Url { url, ca_file } => {
                let fetcher = Arc::new(Fetcher::new(url, ca_file.map(Path::to_owned)));
                (KeySetSource::Url(fetcher), section.ttl.0)
            }
        };
        Ok(Self {
            source,
            every,
            max_stale: section.max_stale.0,
            good: Mutex::new(current.is_some()),
            current: ArcSwapOption::new(current),
            asked: Notify::new(),
            last_ask: Mutex::new(None),
            begun: AtomicU64::new(0),
            finished: watch::Sender::new(0),
            reloads: Reloads::new("issuer's key set"),
        })
    }

    /// The keys, unless they are too old.
    pub(in crate::server) fn current(&self, now: Instant) -> Option<Arc<KeySet>> {
        let current = self.current.load();
        let current = current.as_ref()?;
        let fresh = now.saturating_duration_since(current.at) <= self.max_stale;
        fresh.then(|| Arc::clone(&current.set))
    }

    /// Has the keys read again, if that was not done just now, and waits for it.
    pub(super) async fn read_again(&self) {
        let mut finished = self.finished.subscribe();
        let Some(read) = self.ask(*finished.borrow_and_update(), Instant::now()) else {
            return;
        };
        let done = finished.wait_for(|number| *number >= read);
        timeout(ASK_TIMEOUT, done).await.ok();
    }

    /// Has the keys read again, if that was not done just now, and waits for nothing.
    pub(in crate::server) fn ask_soon(&self) {
        let finished = *self.finished.borrow();
        self.ask(finished, Instant::now());
    }

    /// The number of the read that will answer; none when it is too soon for another.
    fn ask(&self, finished: u64, now: Instant) -> Option<u64> {
        // The first read is under way already, or about to be.
        if finished == 0 && self.current.load().is_none() {
            return Some(1);
        }
        let mut last = self.last_ask.lock();
        match *last {
            // Somebody has asked, and it is under way.
            Some((_, read)) if finished < read => Some(read),
            Some((at, _)) if now.saturating_duration_since(at) < ASK_EVERY => None,
            Some(_) | None => {
                // One that is under way may have begun before the issuer changed its keys.
                let read = self.begun.load(Ordering::SeqCst) + 1;
                *last = Some((now, read));
                self.asked.notify_one();
                Some(read)
            }
        }
    }

    /// Reads the keys again and again until `stop`. `hangups` ask to do so whether it seems needed or not.
    pub(in crate::server) async fn follow(
        self: Arc<Self>,
        mut hangups: Signal,
        stop: CancellationToken,
    ) {
        let (mut failures, mut asked) = (0, false);
        loop {
            let read = stop.run_until_cancelled(self.read(asked));
            let Some(good) = read.await else { return };
            failures = if good { 0 } else { failures + 1 };
            asked = tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause(self.every, failures)) => false,
                () = self.asked.notified() => true,
                Some(()) = hangups.recv() => true,
            };
        }
    }

    /// Reads them once; whether they are good now.
    async fn read(&self, asked: bool) -> bool {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let good = match self.newest(asked).await {
            // Nothing has changed since.
            None => *self.good.lock(),
            Some(read) => self.take(read),
        };
        *self.good.lock() = good;
        if good && let Some(current) = self.current.load_full() {
            let set = Arc::clone(&current.set);
            let at = Instant::now();
            self.current.store(Some(Arc::new(Current { set, at })));
        }
        self.finished.send_replace(number);
        good
    }

    fn take(&self, read: Result<KeySet, ReadError>) -> bool {
        match read {
            Ok(set) => {
                let (keys, unusable) = (set.len(), set.unusable());
                let (set, at) = (Arc::new(set), Instant::now());
                let before = self.current.swap(Some(Arc::new(Current { set, at })));
                let detail = format_args!("{keys} keys, {unusable} not usable");
                match (&self.source, before) {
                    (KeySetSource::Url(_), Some(_)) => self.reloads.refreshed(detail),
                    (KeySetSource::Url(_) | KeySetSource::File { .. }, _) => {
                        self.reloads.reloaded(detail);
                    }
                }
                true
            }
            Err(error) => {
                let age = self.current.load().as_ref().map(|it| it.at.elapsed());
                let max_stale = self.max_stale;
                self.reloads.rejected(format_args!(
                    "{}; age {age:?}, used until {max_stale:?}",
                    chain(&error)
                ));
                false
            }
        }
    }

    /// What there is now; none when it is what was there at the last read.
    async fn newest(&self, asked: bool) -> Option<Result<KeySet, ReadError>> {
        match &self.source {
            KeySetSource::Url(fetcher) => Some(fetch(fetcher).await),
            KeySetSource::File { path, files } => {
                let (path, mut watched) = (path.clone(), files.lock().clone());
                // It may be on a disk that does not answer: nothing else may wait for it.
                let looked = tokio::task::spawn_blocking(move || {
                    let read = watched.is_due(asked).then(|| read_file(&path));
                    (watched, read)
                });
                let Ok((watched, read)) = looked.await else {
                    return Some(Err(ReadError::Panicked));
                };
                *files.lock() = watched;
                read
            }
        }
    }

    /// Shows how reading them goes.
    pub(in crate::server) fn observe(
        self: &Arc<Self>,
        metrics: &Metrics,
        reads: &'static str,
        age: &'static str,
    ) {
        self.reloads.observe(
            metrics,
            reads,
            "Reads of the issuer's keys, by how they ended.",
        );
        let this = Arc::clone(self);
        metrics.gauges(
            age,
            "How long ago the issuer's keys were last known to be these.",
            move || {
                let current = this.current.load();
                let age = current
                    .as_ref()
                    .map(|current| current.at.elapsed().as_secs());
                age.map(|age| (Vec::new(), age)).into_iter().collect()
            },
        );
    }
}

fn pause(every: Duration, failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => every,
        Some(earlier) => RETRY_AFTER
            .saturating_mul(1 << earlier.min(16))
            .min(every.max(RETRY_AFTER)),
    }
}

async fn fetch(fetcher: &Arc<Fetcher>) -> Result<KeySet, ReadError> {
    let document = fetcher.fetch().await.map_err(|source| ReadError::Fetch {
        url: fetcher.url().to_owned(),
        source,
    })?;
    key_set(fetcher.url(), &document)
}

fn read_file(path: &Path) -> Result<KeySet, ReadError> {
    let document = file_access::read(path, Readers::Anybody, KEY_SET_BYTES_MAX);
    let place = path.display().to_string();
    let document = document.map_err(|refusal| match refusal {
        Refusal::Missing => ReadError::Missing(path.to_path_buf()),
        Refusal::Unreadable(source) => ReadError::Unreadable {
            path: path.to_path_buf(),
            source,
        },
        Refusal::NotAFile { kind } => ReadError::NotAFile {
            path: path.to_path_buf(),
            kind,
        },
        Refusal::Exposed(exposure) => ReadError::Exposed(exposure),
        Refusal::TooLarge => ReadError::NotAKeySet {
            place: place.clone(),
            error: KeySetError::TooLarge,
        },
    })?;
    key_set(&place, &document)
}

fn key_set(place: &str, document: &[u8]) -> Result<KeySet, ReadError> {
    KeySet::parse(document).map_err(|error| ReadError::NotAKeySet {
        place: place.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HumanDuration;

    const KEY: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
    const HOUR: Duration = Duration::from_secs(3600);

    fn open(path: &std::path::Path) -> Result<Keys, ReadError> {
        Keys::open(&Jwks {
            file: Some(path.into()),
            url: None,
            ca_file: None,
            ttl: HumanDuration(HOUR),
            max_stale: HumanDuration(HOUR),
        })
    }

    #[tokio::test]
    async fn the_last_good_keys_are_used_for_a_while_and_then_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        assert!(matches!(open(&path), Err(ReadError::Missing(_))));
        std::fs::write(&path, KEY).unwrap();
        let keys = open(&path).unwrap();
        let at = || keys.current.load().as_ref().unwrap().at;
        let first = at();
        assert!(keys.read(false).await);
        assert!(at() > first, "a file that stays as it is does not grow old");

        std::fs::write(&path, "{}").unwrap();
        assert!(keys.read(false).await, "it has just changed");
        let last = at();
        assert!(!keys.read(false).await);
        assert!(!keys.read(false).await, "nothing new, and no better for it");
        assert_eq!(at(), last);
        assert!(keys.current(last + HOUR).is_some());
        let too_old = last + HOUR + Duration::from_millis(1);
        assert!(keys.current(too_old).is_none());
        std::fs::write(&path, KEY).unwrap();
        assert!(keys.read(true).await);
        assert!(at() > last);
    }

    #[tokio::test]
    async fn asking_for_unknown_keys_is_answered_by_one_read_and_not_too_often() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        std::fs::write(&path, KEY).unwrap();
        let keys = open(&path).unwrap();
        let now = Instant::now();
        keys.read(false).await;
        assert_eq!(keys.ask(1, now), Some(2));
        assert_eq!(
            keys.ask(1, now),
            Some(2),
            "who comes meanwhile waits for it"
        );
        keys.read(true).await;
        assert_eq!(keys.ask(2, now), None, "too soon");
        assert_eq!(keys.ask(2, now + ASK_EVERY), Some(3));
        // One that is under way has begun before, and is not the answer.
        keys.begun.fetch_add(1, Ordering::SeqCst);
        assert_eq!(keys.ask(3, now + ASK_EVERY * 2), Some(4));
    }

    #[test]
    fn after_failures_it_is_tried_again_ever_later() {
        let seconds = |every: u64, failures| pause(Duration::from_secs(every), failures).as_secs();
        let table = [
            (0, 300),
            (1, 2),
            (2, 4),
            (3, 8),
            (8, 256),
            (9, 300),
            (u32::MAX, 300),
        ];
        for (failures, expected) in table {
            assert_eq!(seconds(300, failures), expected, "{failures}");
        }
        assert_eq!(seconds(2, 5), 2);
    }
}
