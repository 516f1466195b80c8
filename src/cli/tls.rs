//! Talking TLS to a control plane: whom to trust, and the certificate that says who we are.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

use crate::cli::Failure;

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

impl TlsArgs {
    /// Whether a certificate says who we are, so that an API key need not.
    pub(super) fn identifies_us(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// How to reach `uri`.
    pub(super) fn endpoint(&self, uri: &str) -> Result<Endpoint, Failure> {
        let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(Failure::failed)?;
        if uri.starts_with("unix:") {
            return Ok(endpoint);
        }
        if !uri.starts_with("https:") {
            return self.refuse_plain_text().map(|()| endpoint);
        }
        let config = self.client_config()?;
        let secured = endpoint.tls_config(config);
        secured
            .context("cannot use the files of --tls-ca, --tls-cert and --tls-key")
            .map_err(Failure::Failed)
    }

    /// Whoever names these files believes that the connection is protected.
    fn refuse_plain_text(&self) -> Result<(), Failure> {
        let given = [&self.tls_ca, &self.tls_cert, &self.tls_key];
        match given.iter().any(|file| file.is_some()) {
            true => Err(Failure::usage(
                "--tls-ca, --tls-cert and --tls-key are for https:// addresses; write --addr https://host:port",
            )),
            false => Ok(()),
        }
    }

    fn client_config(&self) -> Result<ClientTlsConfig, Failure> {
        let config = match &self.tls_ca {
            Some(path) => ClientTlsConfig::new().ca_certificate(ca(path)?),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(config),
            (Some(cert), Some(key)) => {
                let (cert, key) = (read(cert)?, read(key)?);
                Ok(config.identity(Identity::from_pem(&*cert, &*key)))
            }
            (Some(_), None) | (None, Some(_)) => Err(Failure::usage(
                "--tls-cert and --tls-key belong together; give both",
            )),
        }
    }
}

fn ca(path: &Path) -> Result<Certificate, Failure> {
    let pem = read(path)?;
    let readable = CertificateDer::pem_slice_iter(&pem).filter(Result::is_ok);
    if readable.count() == 0 {
        return Err(Failure::failed(anyhow!(
            "{} holds no certificate: it must be PEM text with a `BEGIN CERTIFICATE` line",
            path.display()
        )));
    }
    Ok(Certificate::from_pem(&*pem))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    fs::read(path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(Failure::Failed)
}

/// What TLS says about a failed connection, and what to do about it. `None`: TLS has no part in it.
pub(super) fn cause(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error skips what it wraps when asked for its source.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(|io| io.get_ref())
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = wrapped.or_else(|| error.downcast_ref()) {
            return Some(explain(tls));
        }
        next = error.source();
    }
    None
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
        ) => "it asks for a client certificate; give one with --tls-cert and --tls-key",
        AlertReceived(
            AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied,
        ) => "it refused our client certificate; see the server's log, and `client_sans` there",
        other => return format!("TLS failed: {other}"),
    };
    text.to_owned()
}
