//! The token of a key again.

use std::sync::Arc;

use keystile::proto::admin as pb;
use keystile::store::redb::EmbeddedStore;
use tonic::Code;

use super::server::AdminServer;
use super::{ROOT, check_refused, create_key, server};

fn reveal(key: &pb::Key) -> pb::RevealKeyRequest {
    pb::RevealKeyRequest {
        name: key.name.clone(),
    }
}

async fn made(server: &AdminServer) -> (pb::Key, String) {
    let request = create_key("platform", "ci");
    let answer = server.keys(ROOT).create_key(request).await.unwrap();
    let answer = answer.into_inner();
    (answer.key.unwrap(), answer.plaintext)
}

#[tokio::test]
async fn a_token_is_shown_again_and_the_audit_says_so() {
    let server = server().await;
    let (key, token) = made(&server).await;
    let mut keys = server.keys("platform-tenant_admin");
    let answer = keys.reveal_key(reveal(&key)).await.unwrap().into_inner();
    assert_eq!(answer.plaintext, token);
    assert_eq!(answer.key.as_ref(), Some(&key), "nothing of it changes");
    assert_eq!(server.notes("key.revealed").await, ["generation 1"]);

    let rotate = pb::RotateKeyRequest {
        name: key.name.clone(),
        ..pb::RotateKeyRequest::default()
    };
    let rotated = keys.rotate_key(rotate).await.unwrap().into_inner();
    let answer = keys.reveal_key(reveal(&key)).await.unwrap().into_inner();
    assert_eq!(answer.plaintext, rotated.plaintext, "the present one");
    let notes = server.notes("key.revealed").await;
    assert_eq!(notes, ["generation 1", "generation 2"]);
}

#[tokio::test]
async fn an_imported_token_is_shown_again_and_that_of_a_revoked_key_is_not() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let token = "a-token-of-another-system";
    let import = pb::ImportKeysRequest {
        parent: "tenants/platform".into(),
        requests: vec![pb::ImportKeyRequest {
            key: create_key("platform", "legacy").key,
            token: token.into(),
            ..pb::ImportKeyRequest::default()
        }],
    };
    let answer = keys.import_keys(import).await.unwrap().into_inner();
    let Some(pb::import_key_result::Result::Key(key)) = &answer.results[0].result else {
        panic!("{answer:?}")
    };
    let answer = keys.reveal_key(reveal(key)).await.unwrap().into_inner();
    assert_eq!(answer.plaintext, token);

    let revoke = pb::RevokeKeyRequest {
        name: key.name.clone(),
        ..pb::RevokeKeyRequest::default()
    };
    keys.revoke_key(revoke).await.unwrap();
    let refused = keys.reveal_key(reveal(key)).await;
    check_refused(refused, Code::FailedPrecondition, "KEY_REVOKED");
    assert_eq!(server.notes("key.revealed").await.len(), 1);
}

#[tokio::test]
async fn where_tokens_are_not_kept_the_refusal_says_why() {
    let store = Arc::new(EmbeddedStore::in_memory().unwrap());
    let server = AdminServer::over(store, false).await;
    let server = server.with_tenant("platform").await;
    let (key, _) = made(&server).await;
    let refused = server.keys(ROOT).reveal_key(reveal(&key)).await;
    let status = check_refused(refused, Code::FailedPrecondition, "TOKEN_NOT_KEPT");
    let words = "it has no vault keyring";
    assert!(status.message().contains(words), "{}", status.message());
    assert!(server.notes("key.revealed").await.is_empty());
}

#[tokio::test]
async fn a_user_sees_no_token_again_not_even_its_own() {
    let server = server().await;
    let own = server.own_key("platform-user").await;
    let refused = server.keys("platform-user").reveal_key(reveal(&own)).await;
    check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
}
