//! A certificate authority that signs whatever a test needs.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) struct Ca {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_slice_iter(self.cert.as_bytes());
        all.map(Result::unwrap).collect()
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

fn loopback() -> SanType {
    SanType::IpAddress("127.0.0.1".parse().unwrap())
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self {
            pem: cert.pem(),
            der: cert.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A new certificate for 127.0.0.1.
    pub(crate) fn server(&self) -> Pair {
        self.server_between((2020, 2120))
    }

    /// The same, valid from the first of January to the first of January.
    pub(crate) fn server_between(&self, (from, until): (i32, i32)) -> Pair {
        self.issue(loopback(), |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        })
    }

    /// The same, from some time ago and for a few days more.
    pub(crate) fn server_for_days(&self, days: u64) -> Pair {
        let until = SystemTime::now() + Duration::from_secs(days * 24 * 60 * 60);
        self.issue(loopback(), |params| params.not_after = until.into())
    }

    /// A new certificate for this URI.
    pub(crate) fn client(&self, uri: &str) -> Pair {
        self.issue(SanType::URI(uri.try_into().unwrap()), |_| {})
    }

    pub(crate) fn dns_client(&self, name: &str) -> Pair {
        self.issue(SanType::DnsName(name.try_into().unwrap()), |_| {})
    }

    fn issue(&self, san: SanType, more: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![san];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2120, 1, 1);
        more(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}
