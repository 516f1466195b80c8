//! TLS as clients, operators and a real Envoy meet it.

mod admin;
mod cli;
mod clients;
mod envoy;
mod files;
mod replaced;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::harness::ca::{Ca, Pair};
use crate::harness::{PATIENCE, wait_for};
use crate::support::program::{Place, Running};

/// The client that the configurations here let in.
const ENVOY: &str = "spiffe://mesh/ns/web/sa/envoy";

/// Lines of a listener's section, in flow style, that ask for clients of the CA.
const MUTUAL: &str = "tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: ca.crt, client_sans: [\"uri:spiffe://mesh/ns/*/sa/envoy\", \"dns:admin.mesh\"]}";

/// A place whose listener has TLS, and the CA behind its certificate.
struct Secured {
    place: Place,
    ca: Ca,
}

impl Secured {
    /// `lines` go into the section of `authz` or `admin`.
    fn new(place: Place, section: &str, lines: &str) -> Self {
        let ca = Ca::new("keystile test CA");
        match section {
            "authz" => place.edit_config("  workers: 2", &format!("  workers: 2\n  {lines}")),
            _ => {
                let port = place.admin;
                let plain = format!("admin: {{listen: [\"127.0.0.1:{port}\"]}}");
                let secured = format!("admin: {{listen: [\"127.0.0.1:{port}\"], {lines}}}");
                place.edit_config(&plain, &secured);
            }
        }
        let secured = Self { place, ca };
        secured.put(&secured.ca.server());
        secured.write("ca.crt", &secured.ca.pem, 0o644);
        secured
    }

    /// Replaces the served pair as a careful program does, each file whole or not at all.
    fn put(&self, pair: &Pair) {
        self.write("tls.crt", &pair.cert, 0o644);
        self.write("tls.key", &pair.key, 0o600);
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let (path, beside) = (
            self.place.path(name),
            self.place.path(&format!("{name}.new")),
        );
        fs::write(&beside, text).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(beside, path).unwrap();
    }

    /// A channel that trusts our CA and shows `pair`.
    async fn channel(
        &self,
        port: u16,
        pair: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca.pem));
        if let Some(pair) = pair {
            tls = tls.identity(Identity::from_pem(&pair.cert, &pair.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await
    }

    /// The pair in files of the place, for programs.
    fn store(&self, name: &str, pair: &Pair) -> (PathBuf, PathBuf) {
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        self.write(&cert, &pair.cert, 0o644);
        self.write(&key, &pair.key, 0o600);
        (self.place.path(&cert), self.place.path(&key))
    }

    /// The value of one line of the metrics.
    fn metric(&self, line: &str) -> Option<f64> {
        let (_, text) = self.place.ops("/metrics")?;
        let value = text.lines().find_map(|found| found.strip_prefix(line))?;
        value.trim().parse().ok()
    }
}

/// What a handshake of one version shows, and lets do.
async fn handshake(
    secured: &Secured,
    port: u16,
    pair: Option<&Pair>,
    version: &'static rustls::SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(secured.ca.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match pair {
        Some(pair) => builder
            .with_client_auth_cert(pair.chain(), pair.private_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(PATIENCE, connecting).await.expect("no hang")
}

/// The certificate that a new connection gets.
async fn served(secured: &Secured, port: u16, pair: Option<&Pair>) -> CertificateDer<'static> {
    let stream = handshake(secured, port, pair, &TLS13).await.unwrap();
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Waits until the program has said something.
fn said(running: &Running, words: &str) -> String {
    wait_for(words, || {
        let log = running.log();
        log.lines()
            .find(|line| line.contains(words))
            .map(str::to_owned)
    })
}
