//! Batches and imports: each request has its own result.

use keystile::domain::governance::{KeyRules, PerRole};
use keystile::proto::admin as pb;
use keystile::proto::admin::ImportVerdict as Verdict;
use keystile::proto::admin::batch_create_keys_result::Result as Created;
use keystile::proto::admin::import_key_result::Result as Imported;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::server::AdminServer;
use super::{ROOT, bad_fields, check_refused, create, create_key, server};
use crate::support::generous_rules;

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

fn import_as(tenant: &str, owner: &str, token: &str) -> pb::ImportKeysRequest {
    let mut batch = import(tenant, token);
    batch.requests[0].key.as_mut().unwrap().owner = owner.into();
    batch
}

/// What became of the one row of a batch.
async fn row(
    server: &AdminServer,
    caller: &str,
    batch: pb::ImportKeysRequest,
) -> (Verdict, Result<pb::Key, Status>) {
    let answer = server.keys(caller).import_keys(batch).await.unwrap();
    let result = answer.into_inner().results.remove(0);
    let verdict = result.verdict();
    match result.result.unwrap() {
        Imported::Key(key) => (verdict, Ok(key)),
        Imported::Error(error) => (verdict, Err(as_status(&error))),
    }
}

/// `acme` with a key of alice's in each state, by the token of each.
async fn known_tokens(server: &AdminServer) -> Vec<(&'static str, String)> {
    let mut keys = server.keys(ROOT);
    let mut tokens = Vec::new();
    for state in [
        "active", "paused", "revoked", "expired", "rotated", "pruned",
    ] {
        let token = format!("legacy-token-{state}-0123456789");
        let mut batch = import_as("acme", "alice", &token);
        let expiring = batch.requests[0].key.as_mut().unwrap();
        expiring.ttl = (state == "expired").then_some(prost_types::Duration {
            seconds: 0,
            nanos: 1_000_000,
        });
        let (_, key) = row(server, ROOT, batch).await;
        let name = key.unwrap().name;
        match state {
            "paused" => {
                let pause = pb::PauseKeyRequest {
                    name,
                    ..Default::default()
                };
                keys.pause_key(pause).await.map(drop).unwrap();
            }
            "revoked" => {
                let revoke = pb::RevokeKeyRequest {
                    name,
                    ..Default::default()
                };
                keys.revoke_key(revoke).await.map(drop).unwrap();
            }
            "rotated" | "pruned" => {
                let times = if state == "pruned" { 10 } else { 1 };
                for _ in 0..times {
                    let rotate = pb::RotateKeyRequest {
                        name: name.clone(),
                        ..Default::default()
                    };
                    keys.rotate_key(rotate).await.map(drop).unwrap();
                }
            }
            _ => {}
        }
        tokens.push((state, token));
    }
    tokens
}

#[tokio::test]
async fn an_import_says_of_each_token_that_is_known_whether_it_works() {
    let server = server().await.with_tenant("acme").await;
    for (state, token) in known_tokens(&server).await {
        let (verdict, reason) = match state {
            "active" => (Verdict::SameKeyActive, "KEY_ALREADY_EXISTS"),
            "paused" => (Verdict::Paused, "TOKEN_PAUSED"),
            "revoked" | "pruned" => (Verdict::Revoked, "TOKEN_REVOKED"),
            _ => (Verdict::Expired, "TOKEN_EXPIRED"),
        };
        for caller in [ROOT, "acme-tenant_admin"] {
            let again = row(&server, caller, import_as("acme", "alice", &token)).await;
            assert_eq!(again.0, verdict, "{state} by {caller}: {again:?}");
            let status = check_refused(again.1, Code::AlreadyExists, reason);
            let info = status.get_details_error_info().unwrap();
            assert!(info.metadata["name"].starts_with("tenants/acme/keys/"));
            assert!(!status.message().contains(&token));
        }
        let of_bob = row(&server, ROOT, import_as("acme", "bob", &token)).await;
        let in_use = match state {
            "active" | "paused" => Verdict::InUse,
            _ => verdict,
        };
        assert_eq!(of_bob.0, in_use, "{state}");
        // Who sees every tenant hears that it is elsewhere.
        let elsewhere = row(&server, ROOT, import_as("platform", "alice", &token)).await;
        assert_eq!(elsewhere.0, Verdict::InUse, "{state}");
        check_refused(elsewhere.1, Code::AlreadyExists, "TOKEN_IN_USE");
    }
}

#[tokio::test]
async fn a_tenant_admin_hears_of_another_tenants_token_what_it_hears_of_a_malformed_one() {
    let server = server().await.with_tenant("acme").await;
    let other = server.with_tenant("other").await;
    let malformed = row(&other, "other-tenant_admin", import("other", "no token")).await;
    assert_eq!(malformed.0, Verdict::Refused);
    let malformed = malformed.1.unwrap_err();
    let tokens = known_tokens(&other).await;
    for (state, token) in &tokens {
        let (verdict, refused) = row(&other, "other-tenant_admin", import("other", token)).await;
        let refused = refused.unwrap_err();
        assert_eq!(verdict, Verdict::Refused, "{state}");
        assert_eq!(
            (refused.code(), refused.message(), refused.details()),
            (malformed.code(), malformed.message(), malformed.details()),
            "{state}"
        );
    }
    // Nor can it ask without the risk of taking the token over: at its limit, every token is one too many.
    let rules = KeyRules {
        defaults: PerRole {
            user: 1,
            tenant_admin: 1,
            global_admin: 1,
        },
        ..generous_rules()
    };
    other.registry.set_key_rules(rules);
    let ask = async |token: &str| {
        let batch = import_as("other", "user-owner", token);
        let (verdict, refused) = row(&other, "other-tenant_admin", batch).await;
        (verdict, refused.unwrap_err().message().to_owned())
    };
    let unknown = ask("nobody-has-this-token-0123456789").await;
    assert!(
        unknown.1.starts_with("API key limit exceeded"),
        "{unknown:?}"
    );
    for (state, token) in &tokens {
        assert_eq!(ask(token).await, unknown, "{state}");
    }
}

#[tokio::test]
async fn a_token_is_imported_once_and_works_like_one_of_ours() {
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
    for (tenant, token, reason) in [
        ("platform", token, "TOKEN_IN_USE"),
        ("acme", token, "KEY_ALREADY_EXISTS"),
        ("platform", &ours.plaintext, "TOKEN_IN_USE"),
    ] {
        check_refused(take(tenant, token).await, Code::AlreadyExists, reason);
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

/// Of each row of an answer, whether it was done; what was not was too many.
fn fits<T>(results: Vec<Result<T, Status>>) -> Vec<bool> {
    let fits = results.into_iter().map(|result| match result {
        Ok(_) => true,
        Err(status) => {
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.reason, "API_KEY_LIMIT_EXCEEDED", "{status:?}");
            false
        }
    });
    fits.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_an_owner_reaches_its_limit_the_later_rows_of_a_batch_are_too_many() {
    const ROWS: usize = 60;
    let server = server().await.with_tenant("acme").await;
    let rules = KeyRules {
        defaults: PerRole {
            user: 20,
            tenant_admin: 25,
            global_admin: 25,
        },
        ..generous_rules()
    };
    server.registry.set_key_rules(rules);
    let mut keys = server.keys(ROOT);
    for round in 0..4 {
        // Those of two owners stand between each other; both have two keys already.
        let owner = |at: usize| format!("{}-{round}", ["alice", "bob"][at % 2]);
        let mut requests = Vec::new();
        for at in 0..4 {
            let mut row = create_key("acme", "before");
            row.key.as_mut().unwrap().owner = owner(at);
            requests.push(row);
        }
        let parent = "tenants/acme".to_owned();
        let batch = pb::BatchCreateKeysRequest { parent, requests };
        keys.batch_create_keys(batch).await.unwrap();

        let created = round % 2 == 0;
        let results: Vec<Result<(), Status>> = if created {
            let rows = (0..ROWS).map(|at| {
                let mut row = create_key("acme", "row");
                row.key.as_mut().unwrap().owner = owner(at);
                row
            });
            let parent = "tenants/acme".to_owned();
            let requests = rows.collect();
            let batch = pb::BatchCreateKeysRequest { parent, requests };
            let done = keys.batch_create_keys(batch).await.unwrap().into_inner();
            let results = done.results.into_iter();
            let results = results.map(|row| match row.result.unwrap() {
                Created::Created(_) => Ok(()),
                Created::Error(error) => Err(as_status(&error)),
            });
            results.collect()
        } else {
            let mut batch = import_as("acme", "-", "");
            batch.requests = (0..ROWS)
                .map(|at| {
                    let token = format!("batch-token-{round}-{at:04}-0123456789");
                    import_as("acme", &owner(at), &token).requests.remove(0)
                })
                .collect();
            let done = keys.import_keys(batch).await.unwrap().into_inner();
            let results = done.results.into_iter();
            let results = results.map(|row| match row.result.unwrap() {
                Imported::Key(_) => Ok(()),
                Imported::Error(error) => Err(as_status(&error)),
            });
            results.collect()
        };
        let expected: Vec<bool> = (0..ROWS).map(|at| at / 2 < 18).collect();
        assert_eq!(fits(results), expected, "round {round}");
    }
}

#[tokio::test]
async fn a_row_that_is_refused_for_another_reason_leaves_its_place_to_a_later_one() {
    let server = server().await.with_tenant("acme").await;
    let rules = KeyRules {
        defaults: PerRole {
            user: 3,
            tenant_admin: 3,
            global_admin: 3,
        },
        ..generous_rules()
    };
    server.registry.set_key_rules(rules);
    let mut requests = vec![create_key("acme", "row"); 6];
    requests[1].key.as_mut().unwrap().display_name = "\u{202e}".to_owned();
    let parent = "tenants/acme".to_owned();
    let batch = pb::BatchCreateKeysRequest { parent, requests };
    let done = server.keys(ROOT).batch_create_keys(batch).await.unwrap();
    let results = done.into_inner().results.into_iter();
    let made = results.map(|row| matches!(row.result, Some(Created::Created(_))));
    let made: Vec<bool> = made.collect();
    assert_eq!(made, [true, false, true, true, false, false]);
}
