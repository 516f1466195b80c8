//! Who gets in, and what those who do not are told.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use rustls::version::{TLS12, TLS13};

use super::{ENVOY, MUTUAL, Secured, handshake, said};
use crate::harness::ca::{Ca, Pair};
use crate::harness::{PATIENCE, wait_for};
use crate::support::client;
use crate::support::program::Place;

/// Whether a client with this certificate gets an answer.
async fn gets_in(secured: &Secured, pair: Option<&Pair>) -> bool {
    let port = secured.place.authz;
    // In TLS 1.3 a client hears of its refusal when it first reads.
    match handshake(secured, port, pair, &TLS13).await {
        Ok(mut stream) => {
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .ok();
            let mut first = [0; 1];
            let read = timeout(PATIENCE, stream.read_exact(&mut first)).await;
            read.expect("no hang").is_ok()
        }
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_clients_on_the_list_get_in() {
    let secured = Secured::new(Place::bootstrapped(), "authz", MUTUAL);
    let running = secured.place.serve();
    let (ca, stranger) = (&secured.ca, Ca::new("somebody else's CA"));
    let both = [ca.client(ENVOY), ca.dns_client("admin.mesh")];
    for pair in &both {
        assert!(gets_in(&secured, Some(pair)).await);
    }
    for (what, pair) in [
        ("no certificate", None),
        ("another CA's", Some(stranger.client(ENVOY))),
        (
            "another name",
            Some(ca.client("spiffe://mesh/ns/web/sa/evil")),
        ),
        (
            "a name beneath",
            Some(ca.client("spiffe://mesh/ns/web/sa/envoy/x")),
        ),
        ("no name that counts", Some(ca.server())),
        ("a wildcard", Some(ca.dns_client("*.mesh"))),
    ] {
        assert!(!gets_in(&secured, pair.as_ref()).await, "{what}");
    }
    // Two gRPC answers over one of them, and the Unix socket beside it still speaks plainly.
    let channel = secured
        .channel(secured.place.authz, Some(&both[0]))
        .await
        .unwrap();
    let key = ("x-api-key", secured.place.admin_token.as_str());
    assert_eq!(client::ask(&channel, &[key]).await, 200);
    assert_eq!(client::ask(&channel, &[]).await, 401);
    let unix = client::unix(&secured.place.path("authz.sock")).await;
    assert_eq!(client::ask(&unix, &[key]).await, 200);

    let line = said(&running, "uri:spiffe://mesh/ns/web/sa/evil");
    for words in [
        "a client was refused",
        "uri:spiffe://mesh/ns/*/sa/envoy",
        "dns:admin.mesh",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    for (outcome, expected) in [
        ("done", 3.0),
        ("not_allowed", 4.0),
        ("bad_certificate", 2.0),
    ] {
        let line =
            format!("keystile_tls_handshakes_total{{listener=\"authz\",outcome=\"{outcome}\"}}");
        wait_for(&line, || {
            (secured.metric(&line) == Some(expected)).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_an_older_version_is_refused_if_so_configured() {
    let newest = MUTUAL.replace("}", ", min_version: \"1.3\"}");
    for (lines, old_is_served) in [(MUTUAL, true), (newest.as_str(), false)] {
        let secured = Secured::new(Place::with_keyrings(), "authz", lines);
        let _running = secured.place.serve();
        let (pair, port) = (secured.ca.client(ENVOY), secured.place.authz);
        let old = handshake(&secured, port, Some(&pair), &TLS12).await;
        assert_eq!(old.is_ok(), old_is_served, "{lines}: {:?}", old.err());
        assert!(handshake(&secured, port, Some(&pair), &TLS13).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_on_a_tls_port_is_turned_away_at_once() {
    for section in ["authz", "admin"] {
        let secured = Secured::new(Place::with_keyrings(), section, MUTUAL);
        let _running = secured.place.serve();
        let port = match section {
            "authz" => secured.place.authz,
            _ => secured.place.admin,
        };
        for hello in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(hello.as_bytes()).await.unwrap();
            let mut heard = Vec::new();
            let end = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
            assert!(end.is_ok(), "{section}: a hang");
            assert!(!heard.starts_with(b"HTTP"), "{section}: {heard:?}");
        }
        // The handshake's own timeout was not waited for.
        let ended = |how: &str| {
            let labels = format!("{{listener=\"{section}\",outcome=\"{how}\"}}");
            let line = format!("keystile_tls_handshakes_total{labels}");
            secured.metric(&line).expect("it is counted")
        };
        assert_eq!(
            [ended("failed"), ended("timed_out")],
            [2.0, 0.0],
            "{section}"
        );
    }
}
