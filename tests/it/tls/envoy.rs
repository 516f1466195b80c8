//! A real Envoy that talks mutual TLS to the authz listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{ENVOY, MUTUAL, Secured, said};
use crate::harness::envoy::{Endpoint, Envoy, Listener, TlsFiles, route};
use crate::harness::upstream::Upstream;
use crate::harness::{http1, wait_for};
use crate::support::program::Place;

fn listener(name: &'static str) -> Listener {
    Listener {
        name,
        authz: name,
        filter: Value::Null,
        manager: Value::Null,
    }
}

fn endpoint(secured: &Secured, name: &str, uri: &str) -> Endpoint {
    let (cert, key) = secured.store(name, &secured.ca.client(uri));
    let ca = secured.place.path("ca.crt");
    Endpoint::Tls(secured.place.authz, TlsFiles { ca, cert, key })
}

fn status(port: u16, headers: &str) -> u16 {
    let request = format!("GET / HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n{headers}\r\n");
    http1::send(port, request.as_bytes(), false).unwrap().status
}

#[test]
fn an_envoy_on_the_list_is_answered_through_every_replacement_and_another_fails_closed() {
    let secured = Secured::new(Place::bootstrapped(), "authz", MUTUAL);
    let running = secured.place.serve();
    let upstream = Upstream::start();
    let clusters = [
        ("good", endpoint(&secured, "good", ENVOY)),
        (
            "evil",
            endpoint(&secured, "evil", "spiffe://mesh/ns/web/sa/evil"),
        ),
        ("upstream", Endpoint::Port(upstream.port)),
    ];
    let envoy = Envoy::start(
        &[listener("good"), listener("evil")],
        &clusters,
        &json!([route("/", &json!({}))]),
    );
    let (good, evil) = (envoy.port("good"), envoy.port("evil"));
    let key = format!("x-api-key: {}\r\n", secured.place.admin_token);
    assert_eq!((status(good, &key), status(good, "")), (200, 401));
    // Envoy's own answer when it cannot ask.
    assert_eq!((status(evil, &key), status(evil, "")), (403, 403));
    said(&running, "uri:spiffe://mesh/ns/web/sa/evil");

    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let asking = {
        let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(status(good, &key), 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let done = "keystile_tls_handshakes_total{listener=\"authz\",outcome=\"done\"}";
    let reloads = "keystile_tls_reloads_total{outcome=\"ok\"}";
    for round in 1..=3 {
        secured.put(&secured.ca.server());
        running.signal("HUP");
        wait_for("a reload", || {
            (secured.metric(reloads)? >= f64::from(round)).then_some(())
        });
        let (handshakes, requests) = (secured.metric(done).unwrap(), asked.load(Ordering::Relaxed));
        wait_for("handshakes with the new certificate", || {
            assert!(!asking.is_finished(), "a request failed");
            let more = secured.metric(done)? >= handshakes + 3.0;
            (more && asked.load(Ordering::Relaxed) >= requests + 9).then_some(())
        });
    }
    stop.store(true, Ordering::Relaxed);
    asking.join().expect("no request failed");
}
