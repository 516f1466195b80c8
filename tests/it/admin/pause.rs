//! Keys that do not work for a while: who may pause and resume them, and what stays as it was.

use std::time::Duration;

use keystile::proto::admin as pb;
use tonic::Code;

use super::server::AdminServer;
use super::{ROOT, bad_fields, check_refused, create_key, server};
use crate::harness::wait_until;

fn pause(key: &pb::Key) -> pb::PauseKeyRequest {
    pb::PauseKeyRequest {
        name: key.name.clone(),
        ..Default::default()
    }
}

fn resume(key: &pb::Key) -> pb::ResumeKeyRequest {
    pb::ResumeKeyRequest {
        name: key.name.clone(),
        ..Default::default()
    }
}

/// A key of that owner, and its token.
async fn made(server: &AdminServer, owner: &str) -> (pb::Key, String) {
    let mut request = create_key("platform", "ci");
    request.key.as_mut().unwrap().owner = owner.into();
    let answer = server.keys(ROOT).create_key(request).await.unwrap();
    let answer = answer.into_inner();
    (answer.key.unwrap(), answer.plaintext)
}

async fn shown(server: &AdminServer, key: &pb::Key) -> pb::Key {
    let name = key.name.clone();
    let found = server.keys(ROOT).get_key(pb::GetKeyRequest { name }).await;
    found.unwrap().into_inner()
}

/// What a Check would say of a token.
async fn verdict(server: &AdminServer, token: &str) -> String {
    let request = pb::VerifyKeyRequest {
        token: token.into(),
        ..Default::default()
    };
    let answer = server.keys(ROOT).verify_key(request).await.unwrap();
    answer.into_inner().reason
}

#[tokio::test]
async fn a_paused_key_is_refused_and_shown_as_such_until_it_is_resumed() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let (key, token) = made(&server, "alice").await;
    let request = pb::PauseKeyRequest {
        reason: "unpaid".into(),
        ..pause(&key)
    };
    let paused = keys.pause_key(request).await.unwrap().into_inner();
    assert_eq!(paused.state(), pb::KeyState::Paused);
    assert!(paused.pause_time.is_some() && paused.pause_end_time.is_none());
    assert_eq!(paused.pause_reason, "unpaid");
    assert_eq!(verdict(&server, &token).await, "api_key_paused");
    let list = pb::ListKeysRequest {
        parent: "tenants/platform".into(),
        filter: "state = PAUSED".into(),
        ..Default::default()
    };
    let listed = keys.list_keys(list).await.unwrap().into_inner().keys;
    assert_eq!(listed, std::slice::from_ref(&paused));

    // All else of it goes on: it is changed, and gets another token, and stays paused.
    let rotate = pb::RotateKeyRequest {
        name: key.name.clone(),
        ..Default::default()
    };
    let rotated = keys.rotate_key(rotate).await.unwrap().into_inner();
    assert_eq!(verdict(&server, &rotated.plaintext).await, "api_key_paused");

    let resumed = keys.resume_key(resume(&key)).await.unwrap().into_inner();
    assert_eq!(resumed.state(), pb::KeyState::Active);
    assert_eq!(
        (resumed.pause_time, resumed.pause_reason),
        (None, String::new())
    );
    assert_eq!(verdict(&server, &rotated.plaintext).await, "");
    let again = keys.resume_key(resume(&key)).await.unwrap().into_inner();
    assert_eq!(again.etag, resumed.etag, "nothing was changed");
    let notes = server.notes("key.paused").await;
    assert_eq!(notes, ["unpaid; until it is resumed"]);
    assert_eq!(server.notes("key.resumed").await.len(), 1);
}

#[tokio::test]
async fn a_pause_ends_by_itself_at_its_end() {
    let server = server().await;
    let (key, token) = made(&server, "alice").await;
    let request = pb::PauseKeyRequest {
        ttl: prost_types::Duration::try_from(Duration::from_millis(50)).ok(),
        ..pause(&key)
    };
    let paused = server.keys(ROOT).pause_key(request).await.unwrap();
    assert!(paused.into_inner().pause_end_time.is_some());
    wait_until("the end of the pause", async || {
        let found = verdict(&server, &token).await;
        found.is_empty().then_some(()).ok_or(found)
    })
    .await;
    let after = shown(&server, &key).await;
    assert_eq!(
        (after.state(), after.pause_time),
        (pb::KeyState::Active, None)
    );
}

#[tokio::test]
async fn neither_pause_nor_resume_brings_a_revoked_key_back() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let (key, token) = made(&server, "alice").await;
    keys.pause_key(pause(&key)).await.unwrap();
    let revoke = pb::RevokeKeyRequest {
        name: key.name.clone(),
        reason: "leaked".into(),
        ..Default::default()
    };
    keys.revoke_key(revoke).await.unwrap();
    let refused = keys.resume_key(resume(&key)).await;
    check_refused(refused, Code::FailedPrecondition, "KEY_REVOKED");
    let refused = keys.pause_key(pause(&key)).await;
    check_refused(refused, Code::FailedPrecondition, "KEY_REVOKED");
    let after = shown(&server, &key).await;
    assert_eq!(after.state(), pb::KeyState::Revoked);
    assert_eq!(
        (after.revoke_reason.as_str(), after.pause_time),
        ("leaked", None)
    );
    assert_eq!(verdict(&server, &token).await, "invalid_api_key");
}

#[tokio::test]
async fn what_an_admin_has_paused_its_owner_does_not_resume_nor_shorten() {
    let server = server().await;
    let own = server.own_key("platform-user").await;
    let mut user = server.keys("platform-user");
    let mut admin = server.keys("platform-tenant_admin");
    let (key, _) = made(&server, &own.owner).await;
    // Its own pause it ends itself.
    user.pause_key(pause(&key)).await.unwrap();
    user.resume_key(resume(&key)).await.unwrap();

    admin.pause_key(pause(&key)).await.unwrap();
    let short = pb::PauseKeyRequest {
        ttl: prost_types::Duration::try_from(Duration::from_millis(1)).ok(),
        ..pause(&key)
    };
    let refused = user.pause_key(short).await;
    check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    let refused = user.resume_key(resume(&key)).await;
    check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(shown(&server, &key).await.state(), pb::KeyState::Paused);
    admin.resume_key(resume(&key)).await.unwrap();
    assert_eq!(shown(&server, &key).await.state(), pb::KeyState::Active);
}

#[tokio::test]
async fn a_paused_key_opens_nothing_here_and_a_bad_pause_names_its_field() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let own = server.own_key("platform-user").await;
    let past = prost_types::Timestamp {
        seconds: 1,
        nanos: 0,
    };
    let zero = prost_types::Duration::default();
    for (end_time, ttl, reason, field) in [
        (Some(past), None, "", "end_time"),
        (None, Some(zero), "", "ttl"),
        (Some(past), Some(zero), "", "ttl"),
        (None, None, "a\nb", "reason"),
    ] {
        let request = pb::PauseKeyRequest {
            end_time,
            ttl,
            reason: reason.into(),
            ..pause(&own)
        };
        let refused = keys.pause_key(request).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), [field]);
    }
    let stale = pb::PauseKeyRequest {
        etag: "ff-1".into(),
        ..pause(&own)
    };
    check_refused(keys.pause_key(stale).await, Code::Aborted, "ETAG_MISMATCH");

    keys.pause_key(pause(&own)).await.unwrap();
    let name = own.name.clone();
    let refused = server
        .keys("platform-user")
        .get_key(pb::GetKeyRequest { name })
        .await;
    check_refused(refused, Code::PermissionDenied, "API_KEY_PAUSED");
}
