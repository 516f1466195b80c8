//! TLS of the listeners: certificates from files that may be replaced at any time.
//!
//! A connection keeps the certificate that it began with; the next one gets the newest that could be read.

mod certificate;
mod client;
pub(super) mod files;
mod handshake;
mod reload;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::clock::Timestamp;
use crate::config::{self, Config, TlsVersion};
use crate::server::file_watch::WatchedFiles;
use crate::telemetry::chain;
pub use files::{TlsFileError, client_config};
use handshake::Handshakes;
pub(super) use reload::{Reloader, observe};

/// A listener's TLS, as it is now.
pub(super) struct Tls {
    /// Which listener: its name in the configuration.
    listener: &'static str,
    files: config::Tls,
    protocols: &'static [&'static [u8]],
    current: ArcSwap<Served>,
    handshakes: Handshakes,
    /// Its files, from before they were first read.
    watched: WatchedFiles,
}

/// What new connections get.
struct Served {
    config: Arc<ServerConfig>,
    expires_at: Timestamp,
}

/// Every file that cannot be used, with the section that names it.
#[derive(Debug, thiserror::Error)]
pub struct TlsMistakes(Vec<(&'static str, TlsFileError)>);

impl TlsMistakes {
    /// One for each file.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let mistakes = self.0.iter();
        mistakes.map(|(listener, mistake)| format!("{listener}.tls: {}", chain(mistake)))
    }
}

impl fmt::Display for TlsMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot serve TLS")?;
        self.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// The TLS of every listener that has it.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) authz: Option<Arc<Tls>>,
    pub(super) admin: Option<Arc<Tls>>,
    pub(super) ops: Option<Arc<Tls>>,
    pub(super) injector: Option<Arc<Tls>>,
}

const GRPC: &[&[u8]] = &[b"h2"];
const GRPC_AND_HTTP1: &[&[u8]] = &[b"h2", b"http/1.1"];

impl Listeners {
    /// Reads every file, before anything is bound.
    pub(super) fn load(config: &Config, now: Timestamp) -> Result<Self, TlsMistakes> {
        let mut mistakes = Vec::new();
        let mut load = |name, files: Option<&config::Tls>, protocols| {
            let files = files?;
            match Tls::load(name, files.clone(), protocols, now) {
                Ok(loaded) => Some(Arc::new(loaded)),
                Err(first) => {
                    let all = files::mistakes(files, now);
                    let all = if all.is_empty() { vec![first] } else { all };
                    mistakes.extend(all.into_iter().map(|mistake| (name, mistake)));
                    None
                }
            }
        };
        let authz = config.authz.as_ref().and_then(|at| at.tls.as_ref());
        let admin = config.admin.as_ref().and_then(|at| at.tls.as_ref());
        let ops = config.ops.as_ref().and_then(|at| at.tls.as_ref());
        let injector = config.injector.as_ref().and_then(|at| at.tls.as_ref());
        let all = Self {
            authz: load("authz", authz, GRPC),
            admin: load("admin", admin, GRPC_AND_HTTP1),
            ops: load("ops", ops, GRPC_AND_HTTP1),
            injector: load("injector", injector, GRPC_AND_HTTP1),
        };
        if mistakes.is_empty() {
            Ok(all)
        } else {
            Err(TlsMistakes(mistakes))
        }
    }

    fn all(&self) -> Vec<Arc<Tls>> {
        let all = [&self.authz, &self.admin, &self.ops, &self.injector];
        all.into_iter().flatten().cloned().collect()
    }
}

impl Tls {
    fn load(
        listener: &'static str,
        files: config::Tls,
        protocols: &'static [&'static [u8]],
        now: Timestamp,
    ) -> Result<Self, TlsFileError> {
        let client_ca = files.client_ca_file.as_ref();
        let paths = [Some(&files.cert_file), Some(&files.key_file), client_ca];
        let watched = WatchedFiles::new(
            paths
                .into_iter()
                .flatten()
                .map(|path| path.to_path_buf())
                .collect(),
        );
        let served = read(&files, protocols, now)?;
        Ok(Self {
            listener,
            files,
            protocols,
            current: ArcSwap::from_pointee(served),
            handshakes: Handshakes::default(),
            watched,
        })
    }

    /// Takes the files as they are now, or keeps what there is.
    fn reload(&self, now: Timestamp) -> Result<(), TlsFileError> {
        let served = read(&self.files, self.protocols, now)?;
        self.current.store(Arc::new(served));
        Ok(())
    }

    fn expires_at(&self) -> Timestamp {
        self.current.load().expires_at
    }
}

fn read(files: &config::Tls, protocols: &[&[u8]], now: Timestamp) -> Result<Served, TlsFileError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = files::read_chain(&files.cert_file, now)?;
    let key = files::read_key(&files.key_file, files::secret)?;
    let loaded = provider.key_provider.load_private_key(key);
    let key = loaded.map_err(|source| TlsFileError::BadKey {
        path: files.key_file.to_path_buf(),
        source,
    })?;
    let pair = CertifiedKey::new(chain.certificates, key);
    check_pair(&pair, files)?;
    let clients = clients(files, &provider, now)?;
    let unusable = |source| TlsFileError::Unusable {
        path: files.cert_file.to_path_buf(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(files.min_version))
        .map_err(unusable)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    if files.client_ca_file.is_some() {
        // A resumed session would not show its certificate again: one that has expired would go on.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Served {
        config: Arc::new(config),
        expires_at: chain.expires_at,
    })
}

fn check_pair(pair: &CertifiedKey, files: &config::Tls) -> Result<(), TlsFileError> {
    use rustls::{Error, InconsistentKeys};
    match pair.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err(TlsFileError::Mismatch {
            key: files.key_file.to_path_buf(),
            cert: files.cert_file.to_path_buf(),
        }),
        Err(source) => Err(TlsFileError::Unusable {
            path: files.cert_file.to_path_buf(),
            source,
        }),
    }
}

fn clients(
    files: &config::Tls,
    provider: &Arc<CryptoProvider>,
    now: Timestamp,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let Some(path) = &files.client_ca_file else {
        return Ok(Arc::new(NoClientAuth));
    };
    let roots = Arc::new(files::read_roots(
        path,
        files::CLIENTS_CA,
        now,
        files::public,
    )?);
    let inner = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|source| TlsFileError::BadCa {
            path: path.to_path_buf(),
            source: source.into(),
        })?;
    Ok(Arc::new(client::AllowList {
        inner,
        allowed: files.client_sans.clone(),
    }))
}

static FROM_1_2: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static FROM_1_3: &[&SupportedProtocolVersion] = &[&TLS13];

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::V1_2 => FROM_1_2,
        TlsVersion::V1_3 => FROM_1_3,
    }
}
