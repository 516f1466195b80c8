//! What a review of a pod costs the injector, from the bytes of the body to the bytes of the answer, without TLS.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench fails by panicking, and prints what it has measured"
)]

use std::fs;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use http::{Request, header};
use http_body_util::BodyExt as _;
use keystile::config::Injector;
use keystile::injector::http::{PATH, Webhook};
use tokio::runtime::Builder;
use tower::ServiceExt as _;

const ROUNDS: usize = 500;

fn main() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/kubernetes/admission/reviews"
    );
    let files = fs::read_dir(folder).unwrap();
    let reviews: Vec<Bytes> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap().into())
        .collect();
    let router = Webhook::new(&Injector::default()).router();
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS * reviews.len());
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            for review in &reviews {
                let request = Request::post(PATH)
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Body::from(review.clone()))
                    .unwrap();
                let started = Instant::now();
                let answer = router.clone().oneshot(request).await.unwrap();
                assert!(answer.status().is_success());
                answer.into_body().collect().await.unwrap();
                times.push(started.elapsed());
            }
        }
    });
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    println!(
        "{} reviews: p50 {:?}, p99 {:?}, p99.9 {:?}, slowest {:?}",
        times.len(),
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}
