//! Certificates that are replaced while they are served.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{ENVOY, MUTUAL, Secured, TLS13, handshake, said, served};
use crate::harness::PATIENCE;
use crate::harness::ca::{Ca, Pair};
use crate::support::client;
use crate::support::program::Place;

/// Waits until new connections get `pair`.
async fn until_served(secured: &Secured, pair: &Pair, client: &Pair) {
    let wanted = pair.chain()[0].clone();
    let wait = async {
        while served(secured, secured.place.authz, Some(client)).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the new certificate is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_certificates_are_replaced() {
    let secured = Secured::new(Place::bootstrapped(), "authz", MUTUAL);
    let running = secured.place.serve();
    let client = secured.ca.client(ENVOY);
    let port = secured.place.authz;
    let (stop, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let old = secured.channel(port, Some(&client)).await.unwrap();
    let asking = {
        let (stop, asked, channel) = (Arc::clone(&stop), Arc::clone(&asked), old.clone());
        let token = secured.place.admin_token.clone();
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client::ask(&channel, &[("x-api-key", &token)]).await, 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    // By rename, noticed by looking.
    let second = secured.ca.server();
    secured.put(&second);
    until_served(&secured, &second, &client).await;
    // The way of Kubernetes: the names are links, and the link beneath them is swapped; told by SIGHUP.
    let third = secured.ca.server();
    let volume = secured.place.path("..data");
    fs::create_dir(&volume).unwrap();
    secured.write("..data/tls.crt", &third.cert, 0o644);
    secured.write("..data/tls.key", &third.key, 0o600);
    for name in ["tls.crt", "tls.key"] {
        fs::remove_file(secured.place.path(name)).unwrap();
        symlink(volume.join(name), secured.place.path(name)).unwrap();
    }
    running.signal("HUP");
    until_served(&secured, &third, &client).await;
    let before = asked.load(Ordering::Relaxed);
    assert_eq!(
        client::ask(&old, &[]).await,
        401,
        "the old connection goes on"
    );
    stop.store(true, Ordering::Relaxed);
    asking.await.expect("no request failed");
    assert!(before > 0);
    let expiry = secured.metric("keystile_tls_certificate_expiry_seconds{listener=\"authz\"}");
    // The first of January 2120.
    assert_eq!(expiry, Some(4_733_510_400.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_served_leave_the_old_certificate_in_place() {
    let secured = Secured::new(Place::with_keyrings(), "authz", MUTUAL);
    let running = secured.place.serve();
    let (client, port) = (secured.ca.client(ENVOY), secured.place.authz);
    let first = served(&secured, port, Some(&client)).await;
    secured.write("tls.crt", "half a fi", 0o644);
    let line = said(
        &running,
        "rejected the new certificates, keeping the current one",
    );
    assert!(line.contains("tls.crt holds no certificate"), "{line}");
    assert_eq!(served(&secured, port, Some(&client)).await, first);
    assert_eq!(
        secured.metric("keystile_tls_reloads_total{outcome=\"failed\"}"),
        Some(1.0)
    );
    let next = secured.ca.server();
    secured.put(&next);
    until_served(&secured, &next, &client).await;
    assert!(secured.metric("keystile_tls_reloads_total{outcome=\"ok\"}") >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_ca_decides_about_new_connections() {
    let secured = Secured::new(Place::bootstrapped(), "authz", MUTUAL);
    let running = secured.place.serve();
    let (next, port) = (Ca::new("the next CA"), secured.place.authz);
    let (old_client, new_client) = (secured.ca.client(ENVOY), next.client(ENVOY));
    let old = secured.channel(port, Some(&old_client)).await.unwrap();
    assert_eq!(client::ask(&old, &[]).await, 401);
    secured.write("ca.crt", &next.pem, 0o644);
    running.signal("HUP");
    said(&running, "certificates reloaded");
    let new = secured.channel(port, Some(&new_client)).await.unwrap();
    assert_eq!(client::ask(&new, &[]).await, 401);
    assert_eq!(
        client::ask(&old, &[]).await,
        401,
        "connections are not dropped"
    );
    // TLS 1.2 tells within the handshake.
    let refused = handshake(&secured, port, Some(&old_client), &rustls::version::TLS12).await;
    assert!(refused.is_err());
    assert!(
        handshake(&secured, port, Some(&new_client), &TLS13)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_soon_is_warned_about() {
    let secured = Secured::new(Place::with_keyrings(), "authz", MUTUAL);
    let soon = secured.ca.server_for_days(3);
    secured.put(&soon);
    let running = secured.place.serve();
    let line = said(&running, "the certificate expires soon");
    assert!(line.contains("authz"), "{line}");
}
