//! What a certificate says: its names and how long it is valid.

use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::clock::Timestamp;
use crate::domain::san::San;

/// Bytes that are no certificate.
#[derive(Debug, thiserror::Error)]
#[error("it is not an X.509 certificate")]
pub struct Unreadable(#[source] x509_cert::der::Error);

/// From when to when it is valid.
pub(super) fn validity(der: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), Unreadable> {
    let certificate = Certificate::from_der(der).map_err(Unreadable)?;
    let validity = certificate.tbs_certificate().validity();
    let time = |time: x509_cert::time::Time| {
        let millis = time.to_unix_duration().as_millis();
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)).min(Timestamp::MAX)
    };
    Ok((time(validity.not_before), time(validity.not_after)))
}

/// Whom it speaks for. Of a certificate that cannot be read: nobody.
pub(super) fn sans(der: &CertificateDer<'_>) -> Vec<San> {
    let Ok(certificate) = Certificate::from_der(der) else {
        return Vec::new();
    };
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else {
        return Vec::new();
    };
    names.iter().filter_map(san).collect()
}

fn san(name: &GeneralName) -> Option<San> {
    match name {
        GeneralName::DnsName(name) => Some(San::Dns(name.to_string())),
        GeneralName::UniformResourceIdentifier(uri) => Some(San::Uri(uri.to_string())),
        GeneralName::OtherName(_)
        | GeneralName::Rfc822Name(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::IpAddress(_)
        | GeneralName::RegisteredId(_) => None,
    }
}
