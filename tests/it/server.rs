//! The running program: its sockets, its health, its end.

mod abuse;
mod connections;
mod drain;
mod guesses;
mod logs;
mod permissions;
mod plain_http;
mod questions;
mod reload;
mod sockets;

use keystile::ext_authz::service::SERVICE_NAME;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::client;
use crate::support::program::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_program_is_healthy_by_every_question() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    let channels = [
        ("authz", client::tcp(place.authz).await),
        (
            "authz socket",
            client::unix(&place.path("authz.sock")).await,
        ),
        ("admin", client::tcp(place.admin).await),
    ];
    for (listener, channel) in channels {
        for service in ["", SERVICE_NAME] {
            let status = health(channel.clone(), service).await;
            assert_eq!(status, Ok(ServingStatus::Serving), "{listener} {service:?}");
        }
        let status = health(channel, "no.such.Service").await;
        assert_eq!(status, Err(Code::NotFound), "{listener}");
    }
    let pages = ["/healthz", "/readyz", "/metrics", "/nothing"];
    let status = pages.map(|page| place.ops(page).unwrap().0);
    assert_eq!(status, [200, 200, 200, 404]);
    let (status, why) = place.ops("/.well-known/jwks.json").unwrap();
    assert_eq!(status, 404);
    assert!(why.contains("has no `keyring.signing`"), "{why}");
}

async fn health(channel: tonic::transport::Channel, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(channel).check(request).await;
    answer
        .map(|answer| answer.into_inner().status())
        .map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_is_counted() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    let channel = client::tcp(place.authz).await;
    let key = ("x-api-key", place.admin_token.as_str());
    assert_eq!(client::ask(&channel, &[key]).await, 200);
    for _ in 0..2 {
        assert_eq!(client::ask(&channel, &[]).await, 401);
    }
    let (_, text) = place.ops("/metrics").unwrap();
    for line in [
        "keystile_decisions_total{outcome=\"allow\",reason=\"allowed\"} 1",
        "keystile_decisions_total{outcome=\"deny\",reason=\"missing_api_key\"} 2",
        "api_key_validation_failures_total{reason=\"missing_api_key\"} 2",
        "api_key_validation_duration_ms_count",
        "keystile_cache_entries 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
