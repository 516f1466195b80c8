//! Batches and imports: each request has its own result.

use keystile::proto::admin as pb;
use keystile::proto::admin::batch_create_keys_result::Result as Created;
use keystile::proto::admin::import_key_result::Result as Imported;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{ROOT, bad_fields, check_refused, create, create_key, server};

fn as_status(error: &tonic_types::Status) -> Status {
    let details = error.encode_to_vec().into();
    Status::with_details(Code::from_i32(error.code), error.message.clone(), details)
}

#[tokio::test]
async fn one_bad_request_of_a_batch_does_not_spoil_the_others() {
    let server = server().await;
    server
        .tenants(ROOT)
        .create_tenant(create("acme"))
        .await
        .unwrap();
    let mut keys = server.keys(ROOT);
    let mut bad = create_key("acme", "bad");
    bad.key.as_mut().unwrap().owner = "no spaces".into();
    let requests = vec![
        create_key("acme", "first"),
        bad,
        create_key("nowhere", "lost"),
        create_key("platform", "last"),
    ];
    let parent = "tenants/-".into();
    let batch = pb::BatchCreateKeysRequest { parent, requests };
    let results = keys
        .batch_create_keys(batch)
        .await
        .unwrap()
        .into_inner()
        .results;
    let made = |at: usize| match results[at].result.as_ref().unwrap() {
        Created::Created(made) => Ok(made.clone()),
        Created::Error(error) => Err(as_status(error)),
    };
    for (at, tenant) in [(0, "acme"), (3, "platform")] {
        let made = made(at).unwrap();
        let key = made.key.unwrap();
        assert_eq!(key.tenant_id, tenant);
        assert!(made.plaintext.starts_with(&key.key_prefix));
    }
    let status = check_refused(made(1), Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["key.owner"]);
    check_refused(made(2), Code::NotFound, "TENANT_NOT_FOUND");
}

#[tokio::test]
async fn a_batch_is_of_one_tenant_or_says_so_and_is_bounded() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let batch = |parent: &str, requests| pb::BatchCreateKeysRequest {
        parent: parent.into(),
        requests,
    };
    let other = batch("tenants/platform", vec![create_key("acme", "ci")]);
    let answer = keys.batch_create_keys(other).await.unwrap().into_inner();
    let Some(Created::Error(error)) = &answer.results[0].result else {
        panic!("{answer:?}")
    };
    assert_eq!(bad_fields(&as_status(error)), ["parent"]);

    for (parent, requests, field) in [
        ("tenants/platform", Vec::new(), "requests"),
        (
            "tenants/-",
            vec![pb::CreateKeyRequest::default(); 1001],
            "requests",
        ),
        ("tenants/", vec![create_key("platform", "ci")], "parent"),
    ] {
        let refused = keys.batch_create_keys(batch(parent, requests)).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), [field]);
    }
    let mut tenants = server.tenants(ROOT);
    let requests = vec![create("acme"), create("ACME"), create("platform")];
    let batch = pb::BatchCreateTenantsRequest { requests };
    let answer = tenants
        .batch_create_tenants(batch)
        .await
        .unwrap()
        .into_inner();
    let codes: Vec<_> = answer
        .results
        .into_iter()
        .map(|result| match result.result.unwrap() {
            pb::batch_create_tenants_result::Result::Tenant(_) => Code::Ok,
            pb::batch_create_tenants_result::Result::Error(error) => Code::from_i32(error.code),
        })
        .collect();
    assert_eq!(
        codes,
        [Code::Ok, Code::InvalidArgument, Code::AlreadyExists]
    );
}

fn import(tenant: &str, token: &str) -> pb::ImportKeysRequest {
    pb::ImportKeysRequest {
        parent: format!("tenants/{tenant}"),
        requests: vec![pb::ImportKeyRequest {
            key: create_key(tenant, "legacy").key,
            token: token.into(),
            ..pb::ImportKeyRequest::default()
        }],
    }
}

#[tokio::test]
async fn a_token_is_imported_once_and_nobody_learns_whose_it_is() {
    let server = server().await;
    server
        .tenants(ROOT)
        .create_tenant(create("acme"))
        .await
        .unwrap();
    let mut keys = server.keys(ROOT);
    let ours = keys
        .create_key(create_key("acme", "ci"))
        .await
        .unwrap()
        .into_inner();
    let mut take = async |tenant: &str, token: &str| {
        let answer = keys.import_keys(import(tenant, token)).await.unwrap();
        match answer.into_inner().results.remove(0).result.unwrap() {
            Imported::Key(key) => Ok(key),
            Imported::Error(error) => Err(as_status(&error)),
        }
    };
    let token = "Legacy.Token~0123+/==";
    let key = take("acme", token).await.unwrap();
    assert_eq!(
        (key.kind(), key.key_prefix.as_str()),
        (pb::KeyKind::Imported, "Lega")
    );
    for (tenant, token) in [
        ("platform", token),
        ("acme", token),
        ("platform", &ours.plaintext),
    ] {
        let status = check_refused(
            take(tenant, token).await,
            Code::AlreadyExists,
            "KEY_ALREADY_EXISTS",
        );
        assert_eq!(status.message(), "token exists already");
    }
    let mut typo = ours.plaintext.clone();
    typo.pop();
    let long = "x".repeat(513);
    for token in [
        "",
        "too-short",
        "with space in it",
        "käse-käse-käse-käse",
        &typo,
        &long,
    ] {
        let refused = take("acme", token).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["token"], "{token}");
        assert!(token.is_empty() || !status.message().contains(token));
    }
    // An imported token works like one of ours.
    let verify = pb::VerifyKeyRequest {
        token: token.into(),
        ..pb::VerifyKeyRequest::default()
    };
    let found = server
        .keys(ROOT)
        .verify_key(verify)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((found.valid, found.key.unwrap().name), (true, key.name));
}

#[tokio::test]
async fn a_revoked_token_cannot_be_imported_back_to_life() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let token = "legacy-token-0123456789";
    let made = keys.import_keys(import("platform", token)).await.unwrap();
    let Some(Imported::Key(key)) = made.into_inner().results.remove(0).result else {
        panic!("imported")
    };
    let revoke = pb::RevokeKeyRequest {
        name: key.name,
        ..Default::default()
    };
    keys.revoke_key(revoke).await.unwrap();
    let again = keys.import_keys(import("platform", token)).await.unwrap();
    let Some(Imported::Error(error)) = again.into_inner().results.remove(0).result else {
        panic!("refused")
    };
    let status = as_status(&error);
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.get_details_error_info().is_some());
}
