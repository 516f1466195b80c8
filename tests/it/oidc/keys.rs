//! Where the issuer's keys come from: a file, or a real server with TLS; how they change, and what happens when they
//! cannot be had.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{SigningKey, claims, key_set, list, place};
use crate::harness::ca::Ca;
use crate::harness::wait_for;
use crate::support::program::{Place, Running};

/// A server that answers everybody with the same bytes.
struct Publisher {
    port: u16,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Publisher {
    async fn start(ca: &Ca, answer: Vec<u8>) -> Self {
        let pair = ca.server();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pair.chain(), pair.private_key())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (to_send, count) = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                count.fetch_add(1, Ordering::SeqCst);
                let bytes = to_send.lock().clone();
                let mut request = [0; 4096];
                // A client may go away: the next one is served all the same.
                if stream.read(&mut request).await.is_ok() {
                    stream.write_all(&bytes).await.ok();
                    stream.shutdown().await.ok();
                }
            }
        });
        Self {
            port,
            answer,
            asked,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn publish(&self, answer: Vec<u8>) {
        *self.answer.lock() = answer;
    }

    fn jwks(&self) -> String {
        format!(
            "url: \"https://127.0.0.1:{}/jwks\", ca_file: issuer.crt",
            self.port
        )
    }
}

fn start(publisher: &Publisher, ca: &Ca) -> (Place, Running) {
    let place = place(&publisher.jwks());
    fs::write(place.path("issuer.crt"), &ca.pem).unwrap();
    let running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    (place, running)
}

fn admin_of(key: &SigningKey) -> String {
    key.token(&claims("carol", "admin", "acme"))
}

fn refused() -> (u16, String) {
    (401, "INVALID_JWT".to_owned())
}

fn failed_reads(place: &Place) -> u64 {
    let (_, metrics) = place.ops("/metrics").unwrap();
    let line = "keystile_jwks_reads_total{outcome=\"failed\"} ";
    let found = metrics.lines().find_map(|found| found.strip_prefix(line));
    found.unwrap_or("0").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_fetched_when_a_token_names_it_and_no_stranger_has_that_done_again_and_again()
{
    let ca = Ca::new("issuer CA");
    let (old, new) = (SigningKey::p256("old"), SigningKey::ed25519("new"));
    let publisher = Publisher::start(&ca, ok(&key_set([&old]))).await;
    let (place, _running) = start(&publisher, &ca);
    assert_eq!(list(&place, &admin_of(&old)).0, 200);
    assert_eq!(publisher.asked(), 1, "once, at the start");

    publisher.publish(ok(&key_set([&new])));
    assert_eq!(list(&place, &admin_of(&new)).0, 200, "at once");
    assert_eq!(
        list(&place, &admin_of(&old)),
        refused(),
        "a key that is gone is gone"
    );
    for stranger in ["x", "y", "z"] {
        let stranger = SigningKey::p256(stranger);
        assert_eq!(list(&place, &admin_of(&stranger)), refused());
    }
    assert_eq!(
        publisher.asked(),
        2,
        "not for every name that somebody makes up"
    );
    assert_eq!(list(&place, &admin_of(&new)).0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_answers_badly_changes_nothing() {
    let ca = Ca::new("issuer CA");
    let (key, evil) = (SigningKey::p256("good"), SigningKey::p256("good"));
    let publisher = Publisher::start(&ca, ok(&key_set([&key]))).await;
    let elsewhere = Publisher::start(&ca, ok(&key_set([&evil]))).await;
    let (place, running) = start(&publisher, &ca);
    let token = admin_of(&key);
    assert_eq!(list(&place, &token).0, 200);
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:{}/jwks\r\ncontent-length: 0\r\n\r\n",
        elsewhere.port
    );
    let huge = ok(&format!(
        "{{\"keys\":[],\"x\":\"{}\"}}",
        "x".repeat(300_000)
    ));
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b' '; 1 << 20]].concat();
    let cut = ok(&key_set([&key]));
    for (answer, why) in [
        (redirect.into_bytes(), "redirects are not followed"),
        (
            b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "answered 500",
        ),
        (ok("<html>"), "is not a key set"),
        (ok("{\"keys\":[]}"), "has no key that can be used"),
        (
            ok("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"),
            "has no key that can be used",
        ),
        (huge, "larger than 262144 bytes"),
        (endless, "larger than 262144 bytes"),
        (cut[..cut.len() - 20].to_vec(), "cut off"),
        (b"SSH-2.0-x\r\n".to_vec(), "cannot speak HTTP"),
        (Vec::new(), "cannot speak HTTP"),
    ] {
        let before = failed_reads(&place);
        publisher.publish(answer);
        running.signal("HUP");
        wait_for(why, || (failed_reads(&place) > before).then_some(()));
        // A line is written by a thread of its own, after what it tells of.
        wait_for(why, || running.log().contains(why).then_some(()));
        assert_eq!(list(&place, &token).0, 200, "{why}");
    }
    assert_eq!(elsewhere.asked(), 0);
    assert!(!running.log().contains(&token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_is_away_at_the_start_holds_up_nobody_with_a_key() {
    let (ca, other) = (Ca::new("issuer CA"), Ca::new("another CA"));
    let key = SigningKey::rsa("rsa");
    // It has a certificate that nobody here trusts.
    let publisher = Publisher::start(&other, ok(&key_set([&key]))).await;
    let (place, running) = start(&publisher, &ca);
    let unavailable = (503, "AUTHORIZATION_UNAVAILABLE".to_owned());
    assert_eq!(list(&place, &admin_of(&key)), unavailable);
    assert_eq!(list(&place, &place.admin_token).0, 200);
    assert_eq!(publisher.asked(), 0);
    fs::write(place.path("issuer.crt"), &other.pem).unwrap();
    running.signal("HUP");
    wait_for("the keys", || {
        (list(&place, &admin_of(&key)).0 == 200).then_some(())
    });
}

#[test]
fn a_file_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
    let (old, new) = (SigningKey::p384("old"), SigningKey::rsa("new"));
    let place = place("file: jwks.json");
    let write = |text: &str| {
        fs::write(place.path("jwks.json.new"), text).unwrap();
        fs::rename(place.path("jwks.json.new"), place.path("jwks.json")).unwrap();
    };
    let missing = place.serve_refused();
    assert_eq!(missing.code, 1, "{}", missing.stderr);
    assert!(
        missing.stderr.contains("there is no file"),
        "{}",
        missing.stderr
    );
    write("{}");
    let checked = place.run(&["config", "check", "-c", "keystile.yaml"]);
    assert_ne!(checked.code, 0);
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(
        said.contains("admin.oidc.jwks.file: what is at jwks.json is not a key set"),
        "{said}"
    );

    write(&key_set([&old]));
    assert_eq!(
        place.run(&["config", "check", "-c", "keystile.yaml"]).code,
        0
    );
    // ES384 is not among the algorithms of the default.
    let running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    assert_eq!(list(&place, &admin_of(&old)), refused());
    write(&key_set([&old, &new]));
    wait_for("the new key", || {
        (list(&place, &admin_of(&new)).0 == 200).then_some(())
    });
    let before = failed_reads(&place);
    write("{\"keys\":[]}");
    wait_for("the bad file", || {
        (failed_reads(&place) > before).then_some(())
    });
    fs::remove_file(place.path("jwks.json")).unwrap();
    wait_for("no file", || {
        (failed_reads(&place) > before + 1).then_some(())
    });
    assert_eq!(list(&place, &admin_of(&new)).0, 200);
    assert!(
        running
            .log()
            .contains("rejected the new issuer's key set, keeping the current one")
    );
}
