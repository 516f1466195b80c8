//! Rotation by schedule, and the holder of the old token who claims the new one.

use std::sync::Arc;
use std::time::Duration;

use keystile::admin::caller::{Credential, Identity};
use keystile::domain::name::PlanName;
use keystile::domain::plan::{Plan, Rotation};
use keystile::proto::admin as pb;
use keystile::registry::Proven;
use keystile::store::redb::EmbeddedStore;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::server::AdminServer;
use super::{ROOT, check_refused, create, create_key, server};

const ID: &str = "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6";
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Tenants on the plan `rotated` are due at once; `acme` is.
async fn with_plan(server: AdminServer) -> AdminServer {
    let schedule = Rotation {
        every: Duration::ZERO,
        grace: HOUR,
    };
    let plan = Plan {
        rotation: Some(schedule),
        ..Plan::default()
    };
    let plans = [
        (PlanName::parse("rotated").unwrap(), plan),
        (PlanName::parse("still").unwrap(), Plan::default()),
    ];
    server.registry.set_plans(plans.into());
    on_plan(&server, "acme", "rotated").await;
    server
}

async fn on_plan(server: &AdminServer, tenant: &str, plan: &str) {
    let request = pb::CreateTenantRequest {
        tenant: Some(pb::Tenant {
            plan: plan.into(),
            ..pb::Tenant::default()
        }),
        ..create(tenant)
    };
    server.tenants(ROOT).create_tenant(request).await.unwrap();
}

async fn look(server: &AdminServer) {
    let stop = CancellationToken::new();
    server.registry.rotate_due("one", &stop).await.unwrap();
}

/// A key whose token the server knows callers by.
async fn made(server: &AdminServer, request: pb::CreateKeyRequest) -> (pb::Key, String) {
    let answer = server.keys(ROOT).create_key(request).await.unwrap();
    let answer = answer.into_inner();
    recognise(server, &answer.plaintext).await;
    (answer.key.unwrap(), answer.plaintext)
}

async fn recognise(server: &AdminServer, token: &str) {
    let Proven {
        key, generation, ..
    } = server.registry.prove(token).await.unwrap().unwrap();
    let identity = Identity {
        role: key.role,
        credential: Credential::Key {
            tenant: key.tenant,
            key: key.id,
            generation,
            owner: key.owner,
        },
    };
    server.recognise(token, Ok(identity));
}

async fn shown(server: &AdminServer, key: &pb::Key) -> pb::Key {
    let name = key.name.clone();
    let get = server.keys(ROOT).get_key(pb::GetKeyRequest { name }).await;
    get.unwrap().into_inner()
}

async fn works(server: &AdminServer, token: &str) -> bool {
    let request = pb::VerifyKeyRequest {
        token: token.into(),
        ..pb::VerifyKeyRequest::default()
    };
    let answer = server.keys(ROOT).verify_key(request).await.unwrap();
    answer.into_inner().valid
}

fn claim(request_id: &str) -> pb::ClaimKeyRequest {
    pb::ClaimKeyRequest {
        request_id: request_id.into(),
    }
}

fn counts(server: &AdminServer) -> [u64; 4] {
    server.registry.rotations().counts().map(|(_, count)| count)
}

#[tokio::test]
async fn a_key_is_rotated_when_it_is_due_and_its_holder_claims_the_token_once() {
    let server = with_plan(server().await).await;
    let (key, old) = made(&server, create_key("acme", "ci")).await;
    assert!(!key.unclaimed);
    look(&server).await;
    let rotated = shown(&server, &key).await;
    assert_eq!((rotated.generation, rotated.unclaimed), (2, true));
    assert_eq!(rotated.retiring.as_ref().unwrap().generation, 1);
    // Not again while the old one works.
    look(&server).await;
    assert_eq!(shown(&server, &key).await, rotated);
    assert_eq!(counts(&server), [1, 0, 0, 0]);

    let mut holder = server.keys(&old);
    let claimed = holder.claim_key(claim(ID)).await.unwrap().into_inner();
    let again = holder.claim_key(claim(ID)).await.unwrap().into_inner();
    assert_eq!(
        again.plaintext, claimed.plaintext,
        "an answer that was lost"
    );
    assert!(works(&server, &claimed.plaintext).await && works(&server, &old).await);
    assert!(!shown(&server, &key).await.unclaimed);
    let refused = holder.claim_key(claim("")).await;
    check_refused(refused, Code::FailedPrecondition, "ALREADY_CLAIMED");
    assert_eq!(counts(&server), [1, 1, 0, 0]);

    recognise(&server, &claimed.plaintext).await;
    let refused = server.keys(&claimed.plaintext).claim_key(claim("")).await;
    check_refused(refused, Code::FailedPrecondition, "NOTHING_TO_CLAIM");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_claims_one_is_answered() {
    let server = with_plan(server().await).await;
    let (_, old) = made(&server, create_key("acme", "ci")).await;
    look(&server).await;
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let mut holder = server.keys(&old);
            tokio::spawn(async move { holder.claim_key(claim("")).await })
        })
        .collect();
    let mut given = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => given += 1,
            Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
        }
    }
    assert_eq!(given, 1);
}

#[tokio::test]
async fn what_an_operator_has_rotated_is_not_claimed() {
    let server = with_plan(server().await).await;
    let (key, old) = made(&server, create_key("acme", "ci")).await;
    let rotate = pb::RotateKeyRequest {
        name: key.name.clone(),
        grace: Some(prost_types::Duration {
            seconds: 3600,
            nanos: 0,
        }),
        ..pb::RotateKeyRequest::default()
    };
    server.keys(ROOT).rotate_key(rotate).await.unwrap();
    let refused = server.keys(&old).claim_key(claim("")).await;
    check_refused(refused, Code::FailedPrecondition, "NOTHING_TO_CLAIM");
}

#[tokio::test]
async fn a_schedule_leaves_alone_what_it_must_not_touch() {
    let server = with_plan(server().await).await;
    on_plan(&server, "still", "still").await;
    on_plan(&server, "suspended", "rotated").await;
    server
        .tenants(ROOT)
        .create_tenant(create("bare"))
        .await
        .unwrap();
    let mut bound = create_key("acme", "bound");
    bound.key.as_mut().unwrap().allow_cidrs = vec!["10.0.0.0/8".into()];
    let mut admin = create_key("acme", "admin");
    admin.key.as_mut().unwrap().role = pb::Role::GlobalAdmin.into();
    let mut left = Vec::new();
    for request in [
        create_key("still", "ci"),
        create_key("suspended", "ci"),
        create_key("bare", "ci"),
        bound,
        admin,
    ] {
        left.push(made(&server, request).await.0);
    }
    let suspend = pb::SuspendTenantRequest {
        name: "tenants/suspended".into(),
        ..Default::default()
    };
    server.tenants(ROOT).suspend_tenant(suspend).await.unwrap();
    let (due, _) = made(&server, create_key("acme", "ci")).await;
    look(&server).await;
    assert_eq!(shown(&server, &due).await.generation, 2);
    for key in left {
        assert_eq!(shown(&server, &key).await.generation, 1, "{key:?}");
    }
    assert_eq!(counts(&server), [1, 0, 0, 0]);
}

#[tokio::test]
async fn where_tokens_are_not_kept_nothing_is_rotated_that_nobody_could_claim() {
    let store = Arc::new(EmbeddedStore::in_memory().unwrap());
    let server = AdminServer::over(store, false).await;
    let server = with_plan(server.with_tenant("platform").await).await;
    let (key, _) = made(&server, create_key("acme", "ci")).await;
    look(&server).await;
    assert_eq!(shown(&server, &key).await.generation, 1);
    assert_eq!(counts(&server), [0, 0, 1, 0]);
}
