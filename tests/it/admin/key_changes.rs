//! Updating, revoking many, verifying and finding keys.

use std::time::Duration;

use keystile::proto::admin as pb;
use keystile::proto::admin::revoke_all_keys_request::Scope;
use prost_types::FieldMask;
use tonic::Code;

use super::server::AdminServer;
use super::{ROOT, bad_fields, check_refused, create, create_key, server};
use crate::harness::wait_until;

async fn made(server: &AdminServer, request: pb::CreateKeyRequest) -> (pb::Key, String) {
    let answer = server
        .keys(ROOT)
        .create_key(request)
        .await
        .unwrap()
        .into_inner();
    (answer.key.unwrap(), answer.plaintext)
}

fn update(key: &pb::Key, paths: &[&str]) -> pb::UpdateKeyRequest {
    pb::UpdateKeyRequest {
        key: Some(key.clone()),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).into()).collect(),
        }),
    }
}

fn of_owner(owner: &str, scopes: &[&str]) -> pb::CreateKeyRequest {
    let mut request = create_key("platform", "ci");
    let key = request.key.as_mut().unwrap();
    key.owner = owner.into();
    key.scopes = scopes.iter().map(|scope| (*scope).into()).collect();
    request
}

#[tokio::test]
async fn an_update_of_a_key_changes_what_its_mask_names_and_nothing_else() {
    let server = server().await;
    let mut keys = server.keys(ROOT);
    let (key, _) = made(&server, of_owner("alice", &["read"])).await;
    let wanted = pb::Key {
        display_name: "renamed".into(),
        description: "now with words".into(),
        owner: "mallory".into(),
        role: pb::Role::GlobalAdmin.into(),
        scopes: vec!["write".into()],
        features: Some(pb::FeatureList {
            names: vec!["images".into()],
        }),
        allow_cidrs: vec!["10.0.0.0/8".into()],
        ..key.clone()
    };
    let updated = keys
        .update_key(update(&wanted, &["scopes"]))
        .await
        .unwrap()
        .into_inner();
    let expected = pb::Key {
        scopes: wanted.scopes.clone(),
        etag: updated.etag.clone(),
        update_time: updated.update_time,
        ..key.clone()
    };
    assert_eq!(updated, expected);
    let stale = keys.update_key(update(&wanted, &["scopes"])).await;
    check_refused(stale, Code::Aborted, "ETAG_MISMATCH");

    let all = pb::Key {
        etag: String::new(),
        ..wanted.clone()
    };
    let all = keys
        .update_key(update(&all, &["*"]))
        .await
        .unwrap()
        .into_inner();
    let expected = pb::Key {
        owner: key.owner.clone(),
        role: key.role,
        etag: all.etag.clone(),
        update_time: all.update_time,
        ..wanted.clone()
    };
    assert_eq!(all, expected);
    let again = keys
        .update_key(update(&all, &["*"]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, all, "a change that changes nothing writes nothing");

    for (paths, field) in [
        (&[][..], "update_mask"),
        (&["owner"], "update_mask.paths[0]"),
        (&["scopes", "expire_time"], "update_mask.paths[1]"),
    ] {
        let refused = keys.update_key(update(&all, paths)).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), [field]);
    }
    let name = key.name.clone();
    let revoke = pb::RevokeKeyRequest {
        name,
        ..Default::default()
    };
    keys.revoke_key(revoke).await.unwrap();
    let revoked = keys.update_key(update(&key, &["description"])).await;
    check_refused(revoked, Code::FailedPrecondition, "KEY_REVOKED");
}

#[tokio::test]
async fn a_user_cannot_widen_a_key_beyond_its_own() {
    let server = server().await;
    let mut user = server.keys("platform-user");
    let (key, _) = made(&server, of_owner("user-owner", &["read"])).await;
    let change = |scopes: &[&str], description: &str| pb::Key {
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        description: description.into(),
        etag: String::new(),
        ..key.clone()
    };
    let wider = user
        .update_key(update(&change(&["write"], ""), &["scopes"]))
        .await;
    let status = check_refused(wider, Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(bad_fields(&status), ["key.scopes"]);
    let words = user
        .update_key(update(&change(&["read"], "mine"), &["description"]))
        .await;
    assert_eq!(words.unwrap().into_inner().description, "mine");
    let fewer = user.update_key(update(&change(&[], ""), &["scopes"])).await;
    assert_eq!(fewer.unwrap().into_inner().scopes, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_updates_of_a_key_with_one_etag_one_wins() {
    let server = server().await;
    let (key, _) = made(&server, create_key("platform", "ci")).await;
    let calls: Vec<_> = (0..16)
        .map(|number| {
            let mut keys = server.keys(ROOT);
            let wanted = pb::Key {
                description: format!("number {number}"),
                ..key.clone()
            };
            tokio::spawn(async move { keys.update_key(update(&wanted, &["description"])).await })
        })
        .collect();
    let mut won = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => won += 1,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
    }
    assert_eq!(won, 1);
}

fn revoke_all(scope: Scope) -> pb::RevokeAllKeysRequest {
    pb::RevokeAllKeysRequest {
        parent: "tenants/platform".into(),
        scope: Some(scope),
        reason: "leaver".into(),
        ..Default::default()
    }
}

async fn states(server: &AdminServer, filter: &str) -> Vec<(String, pb::KeyState)> {
    let list = pb::ListKeysRequest {
        parent: "tenants/platform".into(),
        page_size: 1000,
        filter: filter.into(),
        ..Default::default()
    };
    let page = server
        .keys(ROOT)
        .list_keys(list)
        .await
        .unwrap()
        .into_inner();
    let state = |key: pb::Key| (key.owner.clone(), key.state());
    let mut states: Vec<_> = page.keys.into_iter().map(state).collect();
    states.sort();
    states
}

#[tokio::test]
async fn all_keys_of_an_owner_are_revoked_and_nobody_elses() {
    let server = server().await;
    for owner in ["alice", "alice", "bob", "alice"] {
        made(&server, of_owner(owner, &[])).await;
    }
    let request = revoke_all(Scope::Owner("alice".into()));
    let only_count = pb::RevokeAllKeysRequest {
        dry_run: true,
        ..request.clone()
    };
    let counted = server.keys(ROOT).revoke_all_keys(only_count).await;
    let counted = counted.unwrap().into_inner();
    assert_eq!((counted.revoked_count, counted.skipped_count), (3, 0));
    assert_eq!(states(&server, "state = REVOKED").await, []);
    let done = server
        .keys(ROOT)
        .revoke_all_keys(request.clone())
        .await
        .unwrap();
    let done = done.into_inner();
    assert_eq!((done.revoked_count, done.skipped_count), (3, 0));
    assert_eq!(done.next_page_token, "");
    let alice = ("alice".to_owned(), pb::KeyState::Revoked);
    assert_eq!(states(&server, "owner = alice").await, vec![alice; 3]);
    assert_eq!(
        states(&server, "owner = bob AND state = ACTIVE")
            .await
            .len(),
        1
    );
    let again = server
        .keys(ROOT)
        .revoke_all_keys(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.revoked_count, 0, "what is revoked stays so");
}

#[tokio::test]
async fn revoking_a_whole_tenant_spares_the_calling_key_and_higher_roles() {
    let server = server().await;
    made(&server, of_owner("alice", &[])).await;
    let mut admin = server.keys("platform-tenant_admin");
    let done = admin
        .revoke_all_keys(revoke_all(Scope::AllOwners(true)))
        .await
        .unwrap();
    let done = done.into_inner();
    assert_eq!((done.revoked_count, done.skipped_count), (2, 2));
    let live = states(&server, "state = ACTIVE").await;
    let owners: Vec<_> = live.iter().map(|(owner, _)| owner.as_str()).collect();
    assert_eq!(owners, ["global_admin-owner", "tenant_admin-owner"]);

    for (scope, field) in [
        (None, "scope"),
        (Some(Scope::AllOwners(false)), "all_owners"),
        (Some(Scope::Owner(String::new())), "owner"),
    ] {
        let request = pb::RevokeAllKeysRequest {
            scope,
            ..revoke_all(Scope::AllOwners(true))
        };
        let refused = admin.revoke_all_keys(request).await;
        let status = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), [field]);
    }
}

fn verify(token: &str, source_ip: &str) -> pb::VerifyKeyRequest {
    pb::VerifyKeyRequest {
        token: token.into(),
        source_ip: source_ip.into(),
    }
}

#[tokio::test]
async fn a_token_is_verified_as_a_check_would() {
    let server = server().await;
    server
        .tenants(ROOT)
        .create_tenant(create("acme"))
        .await
        .unwrap();
    let mut keys = server.keys(ROOT);
    let mut request = create_key("acme", "ci");
    request.key.as_mut().unwrap().allow_cidrs = vec!["10.0.0.0/8".into()];
    let (bound, bound_token) = made(&server, request).await;
    let mut request = create_key("acme", "short");
    let end = std::time::SystemTime::now() + Duration::from_secs(3);
    request.key.as_mut().unwrap().expire_time = Some(end.into());
    let (_, short_token) = made(&server, request).await;

    for (token, source, reason) in [
        (bound_token.as_str(), "10.1.2.3", ""),
        (&bound_token, "192.0.2.1", "network_not_allowed"),
        (&bound_token, "", "network_not_allowed"),
        ("ks_live_nonsense", "", "invalid_api_key"),
        ("a-token-nobody-has-made", "", "invalid_api_key"),
    ] {
        let found = keys
            .verify_key(verify(token, source))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (found.valid, found.reason.as_str()),
            (reason.is_empty(), reason)
        );
        assert_eq!(found.key.is_some(), reason != "invalid_api_key");
    }
    let bad = keys.verify_key(verify(&bound_token, "localhost")).await;
    let status = check_refused(bad, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(bad_fields(&status), ["source_ip"]);

    let reason = wait_until("its time is over", async || {
        let mut keys = server.keys(ROOT);
        let found = keys.verify_key(verify(&short_token, "")).await.unwrap();
        let found = found.into_inner();
        (!found.valid).then_some(found.reason)
    });
    assert_eq!(reason.await, "api_key_expired");

    let name = "tenants/acme".to_owned();
    let suspend = pb::SuspendTenantRequest {
        name,
        ..Default::default()
    };
    server.tenants(ROOT).suspend_tenant(suspend).await.unwrap();
    let found = keys
        .verify_key(verify(&bound_token, "10.1.2.3"))
        .await
        .unwrap();
    assert_eq!(found.into_inner().reason, "tenant_suspended");
    let revoke = pb::RevokeKeyRequest {
        name: bound.name,
        ..Default::default()
    };
    keys.revoke_key(revoke).await.unwrap();
    let found = keys
        .verify_key(verify(&bound_token, "10.1.2.3"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.reason, "invalid_api_key");
    assert_eq!(found.key.unwrap().state(), pb::KeyState::Revoked);
}

#[tokio::test]
async fn a_filtered_list_has_what_passes_page_by_page_and_its_tokens_fit_that_filter() {
    let server = server().await;
    for number in 0..9 {
        let owner = if number % 3 == 0 { "alice" } else { "bob" };
        made(&server, of_owner(owner, &["read"])).await;
    }
    let list = |filter: &str, page_token: String| pb::ListKeysRequest {
        parent: "tenants/platform".into(),
        page_size: 2,
        page_token,
        filter: filter.into(),
    };
    let mut keys = server.keys(ROOT);
    let filter = "owner = bob AND scopes:read AND state != REVOKED";
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = keys
            .list_keys(list(filter, token))
            .await
            .unwrap()
            .into_inner();
        seen.extend(page.keys.into_iter().map(|key| key.owner));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let elsewhere = keys.list_keys(list("owner = bob", token.clone())).await;
        let status = check_refused(elsewhere, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(bad_fields(&status), ["page_token"]);
    }
    assert_eq!(seen, ["bob"; 6]);

    let mut tenants = server.tenants(ROOT);
    for id in ["a1", "a2", "a3"] {
        let mut request = create(id);
        let plan = if id == "a2" { "free" } else { "pro" };
        request.tenant = Some(pb::Tenant {
            plan: plan.into(),
            ..pb::Tenant::default()
        });
        tenants.create_tenant(request).await.unwrap();
    }
    let list = pb::ListTenantsRequest {
        filter: "plan = pro".into(),
        ..Default::default()
    };
    let page = tenants.list_tenants(list).await.unwrap().into_inner();
    let ids: Vec<_> = page
        .tenants
        .iter()
        .map(|tenant| tenant.tenant_id.as_str())
        .collect();
    assert_eq!(ids, ["a1", "a3"]);
}
