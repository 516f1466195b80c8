//! Talking TLS to a control plane: whom to trust, and the certificate that says who we are.

mod connector;

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::{AlertDescription, CertificateError};

use crate::cli::{Failure, print_hint};
use crate::clock::{Clock as _, SystemClock};
use crate::file_access;
use crate::server;
pub(super) use connector::Connector;

/// Files for `https://` addresses.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct TlsArgs {
    /// Certificates (PEM) of the CA that signs the server's; without it, the system's
    #[arg(long, global = true, env = "KEYSTILE_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our certificate and its chain (PEM), for a server that asks for one
    #[arg(long, global = true, env = "KEYSTILE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The private key (PEM) of --tls-cert
    #[arg(long, global = true, env = "KEYSTILE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

/// The files of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFiles {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cert: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
}

impl TlsFiles {
    /// Whether a certificate says who we are, so that an API key need not.
    pub(super) fn identifies_us(&self) -> bool {
        self.cert.is_some()
    }
}

impl TlsArgs {
    /// The files, for a context to keep: to be found from every folder.
    pub(super) fn files(&self) -> io::Result<TlsFiles> {
        let absolute =
            |file: &Option<PathBuf>| file.as_deref().map(std::path::absolute).transpose();
        Ok(TlsFiles {
            ca: absolute(&self.tls_ca)?,
            cert: absolute(&self.tls_cert)?,
            key: absolute(&self.tls_key)?,
        })
    }

    /// These, or the files of a context if there are none.
    pub(super) fn or(&self, files: &TlsFiles) -> Self {
        if self.files_given() {
            return self.clone();
        }
        Self {
            tls_ca: files.ca.clone(),
            tls_cert: files.cert.clone(),
            tls_key: files.key.clone(),
        }
    }

    fn files_given(&self) -> bool {
        let given = [&self.tls_ca, &self.tls_cert, &self.tls_key];
        given.iter().any(|file| file.is_some())
    }

    /// Whether a certificate says who we are, so that an API key need not.
    pub(super) fn identifies_us(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// How to speak TLS; an error when the files cannot be used.
    pub(super) fn connector(&self) -> Result<Connector, Failure> {
        let identity = match (&self.tls_cert, &self.tls_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            (Some(_), None) | (None, Some(_)) => {
                return Err(Failure::usage(
                    "--tls-cert and --tls-key belong together; give both",
                ));
            }
        };
        if let Some((_, key)) = identity {
            warn_of_readers(key);
        }
        let ca = self.tls_ca.as_deref();
        let what = "certificates of the server's CA";
        let config = server::client_config(ca, what, identity, SystemClock.now(), server::any_file);
        let mut config = config.map_err(Failure::failed)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Connector::new(config))
    }

    /// Whoever names these files believes that the connection is protected.
    pub(super) fn refuse_plain_text(&self) -> Result<(), Failure> {
        match self.files_given() {
            true => Err(Failure::usage(
                "--tls-ca, --tls-cert and --tls-key are for https:// addresses; write --addr https://host:port",
            )),
            false => Ok(()),
        }
    }
}

fn warn_of_readers(key: &Path) {
    let file = fs::File::open(key);
    if let Ok(Some(exposure)) = file.and_then(|file| file_access::exposure_of_secret(key, &file)) {
        print_hint(&exposure.to_string());
    }
}

const WANTS_CERTIFICATE: &str =
    "it asks for a client certificate; give one with --tls-cert and --tls-key";
const REFUSED_CERTIFICATE: &str =
    "it refused our client certificate; see the server's log, and `client_sans` there";

/// What TLS says about a failed connection, and what to do about it. `None`: TLS has no part in it.
pub(super) fn cause(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        let wrapped = error.downcast_ref::<io::Error>().and_then(of_io);
        if let Some(tls) = wrapped.or_else(|| error.downcast_ref()) {
            return Some(explain(tls));
        }
        next = error.source();
    }
    None
}

/// The same from the words that HTTP/2 makes of an alert when it comes after the handshake, as TLS 1.3 allows.
pub(super) fn cause_in_words(message: &str) -> Option<String> {
    let (_, alert) = message.split_once("received fatal alert: ")?;
    let refused = [
        "CertificateUnknown",
        "BadCertificate",
        "UnknownCA",
        "DecryptError",
        "CertificateExpired",
        "AccessDenied",
    ];
    if alert.starts_with("CertificateRequired") || alert.starts_with("HandshakeFailure") {
        Some(WANTS_CERTIFICATE.to_owned())
    } else {
        refused
            .iter()
            .any(|name| alert.starts_with(name))
            .then(|| REFUSED_CERTIFICATE.to_owned())
    }
}

/// An I/O error skips what it wraps when asked for its source.
fn of_io(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn explain(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let text = match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not of a CA that is known here; name the CA's file with --tls-ca"
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name; write the address as the certificate has it",
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired; replace it on the server"
        }
        InvalidMessage(_) => "it does not speak TLS; try http:// instead of https://",
        AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => WANTS_CERTIFICATE,
        AlertReceived(
            AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied,
        ) => REFUSED_CERTIFICATE,
        other => return format!("TLS failed: {other}"),
    };
    text.to_owned()
}
