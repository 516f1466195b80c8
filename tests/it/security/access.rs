//! Who takes a key of a service, or a token that was replaced, to the admin port: over REST and gRPC, with the real
//! binary, whatever role the key has.

use std::time::Duration;

use keystile::proto::admin as pb;
use serde_json::json;
use tonic::Code;

use super::{keys, make, new_key, root, tenant};
use crate::rest::{CONFIG, KEYS, LIMITS, VALIDATE, ask, check_refused};

/// A key of every role with that access, and its token.
async fn with_access(id: &str, access: pb::AdminAccess) -> Vec<(pb::Key, String)> {
    tenant(id, pb::Tenant::default()).await;
    let mut made = Vec::new();
    for role in [pb::Role::User, pb::Role::TenantAdmin, pb::Role::GlobalAdmin] {
        let key = pb::Key {
            display_name: "svc".into(),
            owner: role.as_str_name().into(),
            role: role.into(),
            admin_access: access.into(),
            ..pb::Key::default()
        };
        let answer = keys(root()).create_key(new_key(id, key)).await.unwrap();
        let answer = answer.into_inner();
        made.push((answer.key.unwrap(), answer.plaintext));
    }
    made
}

/// Every endpoint that is not about one key; all of them are for roles.
fn check_closed(token: &str) {
    let new = json!({"name": "mine"});
    let limits = json!({"maxKeysPerUser": 9});
    let body = json!({ "token": token });
    for (method, path, body) in [
        ("GET", KEYS, None),
        ("POST", KEYS, Some(&new)),
        ("GET", LIMITS, None),
        ("PUT", LIMITS, Some(&limits)),
        ("GET", CONFIG, None),
        // As a caller; a token by itself is looked at for anybody.
        ("POST", VALIDATE, Some(&body)),
    ] {
        check_refused(ask(method, path, token, body), 403, "PERMISSION_DENIED");
    }
}

#[tokio::test]
async fn the_key_of_a_service_opens_no_endpoint_whatever_its_role() {
    for (key, token) in with_access("access-none", pb::AdminAccess::None).await {
        check_closed(&token);
        let own = format!("{KEYS}/{}", key.key_id);
        check_refused(ask("DELETE", &own, &token, None), 403, "PERMISSION_DENIED");
        let mut keys = keys(&token);
        let name = key.name;
        let read = keys.get_key(pb::GetKeyRequest { name }).await.unwrap_err();
        assert_eq!(read.code(), Code::PermissionDenied);
        let claim = keys.claim_key(pb::ClaimKeyRequest::default()).await;
        assert_eq!(claim.unwrap_err().code(), Code::PermissionDenied);
        // It is a key for all that: whoever asks what a token is hears it.
        let valid = ask("POST", VALIDATE, "", Some(&json!({ "token": token })));
        assert_eq!(valid.0.status, 200, "{}", valid.1);
        // And whoever finds it can end it.
        let revoked = keys.revoke_self(pb::RevokeSelfRequest::default()).await;
        let revoked = revoked.unwrap().into_inner();
        assert_eq!(revoked.state(), pb::KeyState::Revoked);
        let again = keys.revoke_self(pb::RevokeSelfRequest::default()).await;
        assert_eq!(again.unwrap_err().code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_key_that_acts_on_itself_revokes_itself_over_rest_and_no_other() {
    let made = with_access("access-self", pb::AdminAccess::Self_).await;
    let (other, _) = make("access-self", "ROLE_USER", pb::Role::User).await;
    for (key, token) in made {
        check_closed(&token);
        let other = format!("{KEYS}/{}", other.key_id);
        check_refused(
            ask("DELETE", &other, &token, None),
            403,
            "PERMISSION_DENIED",
        );
        let own = format!("{KEYS}/{}", key.key_id);
        assert_eq!(ask("DELETE", &own, &token, None).0.status, 200);
        check_refused(ask("DELETE", &own, &token, None), 401, "INVALID_API_KEY");
    }
}

/// The attack: a token that leaked before a rotation, in its grace window.
#[tokio::test]
async fn a_token_that_was_replaced_does_not_take_the_key_over() {
    for (key, old) in with_access("access-old", pb::AdminAccess::Role).await {
        let rotate = pb::RotateKeyRequest {
            name: key.name.clone(),
            grace: prost_types::Duration::try_from(Duration::from_secs(3600)).ok(),
            ..Default::default()
        };
        let rotated = keys(root()).rotate_key(rotate.clone()).await.unwrap();
        let new = rotated.into_inner().plaintext;
        check_closed(&old);
        let refused = keys(&old).rotate_key(rotate).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let name = key.name.clone();
        let shown = keys(&old).get_key(pb::GetKeyRequest { name }).await;
        assert_eq!(shown.unwrap().into_inner().generation, 2);
        // The rightful token works, and the old one can still end the key.
        let name = key.name.clone();
        keys(&new)
            .get_key(pb::GetKeyRequest { name })
            .await
            .unwrap();
        let itself = pb::RevokeSelfRequest::default;
        let revoked = keys(&old).revoke_self(itself()).await.unwrap();
        assert_eq!(revoked.into_inner().name, key.name);
        let refused = keys(&new).revoke_self(itself()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}
