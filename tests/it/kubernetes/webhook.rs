//! The API server's side of the injector: reviews over TLS, and what comes of them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::process::Process;
use crate::harness::{free_port, http1, keystile, wait_for};

/// What a webhook's configuration says of its server.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) host: String,
    pub(super) path: String,
    /// PEM.
    pub(super) bundle: Vec<u8>,
}

/// A process with the section `injector` alone.
#[derive(Debug)]
pub(super) struct Injector {
    pub(super) known: Known,
    pub(super) process: Process,
    port: u16,
    ops: u16,
    pub(super) folder: TempDir,
}

/// An answer by HTTP.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Injector {
    /// Starts the real binary with `config` (`TLS` stands for the folder of the certificate, `WEBHOOK` and `OPS` for
    /// addresses) and waits until it is ready.
    pub(super) fn start(config: &str, [certificate, key]: [&[u8]; 2], known: Known) -> Self {
        let folder = tempfile::tempdir().unwrap();
        replace(&folder, certificate, key);
        let (port, ops) = (free_port(), free_port());
        let config = config
            .replace("TLS", &folder.path().display().to_string())
            .replace("WEBHOOK", &format!("127.0.0.1:{port}"))
            .replace("OPS", &format!("127.0.0.1:{ops}"));
        fs::write(folder.path().join("keystile.yaml"), config).unwrap();
        let args = ["serve", "-c", "keystile.yaml"];
        let mut process = Process::start("injector", &keystile::binary(), &args, folder.path());
        wait_for("the injector to be ready", || {
            process.assert_running();
            ask(ops, "/readyz").filter(|reply| reply.status == 200)
        });
        Self {
            known,
            process,
            port,
            ops,
            folder,
        }
    }

    pub(super) fn metrics(&self) -> String {
        let reply = ask(self.ops, "/metrics").expect("ops answers");
        String::from_utf8(reply.body).unwrap()
    }

    /// Another certificate in the files' place.
    pub(super) fn replace_certificate(&self, certificate: &[u8], key: &[u8]) {
        replace(&self.folder, certificate, key);
    }

    /// A connection as the API server makes it: by the Service's name, with the bundle as the only root.
    pub(super) fn connect(&self) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&self.known.bundle) {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.known.host.clone()).unwrap();
        let connection = ClientConnection::new(Arc::new(tls), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        Ok(StreamOwned::new(connection, stream))
    }

    /// Sends a body, and reads the answer to its end.
    pub(super) fn post(&self, media_type: &str, body: &[u8]) -> std::io::Result<Answer> {
        let mut stream = self.connect()?;
        let Known { host, path, .. } = &self.known;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {media_type}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len(),
        )?;
        // It may be refused by its length before all of it is sent.
        let _cut_off = stream.write_all(body).and_then(|()| stream.flush());
        let mut answer = Vec::new();
        let _unclosed = stream.read_to_end(&mut answer);
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok(Answer {
            status: status.unwrap_or_else(|| panic!("no status: {text:?}")),
            body: serde_json::from_str(body).unwrap_or_default(),
        })
    }

    /// The response to a review.
    #[track_caller]
    pub(super) fn review(&self, review: &Value) -> Value {
        let answer = self
            .post("application/json", review.to_string().as_bytes())
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer.body["kind"], "AdmissionReview");
        let response = &answer.body["response"];
        assert_eq!(response["uid"], review["request"]["uid"]);
        response.clone()
    }
}

fn replace(folder: &TempDir, certificate: &[u8], key: &[u8]) {
    for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
        // As the kubelet does: another file takes the place.
        let (file, new) = (folder.path().join(name), folder.path().join("new"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, file).unwrap();
    }
}

fn ask(port: u16, path: &str) -> Option<http1::Reply> {
    let ask = format!("GET {path} HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n");
    http1::send(port, ask.as_bytes(), false).ok()
}

/// The patch of a response, if it has one.
pub(super) fn patch(response: &Value) -> Option<json_patch::Patch> {
    let text = response["patch"].as_str()?;
    assert_eq!(response["patchType"], "JSONPatch");
    let text = BASE64.decode(text.as_bytes()).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}

/// A pod after the patch of a response.
#[track_caller]
pub(super) fn patched(pod: &Value, response: &Value) -> Value {
    let patch = patch(response).unwrap_or_else(|| panic!("no patch: {response}"));
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}
