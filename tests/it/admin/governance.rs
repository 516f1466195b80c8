//! How many keys owners may have and how long keys may live, and who may change it.

mod audit;

use keystile::clock::{Clock as _, SystemClock};
use keystile::domain::governance::{ExpiryRules, GlobalOverride, KeyLimits, KeyRules, PerRole};
use keystile::domain::name::TenantId;
use keystile::proto::admin as pb;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::server::AdminServer;
use super::{ROOT, check_refused, server};

const DAY: i64 = 86_400;

fn id(tenant: &str) -> TenantId {
    TenantId::parse(tenant).unwrap()
}

/// Limits that a test can reach. The keys that the server has made belong to other owners.
fn small() -> KeyRules {
    KeyRules {
        defaults: PerRole {
            user: 2,
            tenant_admin: 3,
            global_admin: 4,
        },
        ..KeyRules::default()
    }
}

fn new_key(tenant: &str, owner: &str, role: pb::Role) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        parent: format!("tenants/{tenant}"),
        key: Some(pb::Key {
            display_name: "made".into(),
            owner: owner.into(),
            role: role.into(),
            ..pb::Key::default()
        }),
        ..pb::CreateKeyRequest::default()
    }
}

async fn make(server: &AdminServer, owner: &str, role: pb::Role) -> Result<pb::Key, Status> {
    let request = new_key("platform", owner, role);
    let made = server.keys(ROOT).create_key(request).await?;
    Ok(made.into_inner().key.unwrap())
}

async fn import(server: &AdminServer, owner: &str, token: &str) -> (Code, String) {
    let request = pb::ImportKeyRequest {
        key: new_key("platform", owner, pb::Role::User).key,
        token: token.into(),
        ..pb::ImportKeyRequest::default()
    };
    let batch = pb::ImportKeysRequest {
        parent: "tenants/platform".into(),
        requests: vec![request],
    };
    let answer = server.keys(ROOT).import_keys(batch).await.unwrap();
    let result = answer.into_inner().results.pop().unwrap().result.unwrap();
    match result {
        pb::import_key_result::Result::Key(_) => (Code::Ok, String::new()),
        pb::import_key_result::Result::Error(error) => (Code::from_i32(error.code), error.message),
    }
}

async fn get(server: &AdminServer, token: &str, tenant: &str) -> Result<pb::KeyLimits, Status> {
    let name = format!("tenants/{tenant}/keyLimits");
    let request = pb::GetKeyLimitsRequest { name };
    let answer = server.limits(token).get_key_limits(request).await?;
    Ok(answer.into_inner())
}

/// Sets what holds for users; with none, leaves it to the configuration.
async fn set(
    server: &AdminServer,
    token: &str,
    tenant: &str,
    user: Option<u32>,
) -> Result<pb::KeyLimits, Status> {
    let request = pb::UpdateKeyLimitsRequest {
        key_limits: Some(pb::KeyLimits {
            name: format!("tenants/{tenant}/keyLimits"),
            max_keys_per_user: user,
            ..pb::KeyLimits::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["max_keys_per_user".into()],
        }),
    };
    let answer = server.limits(token).update_key_limits(request).await?;
    Ok(answer.into_inner())
}

fn effective(limits: &pb::KeyLimits) -> Vec<(&str, u32, &str)> {
    let limits = limits.effective_limits.iter();
    limits
        .map(|limit| (limit.name.as_str(), limit.value, limit.source.as_str()))
        .collect()
}

#[tokio::test]
async fn an_owner_has_as_many_keys_as_the_role_of_the_next_one_allows() {
    let server = server().await;
    server.registry.set_key_rules(small());
    use pb::Role::{GlobalAdmin, TenantAdmin, User};
    // Owner, role, whether there is room. All live keys of the owner count, whatever their roles.
    for (owner, role, room) in [
        ("alice", User, true),
        ("alice", User, true),
        ("alice", User, false),
        ("alice", TenantAdmin, true),
        ("alice", TenantAdmin, false),
        ("alice", GlobalAdmin, true),
        ("alice", GlobalAdmin, false),
        // An administrator with three keys has no room for one more as a user.
        ("bob", TenantAdmin, true),
        ("bob", TenantAdmin, true),
        ("bob", User, false),
        ("carol", User, true),
    ] {
        let made = make(&server, owner, role).await;
        assert_eq!(made.is_ok(), room, "{owner} {role:?} {made:?}");
    }
    let refused = make(&server, "alice", User).await;
    let refused = check_refused(refused, Code::ResourceExhausted, "API_KEY_LIMIT_EXCEEDED");
    assert_eq!(
        refused.message(),
        "API key limit exceeded: the owner has 4 of 2 keys; the limit for the role `user` is from default"
    );
    let numbers = refused.get_details_error_info().unwrap().metadata;
    for (name, value) in [
        ("scope", "owner"),
        ("limit", "2"),
        ("current", "4"),
        ("role", "user"),
        ("source", "default"),
    ] {
        assert_eq!(numbers[name], value, "{name}");
    }
    let (code, message) = import(&server, "alice", "a-token-of-another-system").await;
    assert_eq!(code, Code::ResourceExhausted, "{message}");
    // A revoked key makes room.
    let key = make(&server, "dora", User).await.unwrap();
    make(&server, "dora", User).await.unwrap();
    make(&server, "dora", User).await.unwrap_err();
    let request = pb::RevokeKeyRequest {
        name: key.name,
        ..pb::RevokeKeyRequest::default()
    };
    server.keys(ROOT).revoke_key(request).await.unwrap();
    make(&server, "dora", User).await.unwrap();
}

#[tokio::test]
async fn all_tenants_together_have_no_more_keys_than_the_override_allows() {
    let server = server().await.with_tenant("other").await;
    // Three keys each were made with the two tenants.
    server.registry.set_key_rules(KeyRules {
        global_override: Some(GlobalOverride {
            limits: KeyLimits::default(),
            max_total: Some(8),
        }),
        ..small()
    });
    make(&server, "alice", pb::Role::User).await.unwrap();
    let other = new_key("other", "alice", pb::Role::User);
    server.keys(ROOT).create_key(other).await.unwrap();
    let refused = make(&server, "bob", pb::Role::User).await;
    let refused = check_refused(refused, Code::ResourceExhausted, "API_KEY_LIMIT_EXCEEDED");
    assert_eq!(
        refused.message(),
        "API key limit exceeded: the platform has 8 of 8 keys"
    );
    let numbers = refused.get_details_error_info().unwrap().metadata;
    assert_eq!(numbers["source"], "global_override");
}

#[tokio::test]
async fn switched_off_nobody_makes_keys_and_those_there_are_stay() {
    let server = server().await;
    let key = make(&server, "alice", pb::Role::User).await.unwrap();
    server.registry.set_key_rules(KeyRules {
        enabled: false,
        ..KeyRules::default()
    });
    let refused = make(&server, "alice", pb::Role::User).await;
    check_refused(refused, Code::FailedPrecondition, "API_KEYS_DISABLED");
    let (code, _) = import(&server, "alice", "a-token-of-another-system").await;
    assert_eq!(code, Code::FailedPrecondition);
    let request = pb::GetKeyRequest { name: key.name };
    server.keys(ROOT).get_key(request).await.unwrap();
}

#[tokio::test]
async fn an_expiry_is_held_to_its_days_to_the_second() {
    let server = server().await;
    let rules = |enforce| KeyRules {
        expiry: ExpiryRules {
            enforce,
            min_days: 2,
            max_days: 30,
        },
        ..KeyRules::default()
    };
    // A minute either way is more than a call takes.
    for (enforce, seconds, allowed) in [
        (false, None, true),
        (true, None, false),
        (true, Some(2 * DAY + 60), true),
        (true, Some(2 * DAY - 1), false),
        (false, Some(2 * DAY - 1), false),
        (true, Some(30 * DAY), true),
        (true, Some(30 * DAY + 60), false),
        (false, Some(30 * DAY + 60), false),
        (false, Some(-1), false),
    ] {
        server.registry.set_key_rules(rules(enforce));
        let mut request = new_key(
            "platform",
            &format!("o{seconds:?}{enforce}").replace(['(', ')'], ""),
            pb::Role::User,
        );
        let now = SystemClock.now().as_millis() / 1000;
        request.key.as_mut().unwrap().expire_time = seconds.map(|after| prost_types::Timestamp {
            seconds: now + after,
            nanos: 0,
        });
        let made = server.keys(ROOT).create_key(request).await;
        if allowed {
            made.unwrap_or_else(|error| panic!("{enforce} {seconds:?}: {error}"));
            continue;
        }
        let refused = check_refused(made, Code::InvalidArgument, "API_KEY_EXPIRY_INVALID");
        assert_eq!(super::bad_fields(&refused), ["key.expire_time"]);
        let message = refused.message();
        assert!(
            message.starts_with("API key expiry validation failed: "),
            "{message}"
        );
        if seconds != Some(-1) {
            let numbers = refused.get_details_error_info().unwrap().metadata;
            assert_eq!(numbers["min_expiry_days"], "2");
            assert_eq!(numbers["max_expiry_days"], "30");
            assert!(
                message.contains("at least 2 days and at most 30 days"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn a_limit_is_set_lowered_and_removed_again_at_run_time() {
    let server = server().await;
    let configured = KeyLimits {
        user: Some(5),
        tenant_admin: None,
        global_admin: None,
    };
    server.registry.set_key_rules(KeyRules {
        tenants: [(id("platform"), configured)].into(),
        ..small()
    });
    let admin = "platform-tenant_admin";
    let at = |value, source| {
        vec![
            ("max_keys_per_user", value, source),
            ("max_keys_per_tenant_admin", 3, "default"),
            ("max_keys_per_global_admin", 4, "default"),
        ]
    };
    let first = get(&server, admin, "platform").await.unwrap();
    assert_eq!(effective(&first), at(5, "tenant_config"));
    assert_eq!(first.configured.unwrap().max_keys_per_user, Some(5));
    for _ in 0..3 {
        make(&server, "alice", pb::Role::User).await.unwrap();
    }
    // Lower than what is there: the keys stay, the next is refused.
    let lowered = set(&server, admin, "platform", Some(1)).await.unwrap();
    assert_eq!(effective(&lowered), at(1, "tenant_runtime"));
    assert_eq!(lowered.max_keys_per_user, Some(1));
    assert_ne!(lowered.etag, first.etag);
    let refused = make(&server, "alice", pb::Role::User).await.unwrap_err();
    assert!(
        refused
            .message()
            .contains("3 of 1 keys; the limit for the role `user` is from tenant_runtime"),
        "{refused}"
    );
    let request = pb::ListKeysRequest {
        parent: "tenants/platform".into(),
        filter: "owner = alice".into(),
        ..pb::ListKeysRequest::default()
    };
    let keys = server.keys(ROOT).list_keys(request).await.unwrap();
    assert_eq!(keys.into_inner().keys.len(), 3);
    // Another's etag.
    let stale = pb::UpdateKeyLimitsRequest {
        key_limits: Some(pb::KeyLimits {
            etag: first.etag,
            ..lowered
        }),
        update_mask: Some(FieldMask {
            paths: vec!["*".into()],
        }),
    };
    let stale = server.limits(admin).update_key_limits(stale).await;
    check_refused(stale, Code::Aborted, "ETAG_MISMATCH");
    // Removed: the configuration holds again, and the same again changes nothing.
    let removed = set(&server, admin, "platform", None).await.unwrap();
    assert_eq!(effective(&removed), at(5, "tenant_config"));
    assert_eq!(removed.max_keys_per_user, None);
    let again = set(&server, admin, "platform", None).await.unwrap();
    assert_eq!(again.etag, removed.etag);
    make(&server, "alice", pb::Role::User).await.unwrap();
    // A user sees what holds, and not what it is made of.
    let seen = get(&server, "platform-user", "platform").await.unwrap();
    assert_eq!(effective(&seen), at(5, "tenant_config"));
    assert!(seen.configured.is_none() && seen.etag.is_empty());
    assert_eq!(seen.configuration.unwrap().max_expiry_days, 365);
}

#[tokio::test]
async fn limits_are_changed_by_whom_the_role_and_both_switches_allow() {
    let server = server().await.with_tenant("own").await;
    let tenants_off = Err((Code::PermissionDenied, "TENANT_OVERRIDE_DISABLED"));
    let all_off = Err((Code::PermissionDenied, "ADMIN_OVERRIDE_DISABLED"));
    let denied = Err((Code::PermissionDenied, "PERMISSION_DENIED"));
    let hidden = Err((Code::NotFound, "TENANT_NOT_FOUND"));
    // allow_tenant_override, allow_admin_override; then the outcome for each role on its own and the other tenant.
    for (tenant, admin, user, tenant_admin, global_admin) in [
        (true, true, denied, Ok(()), Ok(())),
        (false, true, denied, tenants_off, Ok(())),
        (true, false, denied, all_off, all_off),
        (false, false, denied, all_off, all_off),
    ] {
        server.registry.set_key_rules(KeyRules {
            allow_tenant_override: tenant,
            allow_admin_override: admin,
            ..small()
        });
        for (role, on_own, on_other) in [
            ("user", user, hidden),
            ("tenant_admin", tenant_admin, hidden),
            ("global_admin", global_admin, global_admin),
        ] {
            for (target, expected) in [("own", on_own), ("platform", on_other)] {
                let done = set(&server, &format!("own-{role}"), target, Some(9)).await;
                let found = done.map(drop).map_err(|status| {
                    let info = status.get_details_error_info().unwrap();
                    (status.code(), info.reason)
                });
                let expected = expected.map_err(|(code, word): (_, &str)| (code, word.to_owned()));
                assert_eq!(found, expected, "{tenant} {admin} {role} {target}");
            }
        }
    }
    let refused = set(&server, "own-global_admin", "own", Some(3))
        .await
        .unwrap_err();
    assert!(
        refused.message().ends_with("the limits stay 9/3/4"),
        "{refused}"
    );
}

#[tokio::test]
async fn every_bad_limit_is_named_at_once() {
    let server = server().await;
    let request = pb::UpdateKeyLimitsRequest {
        key_limits: Some(pb::KeyLimits {
            name: "tenants/platform/keyLimits".into(),
            max_keys_per_user: Some(0),
            max_keys_per_tenant_admin: Some(100_001),
            max_keys_per_global_admin: Some(100_000),
            ..pb::KeyLimits::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["*".into()],
        }),
    };
    let refused = server.limits(ROOT).update_key_limits(request).await;
    let refused = check_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    let fields = [
        "key_limits.max_keys_per_user",
        "key_limits.max_keys_per_tenant_admin",
    ];
    assert_eq!(super::bad_fields(&refused), fields);
}

#[tokio::test]
async fn the_system_configuration_is_shown_with_its_permissions() {
    let server = server().await;
    server.registry.set_key_rules(KeyRules {
        tenants: [(
            id("acme"),
            KeyLimits {
                user: Some(7),
                ..KeyLimits::default()
            },
        )]
        .into(),
        ..KeyRules::default()
    });
    let request = pb::GetSystemConfigRequest {};
    let config = server
        .limits(ROOT)
        .get_system_config(request)
        .await
        .unwrap()
        .into_inner();
    assert!(config.enabled && config.allow_tenant_override && config.allow_admin_override);
    assert_eq!(
        config.default_limits.unwrap().max_keys_per_tenant_admin,
        Some(25)
    );
    assert_eq!(config.tenant_limits[0].tenant_id, "acme");
    assert_eq!(config.global_limits_override, None);
    let expiry = config.expiry_settings.unwrap();
    assert_eq!(
        (
            expiry.min_expiry_days,
            expiry.max_expiry_days,
            expiry.enforce_expiry
        ),
        (1, 365, false)
    );
    let permissions: Vec<_> = config
        .permissions
        .iter()
        .map(|one| (one.role.as_str(), one.permission.as_str()))
        .collect();
    assert_eq!(
        permissions,
        [
            ("user", "apikey.manage"),
            ("tenant_admin", "apikey.admin"),
            ("global_admin", "apikey.global_admin")
        ]
    );
}
