//! Another token for a key, and a longer life.

use std::time::Duration;

use keystile::domain::governance::KeyRules;
use keystile::proto::admin as pb;
use keystile::store::redb::EmbeddedStore;
use prost_types::Timestamp;
use tonic::Code;

use super::server::AdminServer;
use super::{ROOT, bad_fields, check_refused, create, create_key, server};
use crate::harness::wait_until;

const ID: &str = "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6";
const OTHER_ID: &str = "0e3c9c1a-5b5e-4f6e-9a55-1d2b3c4d5e6f";
const HOUR: i64 = 60 * 60;

fn rotate(key: &pb::Key, grace_seconds: i64) -> pb::RotateKeyRequest {
    pb::RotateKeyRequest {
        name: key.name.clone(),
        grace: Some(prost_types::Duration {
            seconds: grace_seconds,
            nanos: 0,
        }),
        ..pb::RotateKeyRequest::default()
    }
}

fn from_now(seconds: i64) -> Timestamp {
    let mut time = Timestamp::from(std::time::SystemTime::now());
    time.seconds += seconds;
    time.nanos = 0;
    time
}

fn renew(key: &pb::Key, end: Timestamp) -> pb::RenewKeyRequest {
    pb::RenewKeyRequest {
        name: key.name.clone(),
        expire_time: Some(end),
        ..pb::RenewKeyRequest::default()
    }
}

async fn made(server: &AdminServer, request: pb::CreateKeyRequest) -> (pb::Key, String) {
    let answer = server.keys(ROOT).create_key(request).await.unwrap();
    let answer = answer.into_inner();
    (answer.key.unwrap(), answer.plaintext)
}

async fn rotated(server: &AdminServer, request: pb::RotateKeyRequest) -> (pb::Key, String) {
    let answer = server.keys(ROOT).rotate_key(request).await.unwrap();
    let answer = answer.into_inner();
    (answer.key.unwrap(), answer.plaintext)
}

/// What a Check would say of the token; empty when it passes.
async fn says(server: &AdminServer, token: &str) -> String {
    let request = pb::VerifyKeyRequest {
        token: token.into(),
        ..pb::VerifyKeyRequest::default()
    };
    let answer = server.keys(ROOT).verify_key(request).await.unwrap();
    answer.into_inner().reason
}

async fn revoke(server: &AdminServer, key: &pb::Key) {
    let request = pb::RevokeKeyRequest {
        name: key.name.clone(),
        ..pb::RevokeKeyRequest::default()
    };
    server.keys(ROOT).revoke_key(request).await.unwrap();
}

#[tokio::test]
async fn a_rotated_key_is_the_same_key_with_another_token() {
    let server = server().await;
    let mut request = create_key("platform", "ci");
    let facts = request.key.as_mut().unwrap();
    facts.scopes = vec!["read".into()];
    facts.rate = "10/s".into();
    facts.quota = "20/day".into();
    facts.expire_time = Some(from_now(90 * 24 * HOUR));
    let (first, old) = made(&server, request).await;
    assert_eq!((first.generation, &first.retiring), (1, &None));

    let (second, new) = rotated(&server, rotate(&first, HOUR)).await;
    assert_ne!(new, old);
    assert!(new.starts_with(&second.key_prefix), "{}", second.key_prefix);
    let retiring = second.retiring.clone().unwrap();
    assert_eq!((second.generation, retiring.generation), (2, 1));
    assert_eq!(retiring.key_prefix, first.key_prefix);
    let left = retiring.retire_time.unwrap().seconds - from_now(0).seconds;
    assert!((HOUR - 60..=HOUR).contains(&left), "{left}");
    let expected = pb::Key {
        generation: 2,
        key_prefix: second.key_prefix.clone(),
        retiring: second.retiring.clone(),
        etag: second.etag.clone(),
        update_time: second.update_time,
        ..first.clone()
    };
    assert_eq!(second, expected, "all else goes on");
    assert_eq!(says(&server, &old).await, "");
    assert_eq!(says(&server, &new).await, "");
    assert_eq!(
        server.notes("key.rotated").await,
        ["grace 1h; generation 1 -> 2"]
    );
}

#[tokio::test]
async fn without_grace_the_old_token_stops_at_once() {
    let server = server().await;
    let (key, old) = made(&server, create_key("platform", "ci")).await;
    let request = pb::RotateKeyRequest {
        grace: None,
        ..rotate(&key, 0)
    };
    let (key, new) = rotated(&server, request).await;
    assert_eq!((key.generation, key.retiring), (2, None));
    assert_eq!(says(&server, &old).await, "api_key_expired");
    assert_eq!(says(&server, &new).await, "");
}

#[tokio::test]
async fn a_second_rotation_in_a_grace_window_ends_the_oldest_token() {
    let server = server().await;
    let (key, first) = made(&server, create_key("platform", "ci")).await;
    let (_, second) = rotated(&server, rotate(&key, HOUR)).await;
    let (key, third) = rotated(&server, rotate(&key, HOUR)).await;
    assert_eq!(key.retiring.unwrap().generation, 2);
    assert_eq!(says(&server, &first).await, "api_key_expired");
    assert_eq!(says(&server, &second).await, "");
    assert_eq!(says(&server, &third).await, "");
}

#[tokio::test]
async fn a_rotation_extends_no_life_and_drops_no_expiry() {
    let server = server().await;
    let mut request = create_key("platform", "ci");
    request.key.as_mut().unwrap().expire_time = Some(from_now(HOUR));
    let (key, _) = made(&server, request).await;
    let (rotated_key, _) = rotated(&server, rotate(&key, 2 * HOUR)).await;
    assert_eq!(rotated_key.expire_time, key.expire_time);
    let retiring = rotated_key.retiring.unwrap();
    assert_eq!(retiring.retire_time, key.expire_time, "not its grace");
}

#[tokio::test]
async fn a_revoked_key_opens_by_none_of_its_tokens_and_is_not_rotated_or_renewed() {
    let server = server().await;
    let (key, first) = made(&server, create_key("platform", "ci")).await;
    let (_, second) = rotated(&server, rotate(&key, HOUR)).await;
    let (_, third) = rotated(&server, rotate(&key, HOUR)).await;
    revoke(&server, &key).await;
    for token in [first, second, third] {
        assert_eq!(says(&server, &token).await, "invalid_api_key");
    }
    let mut keys = server.keys(ROOT);
    let refused = keys.rotate_key(rotate(&key, 0)).await;
    check_refused(refused, Code::FailedPrecondition, "KEY_REVOKED");
    let refused = keys.renew_key(renew(&key, from_now(HOUR))).await;
    check_refused(refused, Code::FailedPrecondition, "KEY_REVOKED");
}

#[tokio::test]
async fn an_expired_key_is_renewed_before_it_is_rotated() {
    let server = server().await;
    let mut request = create_key("platform", "ci");
    let end = std::time::SystemTime::now() + Duration::from_secs(3);
    request.key.as_mut().unwrap().expire_time = Some(end.into());
    let (key, token) = made(&server, request).await;
    let expired = async || !says(&server, &token).await.is_empty();
    wait_until("it expires", expired).await;
    let mut keys = server.keys(ROOT);
    let refused = keys.rotate_key(rotate(&key, 0)).await;
    check_refused(refused, Code::FailedPrecondition, "KEY_EXPIRED");
    let end = from_now(90 * 24 * HOUR);
    let renewed = keys.renew_key(renew(&key, end)).await.unwrap().into_inner();
    assert_eq!(renewed.expire_time, Some(end));
    assert_eq!(renewed.state(), pb::KeyState::Active);
    assert_eq!(says(&server, &token).await, "", "the same token");
    keys.rotate_key(rotate(&key, 0)).await.unwrap();
}

#[tokio::test]
async fn a_renewal_puts_the_end_off_and_never_brings_it_nearer() {
    let server = server().await;
    let mut request = create_key("platform", "ci");
    request.key.as_mut().unwrap().expire_time = Some(from_now(HOUR));
    let (key, _) = made(&server, request).await;
    let (endless, _) = made(&server, create_key("platform", "for ever")).await;
    let mut keys = server.keys(ROOT);
    let none = pb::RenewKeyRequest {
        expire_time: None,
        ..renew(&key, from_now(HOUR))
    };
    let too_late = Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let both = pb::RenewKeyRequest {
        ttl: Some(prost_types::Duration::default()),
        ..renew(&key, from_now(HOUR))
    };
    let invalid = "INVALID_FIELD";
    for (what, request, reason, field) in [
        ("no end", none, invalid, "expire_time"),
        ("two ends", both, invalid, "ttl"),
        (
            "the past",
            renew(&key, from_now(-HOUR)),
            "API_KEY_EXPIRY_INVALID",
            "expire_time",
        ),
        (
            "sooner than now",
            renew(&key, from_now(60)),
            invalid,
            "expire_time",
        ),
        (
            "no time at all",
            renew(&key, too_late),
            invalid,
            "expire_time",
        ),
        (
            "a key that never ends",
            renew(&endless, from_now(HOUR)),
            invalid,
            "expire_time",
        ),
    ] {
        let refused = keys.renew_key(request).await;
        let status = check_refused(refused, Code::InvalidArgument, reason);
        assert_eq!(bad_fields(&status), [field], "{what}");
    }
    let later = from_now(2 * HOUR);
    let renewed = keys
        .renew_key(renew(&key, later))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(renewed.expire_time, Some(later));
    assert_eq!(renewed.generation, 1);
    let again = keys
        .renew_key(renew(&key, later))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, renewed, "the end that it has changes nothing");
    let stale = pb::RenewKeyRequest {
        etag: key.etag.clone(),
        ..renew(&key, from_now(3 * HOUR))
    };
    check_refused(keys.renew_key(stale).await, Code::Aborted, "ETAG_MISMATCH");
    let notes = server.notes("key.renewed").await;
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with("expiry 20"), "{notes:?}");
}

#[tokio::test]
async fn a_renewal_obeys_the_rules_for_new_keys_to_the_millisecond() {
    const DAY: i64 = 24 * HOUR;
    let server = server().await;
    let mut request = create_key("platform", "ci");
    request.key.as_mut().unwrap().expire_time = Some(from_now(HOUR));
    let (key, _) = made(&server, request).await;
    let mut rules = KeyRules::default();
    rules.expiry.max_days = 90;
    server.registry.set_key_rules(rules);
    let for_seconds = |seconds, nanos| pb::RenewKeyRequest {
        expire_time: None,
        ttl: Some(prost_types::Duration { seconds, nanos }),
        ..renew(&key, from_now(0))
    };
    let mut keys = server.keys(ROOT);
    for (seconds, nanos) in [(DAY - 1, 0), (90 * DAY, 1_000_000), (400 * DAY, 0)] {
        let refused = keys.renew_key(for_seconds(seconds, nanos)).await;
        let status = check_refused(refused, Code::InvalidArgument, "API_KEY_EXPIRY_INVALID");
        assert_eq!(bad_fields(&status), ["expire_time"], "{seconds}");
    }
    for seconds in [DAY, 90 * DAY] {
        let renewed = keys.renew_key(for_seconds(seconds, 0)).await;
        assert!(renewed.is_ok(), "{seconds}: {renewed:?}");
    }
}

#[tokio::test]
async fn a_grace_is_bounded_and_an_etag_holds() {
    let server = server().await;
    let (key, _) = made(&server, create_key("platform", "ci")).await;
    let mut keys = server.keys(ROOT);
    for seconds in [-1, 30 * 24 * HOUR + 1, i64::MIN, i64::MAX] {
        let refused = keys.rotate_key(rotate(&key, seconds)).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["grace"], "{seconds}");
    }
    let with_etag = pb::RotateKeyRequest {
        etag: key.etag.clone(),
        ..rotate(&key, 30 * 24 * HOUR)
    };
    keys.rotate_key(with_etag.clone()).await.unwrap();
    let stale = keys.rotate_key(with_etag).await;
    check_refused(stale, Code::Aborted, "ETAG_MISMATCH");
}

#[tokio::test]
async fn a_repeated_request_rotates_once_and_answers_the_same_token() {
    let server = server().await;
    let (key, _) = made(&server, create_key("platform", "ci")).await;
    let request = pb::RotateKeyRequest {
        etag: key.etag.clone(),
        request_id: ID.into(),
        ..rotate(&key, HOUR)
    };
    let first = rotated(&server, request.clone()).await;
    assert_eq!(rotated(&server, request.clone()).await, first);
    let other = pb::RotateKeyRequest {
        grace: None,
        ..request.clone()
    };
    let mut keys = server.keys(ROOT);
    let refused = keys.rotate_key(other).await;
    check_refused(refused, Code::InvalidArgument, "REQUEST_ID_REUSED");

    // Nobody is given a token that another rotation has taken the place of.
    let next = pb::RotateKeyRequest {
        request_id: OTHER_ID.into(),
        ..rotate(&key, HOUR)
    };
    let (key, _) = rotated(&server, next).await;
    assert_eq!(key.generation, 3);
    let refused = keys.rotate_key(request).await;
    check_refused(refused, Code::FailedPrecondition, "TOKEN_NOT_KEPT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_of_one_request_rotate_once() {
    let server = server().await;
    let (key, _) = made(&server, create_key("platform", "ci")).await;
    for etag in [String::new(), key.etag.clone()] {
        let request = pb::RotateKeyRequest {
            request_id: if etag.is_empty() { ID } else { OTHER_ID }.into(),
            etag: match etag.is_empty() {
                true => etag,
                // That of now.
                false => current(&server, &key).await.etag,
            },
            ..rotate(&key, HOUR)
        };
        let before = current(&server, &key).await.generation;
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let (mut keys, request) = (server.keys(ROOT), request.clone());
                tokio::spawn(async move { keys.rotate_key(request).await })
            })
            .collect();
        let mut tokens = std::collections::BTreeSet::new();
        for call in calls {
            tokens.insert(call.await.unwrap().unwrap().into_inner().plaintext);
        }
        assert_eq!(tokens.len(), 1);
        assert_eq!(current(&server, &key).await.generation, before + 1);
    }
}

async fn current(server: &AdminServer, key: &pb::Key) -> pb::Key {
    let name = key.name.clone();
    let get = server.keys(ROOT).get_key(pb::GetKeyRequest { name }).await;
    get.unwrap().into_inner()
}

#[tokio::test]
async fn where_tokens_are_not_kept_a_repeated_rotation_says_so() {
    let store = std::sync::Arc::new(EmbeddedStore::in_memory().unwrap());
    let server = AdminServer::over(store, false).await;
    let server = server.with_tenant("platform").await;
    let (key, _) = made(&server, create_key("platform", "ci")).await;
    let request = pb::RotateKeyRequest {
        request_id: ID.into(),
        ..rotate(&key, HOUR)
    };
    rotated(&server, request.clone()).await;
    let refused = server.keys(ROOT).rotate_key(request).await;
    check_refused(refused, Code::FailedPrecondition, "TOKEN_NOT_KEPT");
    assert_eq!(
        current(&server, &key).await.generation,
        2,
        "once all the same"
    );
}

#[tokio::test]
async fn an_imported_key_gets_a_token_of_ours_and_its_old_token_is_not_free() {
    let server = server().await;
    let import = |token: &str| pb::ImportKeysRequest {
        parent: "tenants/platform".into(),
        requests: vec![pb::ImportKeyRequest {
            key: create_key("platform", "legacy").key,
            token: token.into(),
            ..pb::ImportKeyRequest::default()
        }],
    };
    let old = "a-token-of-another-system";
    let mut keys = server.keys(ROOT);
    let answer = keys.import_keys(import(old)).await.unwrap().into_inner();
    let Some(pb::import_key_result::Result::Key(key)) = &answer.results[0].result else {
        panic!("{answer:?}")
    };
    let (key, new) = rotated(&server, rotate(key, HOUR)).await;
    assert!(new.starts_with("ks_live_"), "{new}");
    assert_eq!(key.kind(), pb::KeyKind::Live);
    assert_eq!(says(&server, old).await, "");
    rotated(&server, rotate(&key, 0)).await;
    assert_eq!(says(&server, old).await, "api_key_expired");
    let answer = keys.import_keys(import(old)).await.unwrap().into_inner();
    let Some(pb::import_key_result::Result::Error(refused)) = &answer.results[0].result else {
        panic!("{answer:?}")
    };
    assert_eq!(refused.code, i32::from(Code::AlreadyExists));
}

#[tokio::test]
async fn a_token_is_remembered_as_expired_for_eight_rotations() {
    let server = server().await;
    let (key, first) = made(&server, create_key("platform", "ci")).await;
    for _ in 0..8 {
        assert_ne!(says(&server, &first).await, "invalid_api_key");
        rotated(&server, rotate(&key, HOUR)).await;
    }
    assert_eq!(says(&server, &first).await, "api_key_expired");
    let (key, last) = rotated(&server, rotate(&key, HOUR)).await;
    assert_eq!(says(&server, &first).await, "invalid_api_key");
    assert_eq!(key.generation, 10);
    revoke(&server, &key).await;
    assert_eq!(says(&server, &last).await, "invalid_api_key");
    assert_eq!(says(&server, &first).await, "invalid_api_key");
}

#[tokio::test]
async fn a_user_rotates_itself_and_keys_that_may_do_no_more() {
    let server = server().await;
    server
        .tenants(ROOT)
        .create_tenant(create("acme"))
        .await
        .unwrap();
    let of_user = |scopes: &[&str]| {
        let mut request = create_key("platform", "ci");
        let key = request.key.as_mut().unwrap();
        key.owner = "user-owner".into();
        key.expire_time = Some(from_now(HOUR));
        key.scopes = scopes.iter().map(|scope| (*scope).into()).collect();
        request
    };
    let (plain, _) = made(&server, of_user(&[])).await;
    let (wider, _) = made(&server, of_user(&["admin"])).await;
    let mut user = server.keys("platform-user");
    user.rotate_key(rotate(&plain, HOUR)).await.unwrap();
    user.renew_key(renew(&plain, from_now(2 * HOUR)))
        .await
        .unwrap();
    let refused = user.rotate_key(rotate(&wider, HOUR)).await;
    let status = check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(bad_fields(&status), ["key.scopes"]);
    let refused = user.renew_key(renew(&wider, from_now(2 * HOUR))).await;
    check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    let own = server.own_key("platform-user").await;
    user.rotate_key(rotate(&own, HOUR)).await.unwrap();
}
