//! What is true of every call: refusals of the protocol's own code, deadlines, reflection.

use std::sync::Arc;

use axum::body::Body;
use keystile::abuse::{self, Blocks};
use keystile::admin;
use keystile::admin::MESSAGE_BYTES_MAX;
use keystile::admin::caller::{AuthFuture, Authenticate};
use keystile::clock::SystemClock;
use keystile::domain::block::Presenter;
use keystile::proto::FILE_DESCRIPTOR_SET;
use keystile::store::Store;
use keystile::store::redb::EmbeddedStore;
use prost_reflect::DescriptorPool;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::{ROOT, check_refused, server};
use crate::harness::PATIENCE;

/// The path of every method of the schema, and whether its message has any fields.
fn methods() -> Vec<(String, bool)> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let methods = pool.services().flat_map(|service| {
        let name = service.full_name().to_owned();
        let methods: Vec<_> = service.methods().collect();
        methods.into_iter().map(move |method| {
            let path = format!("/{name}/{}", method.name());
            (path, method.input().fields().len() > 0)
        })
    });
    methods.collect()
}

#[tokio::test]
async fn bytes_that_are_no_message_are_malformed_whatever_the_method() {
    let server = server().await;
    // A field that says it is longer than the message; a wrong wire type; text that is no UTF-8; no tag at all.
    let bodies: [&[u8]; 4] = [
        &[0x0a, 0x7f, 1],
        &[0x0f],
        &[0x0a, 2, 0xff, 0xfe],
        &[0xff; 16],
    ];
    for (method, has_fields) in methods() {
        for body in bodies {
            // Where there is no field, any text is one that is not known.
            if !has_fields && body.get(1) == Some(&2) {
                continue;
            }
            let answer = server.raw(ROOT, &method, body.to_vec()).await;
            let answer = answer.map(|bytes| format!("{method} took {body:?}: {bytes:?}"));
            check_refused(answer, Code::InvalidArgument, "MALFORMED_REQUEST");
        }
    }
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_refused_whatever_the_method() {
    let server = server().await;
    for (method, _) in methods() {
        let answer = server.raw(ROOT, &method, vec![0; MESSAGE_BYTES_MAX + 1]);
        check_refused(answer.await, Code::OutOfRange, "MESSAGE_TOO_LARGE");
    }
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented_and_says_so() {
    let server = server().await;
    for method in [
        "/keystile.admin.v1.KeyService/Steal",
        "/keystile.admin.v1.NoService/Get",
        "/no/such",
    ] {
        let answer = server.raw(ROOT, method, Vec::new()).await;
        check_refused(answer, Code::Unimplemented, "UNIMPLEMENTED");
    }
}

/// Never finds out who calls.
struct Undecided;

impl Authenticate for Undecided {
    fn authenticate<'a>(&'a self, _: &'a [u8], _: Presenter) -> AuthFuture<'a> {
        Box::pin(std::future::pending())
    }
}

fn nobody_is_blocked() -> Arc<Blocks> {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory().unwrap());
    Blocks::new(abuse::Settings::default(), Arc::<dyn Store>::clone(&store))
}

/// Asks a server that never answers, with a `grpc-timeout`.
async fn ask_with_timeout(timeout: &str) -> Status {
    let registry = server().await.registry.clone();
    let routes = admin::routes(
        registry,
        Arc::new(Undecided),
        nobody_is_blocked(),
        Arc::new(SystemClock),
        &[7; 32],
    );
    let request = http::Request::post("/keystile.admin.v1.TenantService/GetTenant")
        .header("content-type", "application/grpc")
        .header("x-api-key", "somebody")
        .header("grpc-timeout", timeout)
        .body(Body::from(vec![0; 5]))
        .unwrap();
    let answer = admin::router(routes).oneshot(request);
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    let answer = answer.expect("the deadline ends the call").unwrap();
    Status::from_header_map(answer.headers()).unwrap()
}

#[tokio::test]
async fn a_call_ends_at_its_callers_deadline() {
    for timeout in ["1m", "0S", "20000u"] {
        let refused: Result<(), _> = Err(ask_with_timeout(timeout).await);
        check_refused(refused, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
    for timeout in ["soon", "-1S", "123456789S"] {
        let refused: Result<(), _> = Err(ask_with_timeout(timeout).await);
        check_refused(refused, Code::InvalidArgument, "MALFORMED_REQUEST");
    }
}

#[tokio::test]
async fn reflection_describes_every_service_to_anybody() {
    let server = server().await;
    for version in ["v1", "v1alpha"] {
        let method = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let ask = async |field: u8, value: &str| {
            let mut message = vec![field << 3 | 2, u8::try_from(value.len()).unwrap()];
            message.extend_from_slice(value.as_bytes());
            let answer = server.raw("nobody", &method, message).await.unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        };
        let services = ask(7, "*").await;
        for service in [
            "keystile.admin.v1.TenantService",
            "keystile.admin.v1.KeyService",
            "keystile.admin.v1.FleetService",
            "keystile.admin.v1.BlockService",
            "grpc.health.v1.Health",
        ] {
            assert!(services.contains(service), "{service}: {services}");
        }
        let file = ask(4, "keystile.admin.v1.KeyService").await;
        assert!(file.contains("RevokeAllKeys"), "{file}");
    }
}
