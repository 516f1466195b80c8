//! `request_id`: a retried create is answered like the first, to the same caller only.

use std::sync::Arc;

use keystile::proto::admin as pb;
use keystile::store::redb::EmbeddedStore;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::server::AdminServer;
use super::{ROOT, bad_fields, check_refused, create, create_key, server};

const ID: &str = "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6";

fn create_key_as(id: &str, name: &str) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        request_id: id.into(),
        ..create_key("platform", name)
    }
}

async fn keys_of_alice(server: &AdminServer) -> usize {
    let request = pb::ListKeysRequest {
        parent: "tenants/platform".into(),
        filter: "owner = alice".into(),
        ..Default::default()
    };
    let page = server.keys(ROOT).list_keys(request).await.unwrap();
    page.into_inner().keys.len()
}

#[tokio::test]
async fn a_retried_create_gives_the_same_key_and_token() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let request = create_key_as(ID, "ci");
    let first = keys.create_key(request.clone()).await.unwrap().into_inner();
    let again = keys.create_key(request).await.unwrap().into_inner();
    assert_eq!(
        (&again.key, &again.plaintext),
        (&first.key, &first.plaintext)
    );
    let upper = keys
        .create_key(create_key_as(&ID.to_uppercase(), "ci"))
        .await;
    assert_eq!(upper.unwrap().into_inner().plaintext, first.plaintext);
    // In a batch it is the same request.
    let batch = pb::BatchCreateKeysRequest {
        parent: "tenants/platform".into(),
        requests: vec![pb::CreateKeyRequest {
            parent: String::new(),
            ..create_key_as(ID, "ci")
        }],
    };
    let batch = keys.batch_create_keys(batch).await.unwrap().into_inner();
    let Some(pb::batch_create_keys_result::Result::Created(created)) = &batch.results[0].result
    else {
        panic!("{batch:?}")
    };
    assert_eq!(created.plaintext, first.plaintext);
    assert_eq!(keys_of_alice(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_creates_with_one_id_one_makes_the_key_and_all_get_it() {
    let server = server().await;
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let mut keys = server.keys(ROOT);
            tokio::spawn(async move { keys.create_key(create_key_as(ID, "ci")).await })
        })
        .collect();
    let mut tokens = Vec::new();
    for call in calls {
        tokens.push(call.await.unwrap().unwrap().into_inner().plaintext);
    }
    tokens.dedup();
    assert_eq!((tokens.len(), keys_of_alice(&server).await), (1, 1));
}

#[tokio::test]
async fn another_caller_with_the_same_id_makes_another_key() {
    let server = server().await;
    let first = server.keys(ROOT).create_key(create_key_as(ID, "ci")).await;
    let mut other = server.keys("platform-tenant_admin");
    let second = other.create_key(create_key_as(ID, "ci")).await.unwrap();
    assert_ne!(
        first.unwrap().into_inner().plaintext,
        second.get_ref().plaintext
    );
    assert_eq!(keys_of_alice(&server).await, 2);
}

#[tokio::test]
async fn an_id_is_of_one_content_and_a_uuid() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    keys.create_key(create_key_as(ID, "ci")).await.unwrap();
    let refused = keys.create_key(create_key_as(ID, "other")).await;
    let status = check_refused(refused, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!(bad_fields(&status), ["request_id"]);
    for id in ["1", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"] {
        let refused = keys.create_key(create_key_as(id, "ci")).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["request_id"]);
    }
    assert_eq!(keys_of_alice(&server).await, 1);
}

#[tokio::test]
async fn where_tokens_are_not_kept_a_retry_learns_which_key_was_made() {
    let store = Arc::new(EmbeddedStore::in_memory().unwrap());
    let server = AdminServer::over(store, false)
        .await
        .with_tenant("platform")
        .await;
    let mut keys = server.keys(ROOT);
    let first = keys.create_key(create_key_as(ID, "ci")).await.unwrap();
    let name = first.into_inner().key.unwrap().name;
    let refused = keys.create_key(create_key_as(ID, "ci")).await;
    let status = check_refused(refused, Code::AlreadyExists, "KEY_ALREADY_EXISTS");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata.get("name"), Some(&name));
    assert_eq!(keys_of_alice(&server).await, 1);
}

#[tokio::test]
async fn a_retried_tenant_is_the_same_tenant_until_it_is_deleted() {
    let server = server().await;
    let mut tenants = server.tenants(ROOT);
    let request = pb::CreateTenantRequest {
        request_id: ID.into(),
        ..create("acme")
    };
    let first = tenants
        .create_tenant(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = tenants
        .create_tenant(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, first);
    let without_id = tenants.create_tenant(create("acme")).await;
    check_refused(without_id, Code::AlreadyExists, "TENANT_ALREADY_EXISTS");
    let other = pb::CreateTenantRequest {
        tenant: Some(pb::Tenant {
            plan: "pro".into(),
            ..pb::Tenant::default()
        }),
        ..request.clone()
    };
    let refused = tenants.create_tenant(other).await;
    check_refused(refused, Code::InvalidArgument, "REQUEST_ID_REUSED");

    let (name, etag) = (first.name, first.etag.clone());
    tenants
        .delete_tenant(pb::DeleteTenantRequest { name, etag })
        .await
        .unwrap();
    let made = tenants.create_tenant(request).await.unwrap().into_inner();
    assert_ne!(made.etag, first.etag, "a new tenant");
}

#[tokio::test]
async fn a_retried_import_is_the_same_key() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let request = |id: &str| pb::ImportKeysRequest {
        parent: "tenants/platform".into(),
        requests: vec![pb::ImportKeyRequest {
            key: create_key("platform", "legacy").key,
            token: "legacy-token-0123456789".into(),
            request_id: id.into(),
            ..pb::ImportKeyRequest::default()
        }],
    };
    let first = keys.import_keys(request(ID)).await.unwrap().into_inner();
    assert!(matches!(
        first.results[0].result,
        Some(pb::import_key_result::Result::Key(_))
    ));
    let again = keys.import_keys(request(ID)).await.unwrap().into_inner();
    assert_eq!(again, first);
    let without = keys.import_keys(request("")).await.unwrap().into_inner();
    let Some(pb::import_key_result::Result::Error(error)) = &without.results[0].result else {
        panic!("{without:?}")
    };
    assert_eq!(error.code, i32::from(Code::AlreadyExists));
}
