//! Reads certificates and keys from files, and refuses what a client would refuse later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::config::Tls;
use crate::file_access::{self, Exposure, Readers, Refusal};
use crate::server::tls::certificate;

/// Far above any chain or bundle; a file named by accident is often larger.
const FILE_LEN_MAX: usize = 4 << 20;
/// Whose certificates sign those of clients.
pub(super) const CLIENTS_CA: &str = "certificates of the clients' CA";

/// Why a file of a listener's TLS cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("there is no file {}: put the {what} there, or correct the path", path.display())]
    Missing { path: PathBuf, what: &'static str },
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is {kind}, but a PEM file with the {what} is needed", path.display())]
    NotAFile {
        path: PathBuf,
        kind: &'static str,
        what: &'static str,
    },
    #[error("{0}")]
    TooOpen(Exposure),
    #[error("{} is larger than {FILE_LEN_MAX} bytes: this is not the {what}", path.display())]
    TooLarge { path: PathBuf, what: &'static str },
    #[error("{} holds no certificate: it must be PEM text with a `BEGIN CERTIFICATE` line", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} is damaged PEM text: write the whole file again", path.display())]
    Damaged { path: PathBuf },
    #[error("certificate {number} in {} cannot be read: write the whole file again", path.display())]
    BadCertificate {
        path: PathBuf,
        number: usize,
        #[source]
        source: certificate::Unreadable,
    },
    #[error("certificate {number} in {} expired at {at}: put a new one there", path.display())]
    Expired {
        path: PathBuf,
        number: usize,
        at: Timestamp,
    },
    #[error("certificate {number} in {} is not valid before {at}: correct this machine's clock, or put another one there", path.display())]
    NotYetValid {
        path: PathBuf,
        number: usize,
        at: Timestamp,
    },
    #[error("{} holds no private key: it must be PEM text with a `BEGIN PRIVATE KEY` line", path.display())]
    NoKey { path: PathBuf },
    #[error("the private key in {} is encrypted: store it without a passphrase, in a file that only its owner can read", path.display())]
    EncryptedKey { path: PathBuf },
    #[error("the private key in {} cannot be used: make an RSA, ECDSA (P-256, P-384) or Ed25519 key", path.display())]
    BadKey {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("the private key in {} does not belong to the first certificate in {}: put the pair there, the server's own certificate first", key.display(), cert.display())]
    Mismatch { key: PathBuf, cert: PathBuf },
    #[error("the certificates in {} cannot sign others", path.display())]
    BadCa {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the certificate in {} cannot be used", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
}

/// A certificate, those that vouch for it, and when the first of them expires.
pub(super) struct Chain {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) expires_at: Timestamp,
}

/// What is wrong with each file for itself, so that all of it can be said at once.
pub(super) fn mistakes(files: &Tls, now: Timestamp) -> Vec<TlsFileError> {
    let ca = files.client_ca_file.as_deref();
    let all = [
        read_chain(&files.cert_file, now).err(),
        read_key(&files.key_file, secret).err(),
        ca.and_then(|path| read_roots(path, CLIENTS_CA, now, public).err()),
    ];
    all.into_iter().flatten().collect()
}

/// The server's certificate and its chain, all valid at `now`.
pub(super) fn read_chain(path: &Path, now: Timestamp) -> Result<Chain, TlsFileError> {
    let certificates = read_certificates(path, "certificate", public)?;
    let mut expires_at = Timestamp::MAX;
    for (index, der) in certificates.iter().enumerate() {
        let (from, until) = validity(path, index, der)?;
        let (path, number) = (path.to_owned(), index + 1);
        if now < from {
            return Err(TlsFileError::NotYetValid {
                path,
                number,
                at: from,
            });
        }
        if now >= until {
            return Err(TlsFileError::Expired {
                path,
                number,
                at: until,
            });
        }
        expires_at = expires_at.min(until);
    }
    Ok(Chain {
        certificates,
        expires_at,
    })
}

fn validity(
    path: &Path,
    index: usize,
    der: &CertificateDer<'_>,
) -> Result<(Timestamp, Timestamp), TlsFileError> {
    certificate::validity(der).map_err(|source| TlsFileError::BadCertificate {
        path: path.to_owned(),
        number: index + 1,
        source,
    })
}

/// Our side of TLS to a server: whom we trust, the system's CAs where no file names others, and who we are, by a
/// certificate with its chain and the key.
pub fn client_config(
    ca_file: Option<&Path>,
    what: &'static str,
    identity: Option<(&Path, &Path)>,
    now: Timestamp,
    read: Read,
) -> Result<ClientConfig, TlsFileError> {
    let roots = match ca_file {
        Some(path) => read_roots(path, what, now, read)?,
        // One bad file among the system's many is no reason to trust none of them.
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the ciphers of TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let Some((cert_file, key_file)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read_certificates(cert_file, "certificate", read)?;
    let key = read_key(key_file, read)?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(|source| TlsFileError::Unusable {
        path: cert_file.to_owned(),
        source,
    })
}

/// Certificates that sign others. A bundle may hold expired ones, but not only those.
pub(super) fn read_roots(
    path: &Path,
    what: &'static str,
    now: Timestamp,
    read: Read,
) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    let mut expired = None;
    for (index, der) in read_certificates(path, what, read)?.into_iter().enumerate() {
        let (_, until) = validity(path, index, &der)?;
        if now >= until {
            expired = expired.or(Some((index + 1, until)));
            continue;
        }
        roots.add(der).map_err(|source| TlsFileError::BadCa {
            path: path.to_owned(),
            source: source.into(),
        })?;
    }
    match expired {
        Some((number, at)) if roots.is_empty() => Err(TlsFileError::Expired {
            path: path.to_owned(),
            number,
            at,
        }),
        Some(_) | None => Ok(roots),
    }
}

fn read_certificates(
    path: &Path,
    what: &'static str,
    read: Read,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = read(path, what)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| TlsFileError::Damaged { path: path.into() })?;
    if found.is_empty() {
        return Err(TlsFileError::NoCertificate { path: path.into() });
    }
    Ok(found)
}

/// The private key. Errors never repeat what the file holds.
pub(super) fn read_key(path: &Path, read: Read) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let text = read(path, "private key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let path = path.to_owned();
        match error {
            _ if holds(&text, b"ENCRYPTED") => TlsFileError::EncryptedKey { path },
            pem::Error::NoItemsFound => TlsFileError::NoKey { path },
            _ => TlsFileError::Damaged { path },
        }
    })
}

fn holds(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Reads a file that is to be something.
type Read = fn(&Path, &'static str) -> Result<Zeroizing<Vec<u8>>, TlsFileError>;

/// A file that anybody may read.
pub(in crate::server) fn public(
    path: &Path,
    what: &'static str,
) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    read_guarded(path, what, Readers::Anybody)
}

/// A file that its owner alone may read.
pub(super) fn secret(path: &Path, what: &'static str) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    read_guarded(path, what, Readers::OwnerAlone)
}

/// Whatever a command's caller names, a pipe too.
pub fn any(path: &Path, _: &'static str) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    let read = std::fs::read(path).map(Zeroizing::new);
    read.map_err(|source| TlsFileError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

fn read_guarded(
    path: &Path,
    what: &'static str,
    readers: Readers,
) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    let refused = |refusal| {
        let path = path.to_owned();
        match refusal {
            Refusal::Missing => TlsFileError::Missing { path, what },
            Refusal::Unreadable(source) => TlsFileError::Unreadable { path, source },
            Refusal::NotAFile { kind } => TlsFileError::NotAFile { path, kind, what },
            Refusal::Exposed(exposure) => TlsFileError::TooOpen(exposure),
            Refusal::TooLarge => TlsFileError::TooLarge { path, what },
        }
    };
    file_access::read(path, readers, FILE_LEN_MAX).map_err(refused)
}
