//! The admin API as a client sees it, over a loopback connection.

mod access;
mod api_doc;
mod batches;
mod claim;
mod governance;
mod hostile;
mod isolation;
mod key_changes;
mod lineage;
mod owners;
mod pause;
mod reads;
mod requests;
mod reveal;
mod rotation;
mod scale;
pub(crate) mod server;
mod wire;

use keystile::admin::MESSAGE_BYTES_MAX;
use keystile::admin::caller::AuthFailure;
use keystile::proto::admin as pb;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use server::AdminServer;

/// The token of a global_admin in the tenant `platform`.
const ROOT: &str = "platform-global_admin";

async fn server() -> AdminServer {
    AdminServer::start().await.with_tenant("platform").await
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: Code,
    reason: &str,
) -> Status {
    let status = answer.unwrap_err();
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (code, reason, "keystile"),
        "{}",
        status.message()
    );
    status
}

fn bad_fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request();
    let violations = bad.map(|bad| bad.field_violations).unwrap_or_default();
    violations
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

fn create(id: &str) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        tenant_id: id.into(),
        ..pb::CreateTenantRequest::default()
    }
}

fn get(id: &str) -> pb::GetTenantRequest {
    pb::GetTenantRequest {
        name: format!("tenants/{id}"),
    }
}

fn create_key(tenant: &str, name: &str) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        parent: format!("tenants/{tenant}"),
        key: Some(pb::Key {
            display_name: name.into(),
            owner: "alice".into(),
            ..pb::Key::default()
        }),
        ..pb::CreateKeyRequest::default()
    }
}

#[tokio::test]
async fn a_tenant_lives_from_create_to_delete() {
    let server = server().await;
    let mut tenants = server.tenants(ROOT);
    let request = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(pb::Tenant {
            display_name: "Acme".into(),
            plan: "pro".into(),
            features: vec!["images".into()],
            metadata: [("region".into(), "eu".into())].into(),
            ..pb::Tenant::default()
        }),
        ..pb::CreateTenantRequest::default()
    };
    let made = tenants.create_tenant(request).await.unwrap().into_inner();
    assert_eq!(
        (made.name.as_str(), made.tenant_id.as_str()),
        ("tenants/acme", "acme")
    );
    assert_eq!(made.state(), pb::TenantState::Active);
    assert_eq!(
        tenants.get_tenant(get("acme")).await.unwrap().into_inner(),
        made
    );

    let suspend = pb::SuspendTenantRequest {
        name: made.name.clone(),
        etag: made.etag.clone(),
        reason: "unpaid".into(),
    };
    let suspended = tenants
        .suspend_tenant(suspend.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(suspended.state(), pb::TenantState::Suspended);
    assert_ne!(suspended.etag, made.etag);
    check_refused(
        tenants.suspend_tenant(suspend).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );

    let resume = pb::ResumeTenantRequest {
        name: made.name.clone(),
        etag: String::new(),
    };
    let resumed = tenants
        .resume_tenant(resume.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(resumed.state(), pb::TenantState::Active);
    let again = tenants.resume_tenant(resume).await.unwrap().into_inner();
    assert_eq!(again, resumed, "resuming an active tenant changes nothing");

    let delete = |etag: &str| pb::DeleteTenantRequest {
        name: made.name.clone(),
        etag: etag.into(),
    };
    let refused = tenants.delete_tenant(delete("")).await;
    let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["etag"]);
    check_refused(
        tenants.delete_tenant(delete(&made.etag)).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    tenants.delete_tenant(delete(&resumed.etag)).await.unwrap();
    check_refused(
        tenants.get_tenant(get("acme")).await,
        Code::NotFound,
        "TENANT_NOT_FOUND",
    );
}

#[tokio::test]
async fn an_etag_of_a_deleted_tenant_does_not_fit_one_of_the_same_id() {
    let server = server().await;
    let mut tenants = server.tenants(ROOT);
    let first = tenants
        .create_tenant(create("acme"))
        .await
        .unwrap()
        .into_inner();
    let delete = pb::DeleteTenantRequest {
        name: first.name.clone(),
        etag: first.etag.clone(),
    };
    tenants.delete_tenant(delete.clone()).await.unwrap();
    tenants.create_tenant(create("acme")).await.unwrap();
    check_refused(
        tenants.delete_tenant(delete).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_nothing_else() {
    let server = server().await;
    let mut tenants = server.tenants(ROOT);
    let made = tenants
        .create_tenant(create("acme"))
        .await
        .unwrap()
        .into_inner();
    let update = |paths: &[&str], etag: &str| pb::UpdateTenantRequest {
        tenant: Some(pb::Tenant {
            name: made.name.clone(),
            display_name: "ignored".into(),
            plan: "pro".into(),
            etag: etag.into(),
            ..pb::Tenant::default()
        }),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).into()).collect(),
        }),
    };
    let updated = tenants
        .update_tenant(update(&["plan"], &made.etag))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (updated.plan.as_str(), updated.display_name.as_str()),
        ("pro", "acme")
    );
    let stale = tenants.update_tenant(update(&["plan"], &made.etag)).await;
    check_refused(stale, Code::Aborted, "ETAG_MISMATCH");
    for (paths, field) in [
        (&[][..], "update_mask"),
        (&["state"], "update_mask.paths[0]"),
    ] {
        let refused = tenants.update_tenant(update(paths, "")).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), [field]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_updates_with_one_etag_one_wins() {
    let server = server().await;
    let made = server
        .tenants(ROOT)
        .create_tenant(create("acme"))
        .await
        .unwrap()
        .into_inner();
    let calls = (0..16).map(|number| {
        let mut tenants = server.tenants(ROOT);
        let request = pb::UpdateTenantRequest {
            tenant: Some(pb::Tenant {
                display_name: format!("name {number}"),
                ..made.clone()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["display_name".into()],
            }),
        };
        tokio::spawn(async move { tenants.update_tenant(request).await })
    });
    let mut won = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => won += 1,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_key_lives_from_create_to_revoke_and_its_token_is_seen_once() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let expire_time = Some(prost_types::Timestamp {
        seconds: 4_000_000_000,
        nanos: 0,
    });
    let mut request = create_key("platform", "ci");
    if let Some(key) = &mut request.key {
        key.expire_time = expire_time;
        key.allow_cidrs = vec!["10.0.0.0/8".into(), "2001:db8::1".into()];
        key.scopes = vec!["write".into(), "read".into(), "read".into()];
        key.features = Some(pb::FeatureList { names: Vec::new() });
    }
    let made = keys.create_key(request).await.unwrap().into_inner();
    let token = made.plaintext.clone();
    let key = made.key.clone().unwrap();
    assert!(token.starts_with(&key.key_prefix) && token.len() > key.key_prefix.len() + 40);
    assert_eq!(key.name, format!("tenants/platform/keys/{}", key.key_id));
    assert_eq!(
        (key.role(), key.kind(), key.state()),
        (pb::Role::User, pb::KeyKind::Live, pb::KeyState::Active)
    );
    assert_eq!(key.allow_cidrs, ["10.0.0.0/8", "2001:db8::1/128"]);
    assert_eq!(key.scopes, ["read", "write"]);
    assert_eq!(
        (key.expire_time, key.features.clone()),
        (expire_time, Some(pb::FeatureList::default()))
    );

    let get = pb::GetKeyRequest {
        name: key.name.clone(),
    };
    assert_eq!(keys.get_key(get.clone()).await.unwrap().into_inner(), key);
    let revoke = pb::RevokeKeyRequest {
        name: key.name.clone(),
        etag: key.etag.clone(),
        reason: "leaked".into(),
        ..Default::default()
    };
    let revoked = keys.revoke_key(revoke.clone()).await.unwrap().into_inner();
    assert_eq!(
        (revoked.state(), revoked.revoke_reason.as_str()),
        (pb::KeyState::Revoked, "leaked")
    );
    assert!(revoked.revoke_time.is_some());
    let again = keys.revoke_key(revoke).await.unwrap().into_inner();
    assert_eq!(again, revoked, "revoking a revoked key changes nothing");
    let all = pb::ListKeysRequest {
        parent: "tenants/platform".into(),
        ..Default::default()
    };
    let listed = keys.list_keys(all).await.unwrap().into_inner();
    assert!(listed.keys.contains(&revoked));
    let secret = &token[key.key_prefix.len()..];
    let elsewhere = format!(
        "{made:?} {revoked:?} {listed:?} {:?}",
        keys.get_key(get).await
    );
    assert!(!elsewhere.contains(secret));
}

#[tokio::test]
async fn a_tenant_that_is_not_there_has_no_keys() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let list = pb::ListKeysRequest {
        parent: "tenants/none".into(),
        ..Default::default()
    };
    check_refused(
        keys.list_keys(list).await,
        Code::NotFound,
        "TENANT_NOT_FOUND",
    );
    check_refused(
        keys.create_key(create_key("none", "ci")).await,
        Code::NotFound,
        "TENANT_NOT_FOUND",
    );
    let get = pb::GetKeyRequest {
        name: "tenants/platform/keys/abcd2345".into(),
    };
    check_refused(keys.get_key(get).await, Code::NotFound, "KEY_NOT_FOUND");
    let taken = server.tenants(ROOT).create_tenant(create("platform")).await;
    check_refused(taken, Code::AlreadyExists, "TENANT_ALREADY_EXISTS");
}

#[tokio::test]
async fn pages_have_every_tenant_once_and_their_tokens_fit_no_other_query() {
    let server = server().await;
    let mut tenants = server.tenants(ROOT);
    for number in 0..7 {
        tenants
            .create_tenant(create(&format!("t{number}")))
            .await
            .unwrap();
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListTenantsRequest {
            page_size: 3,
            page_token,
            ..Default::default()
        };
        let page = tenants.list_tenants(request).await.unwrap().into_inner();
        seen.extend(page.tenants.into_iter().map(|tenant| tenant.tenant_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        let keys = pb::ListKeysRequest {
            parent: "tenants/platform".into(),
            page_size: 3,
            page_token: page_token.clone(),
            ..Default::default()
        };
        let elsewhere = server.keys(ROOT).list_keys(keys).await;
        check_refused(elsewhere, Code::InvalidArgument, "INVALID_FIELD");
    }
    assert_eq!(seen, ["platform", "t0", "t1", "t2", "t3", "t4", "t5", "t6"]);
    for (page_size, page_token, field) in [(0, "Zm9yZ2Vk", "page_token"), (-1, "", "page_size")] {
        let request = pb::ListTenantsRequest {
            page_size,
            page_token: page_token.into(),
            ..Default::default()
        };
        let refused = tenants.list_tenants(request).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), [field]);
    }
}

#[tokio::test]
async fn a_user_pages_through_its_own_keys_alone() {
    let server = server().await;
    let mut keys = server.keys("platform-user");
    for number in 0..5 {
        let mut own = create_key("platform", &format!("own {number}"));
        own.key.as_mut().unwrap().owner = "user-owner".into();
        keys.create_key(own).await.unwrap();
        server
            .keys(ROOT)
            .create_key(create_key("platform", "other"))
            .await
            .unwrap();
    }
    let (mut seen, mut page_token) = (0, String::new());
    loop {
        let request = pb::ListKeysRequest {
            parent: "tenants/platform".into(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = keys.list_keys(request).await.unwrap().into_inner();
        assert!(page.keys.len() <= 2 && page.keys.iter().all(|key| key.owner == "user-owner"));
        seen += page.keys.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, 6, "five that were made here and the calling one");
}

#[tokio::test]
async fn a_caller_is_recognised_or_told_why_not() {
    let server = server().await;
    for (token, failure) in [
        ("token-1", AuthFailure::Expired),
        ("token-2", AuthFailure::TenantSuspended),
        ("token-3", AuthFailure::Unavailable),
    ] {
        server.recognise(token, Err(failure));
    }
    let missing = server.anonymous().get_tenant(get("platform")).await;
    check_refused(missing, Code::Unauthenticated, "MISSING_API_KEY");
    for (token, code, reason) in [
        ("token-0", Code::Unauthenticated, "INVALID_API_KEY"),
        ("token-1", Code::Unauthenticated, "API_KEY_EXPIRED"),
        ("token-2", Code::PermissionDenied, "TENANT_SUSPENDED"),
        ("token-3", Code::Unavailable, "AUTHORIZATION_UNAVAILABLE"),
    ] {
        let refused = server.tenants(token).get_tenant(get("platform")).await;
        let status = check_refused(refused, code, reason);
        assert!(!status.message().contains(token), "{}", status.message());
    }
}

#[tokio::test]
async fn hostile_input_is_refused_and_never_an_internal_error() {
    let server = server().await;
    let mut tenants = server.tenants(ROOT);
    let mut keys = server.keys(ROOT);
    let long = "x".repeat(900_000);
    for id in ["", "аcme", "a\u{202E}b", "../x", "a b", "A", long.as_str()] {
        let status = tenants.create_tenant(create(id)).await;
        let status = check_refused(status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["tenant_id"]);
    }
    let mut many = create_key("platform", "ci");
    many.key.as_mut().unwrap().scopes = vec!["s".into(); 100_000];
    let status = check_refused(
        keys.create_key(many).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert_eq!(bad_fields(&status), ["key.scopes"]);
    let mut past = create_key("platform", "ci");
    past.key.as_mut().unwrap().expire_time = Some(prost_types::Timestamp {
        seconds: 1,
        nanos: 0,
    });
    let status = check_refused(
        keys.create_key(past).await,
        Code::InvalidArgument,
        "API_KEY_EXPIRY_INVALID",
    );
    assert_eq!(bad_fields(&status), ["key.expire_time"]);
    assert!(
        status
            .message()
            .starts_with("API key expiry validation failed"),
        "{}",
        status.message()
    );
    let huge = tenants
        .create_tenant(create(&"x".repeat(MESSAGE_BYTES_MAX)))
        .await
        .unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge}");
}
