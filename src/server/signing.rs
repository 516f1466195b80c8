//! The signing keys of the running process: read before anything listens, read again when their file changes or a
//! SIGHUP asks for it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, KeyringSource};
use crate::crypto::keyring::{Keyring, Ring};
use crate::crypto::signing::ContextKeys;
use crate::keyfile::{self, KeyfileError};
use crate::server::file_watch::{Followed, Reloads, WatchedFiles};
use crate::telemetry::chain;
use crate::telemetry::metrics::Metrics;

/// Where the keys come from and what they are now.
#[derive(Clone, Debug)]
pub(super) struct SigningKeys {
    source: KeyringSource,
    keys: Arc<ArcSwap<ContextKeys>>,
    reloads: Arc<Reloads>,
    files: WatchedFiles,
}

impl SigningKeys {
    /// Reads the keys that the configuration names, before anything is bound.
    pub(super) fn load(config: &Config) -> Result<Option<Self>, KeyfileError> {
        config.keyring.signing.clone().map(Self::open).transpose()
    }

    fn open(source: KeyringSource) -> Result<Self, KeyfileError> {
        let paths = match &source {
            KeyringSource::File(path) => vec![path.clone()],
            KeyringSource::Env(_) => Vec::new(),
        };
        let files = WatchedFiles::new(paths);
        let keys = read(&source)?;
        Ok(Self {
            source,
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            reloads: Reloads::new("signing keyring"),
            files,
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
        self.reloads.observe(
            metrics,
            "keystile_signing_keyring_reloads",
            "Reads of a replaced signing keyring, by how they ended.",
        );
    }
}

impl Followed for SigningKeys {
    const WHAT: &'static str = "signing keyring";

    fn poll(&mut self, forced: bool) {
        if !self.files.is_due(forced) {
            return;
        }
        match read(&self.source) {
            Ok(keys) => {
                let signer = keys.signer(SystemClock.now()).id().to_owned();
                self.keys.store(Arc::new(keys));
                self.reloads.reloaded(format_args!("key {signer} signs"));
            }
            Err(error) => self.reloads.rejected(chain(&error)),
        }
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

    /// Until what has changed counts as settled.
    fn poll(signing: &mut SigningKeys) {
        signing.poll(false);
        signing.poll(false);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let source = make(dir.path());
        let mut signing = SigningKeys::open(source.clone()).unwrap();
        let first = signing.jwks();
        poll(&mut signing);
        assert_eq!(signing.jwks(), first);

        let KeyringSource::File(path) = &source else {
            panic!("a file")
        };
        let good = fs::read(path).unwrap();
        for bad in [&b"{}"[..], &good[..good.len() / 2], b""] {
            fs::write(path, bad).unwrap();
            poll(&mut signing);
            assert_eq!(signing.jwks(), first);
        }
        assert_eq!(signing.reloads.failed(), 3);
        fs::remove_file(path).unwrap();
        poll(&mut signing);
        assert_eq!(signing.jwks(), first);

        make(dir.path());
        poll(&mut signing);
        assert_ne!(signing.jwks(), first);
        assert_eq!(signing.reloads.failed(), 4);
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
        poll(&mut signing);
        assert_ne!(signing.jwks(), first);
    }
}
