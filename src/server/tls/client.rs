//! Lets in the clients that the configuration names, during the handshake, so that they are told.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError};

use crate::domain::san::{San, SanPattern, listed};
use crate::server::tls::certificate;

/// A client whose certificate is good and names nobody whom we serve.
#[derive(Debug, thiserror::Error)]
#[error("the client is {}, and allowed are {}", listed(sans), listed(allowed))]
pub(super) struct NotAllowed {
    sans: Vec<San>,
    allowed: Vec<SanPattern>,
}

/// Checks what `inner` checks, and then the name.
#[derive(Debug)]
pub(super) struct AllowList {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) allowed: Vec<SanPattern>,
}

impl ClientCertVerifier for AllowList {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        let sans = certificate::sans(end_entity);
        if self.allowed.is_empty() || SanPattern::any_match(&self.allowed, &sans) {
            return Ok(verified);
        }
        let refused = NotAllowed {
            sans,
            allowed: self.allowed.clone(),
        };
        let refused = CertificateError::Other(OtherError(Arc::new(refused)));
        Err(Error::InvalidCertificate(refused))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
