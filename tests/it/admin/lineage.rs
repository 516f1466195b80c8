//! Keys that keys make: they have no more than what made them, say by whom they were made, and go with it.

use std::collections::BTreeSet;

use keystile::admin::caller::{Credential, Identity};
use keystile::domain::name::{Issuer, KeyId, Owner, Scope, Subject, TenantId};
use keystile::domain::role::Role;
use keystile::proto::admin as pb;
use keystile::proto::admin::batch_create_keys_result::Result as Created;
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::server::AdminServer;
use super::{ROOT, bad_fields, check_refused, server};

const HOUR: i64 = 3600;

/// A key of alice's in `platform`, with which the server knows her by its token.
async fn given(server: &AdminServer, caller: &str, token: &str, key: pb::Key) -> pb::Key {
    let made = make(server, caller, key).await.unwrap();
    let id = KeyId::parse(&made.key_id).unwrap();
    let identity = Identity {
        role: Role::User,
        credential: Credential::Key {
            tenant: TenantId::parse("platform").unwrap(),
            key: id,
            generation: 1,
            owner: Owner::parse("alice").unwrap(),
        },
    };
    server.recognise(token, Ok(identity));
    made
}

fn alices() -> pb::Key {
    pb::Key {
        display_name: "svc".into(),
        owner: "alice".into(),
        ..pb::Key::default()
    }
}

fn lasting(seconds: i64) -> pb::Key {
    pb::Key {
        ttl: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..alices()
    }
}

fn request(key: pb::Key) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        parent: "tenants/platform".into(),
        key: Some(key),
        ..pb::CreateKeyRequest::default()
    }
}

async fn make(server: &AdminServer, caller: &str, key: pb::Key) -> Result<pb::Key, Status> {
    let made = server.keys(caller).create_key(request(key)).await?;
    Ok(made.into_inner().key.unwrap())
}

async fn shown(server: &AdminServer, key: &pb::Key) -> pb::Key {
    let name = key.name.clone();
    let get = server.keys(ROOT).get_key(pb::GetKeyRequest { name }).await;
    get.unwrap().into_inner()
}

async fn renew(
    server: &AdminServer,
    caller: &str,
    key: &pb::Key,
    seconds: i64,
) -> Result<(), Status> {
    let request = pb::RenewKeyRequest {
        name: key.name.clone(),
        ttl: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    server.keys(caller).renew_key(request).await.map(drop)
}

/// With a day to live, a key makes one that never expires, or gets a token of one.
#[tokio::test]
async fn a_users_key_makes_renews_and_rotates_no_key_that_outlives_it() {
    let server = server().await;
    let own = given(&server, ROOT, "alice", lasting(2 * HOUR)).await;
    let end = own.expire_time;
    let unsaid = given(&server, "alice", "unsaid", alices()).await;
    assert_eq!(unsaid.expire_time, end, "inherited");
    for longer in [lasting(3 * HOUR), lasting(4 * HOUR)] {
        let refused = make(&server, "alice", longer.clone()).await;
        let status = check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
        assert_eq!(bad_fields(&status), ["key.expire_time"]);
        let batch = pb::BatchCreateKeysRequest {
            parent: "tenants/platform".into(),
            requests: vec![request(longer)],
        };
        let answer = server.keys("alice").batch_create_keys(batch).await.unwrap();
        let result = answer.into_inner().results.remove(0).result.unwrap();
        assert!(matches!(result, Created::Error(_)), "{result:?}");
    }
    let exactly = pb::Key {
        expire_time: end,
        ..alices()
    };
    make(&server, "alice", exactly).await.unwrap();
    let child = given(&server, "alice", "child", lasting(HOUR)).await;
    // Its child is renewed to its own end and no further, by whichever key of hers; so is the child by itself.
    let endless = given(&server, ROOT, "endless", alices()).await;
    for caller in ["alice", "child", "endless"] {
        let refused = renew(&server, caller, &child, 5 * HOUR).await;
        let status = check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
        assert_eq!(bad_fields(&status), ["expire_time"], "{caller}");
    }
    renew(&server, "alice", &child, HOUR + 60).await.unwrap();
    // Nor does it get a token of one that lives longer.
    let rotate = pb::RotateKeyRequest {
        name: endless.name.clone(),
        ..Default::default()
    };
    let refused = server.keys("alice").rotate_key(rotate).await;
    let status = check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(bad_fields(&status), ["key.expire_time"]);
}

#[tokio::test]
async fn a_user_cannot_lift_what_an_admin_has_forbidden_another_key_of_its_own() {
    let server = server().await;
    let strong = pb::Key {
        scopes: vec!["read".into(), "write".into()],
        features: Some(pb::FeatureList {
            names: vec!["images".into()],
        }),
        allow_cidrs: vec!["10.0.0.0/8".into()],
        admin_access: pb::AdminAccess::None.into(),
        quota: "5/day".into(),
        ..alices()
    };
    let strong = make(&server, ROOT, strong).await.unwrap();
    given(
        &server,
        ROOT,
        "weak",
        pb::Key {
            scopes: vec!["read".into()],
            ..alices()
        },
    )
    .await;
    jwt(&server, "jwt");
    for caller in ["weak", "jwt"] {
        for path in ["features", "allow_cidrs", "admin_access", "quota", "rate"] {
            let lifted = pb::Key {
                name: strong.name.clone(),
                admin_access: pb::AdminAccess::Role.into(),
                ..pb::Key::default()
            };
            let request = pb::UpdateKeyRequest {
                key: Some(lifted),
                update_mask: Some(FieldMask {
                    paths: vec![path.into()],
                }),
            };
            let refused = server.keys(caller).update_key(request).await;
            check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
        }
    }
    assert_eq!(shown(&server, &strong).await.etag, strong.etag);
}

fn jwt(server: &AdminServer, token: &str) {
    let scopes: BTreeSet<Scope> = ["read", "write"]
        .map(|text| Scope::parse(text).unwrap())
        .into();
    let identity = Identity {
        role: Role::User,
        credential: Credential::Jwt {
            issuer: Issuer::parse("https://issuer.example").unwrap(),
            subject: Subject::parse("alice").unwrap(),
            tenant: Some(TenantId::parse("platform").unwrap()),
            owner: Some(Owner::parse("alice").unwrap()),
            scopes,
        },
    };
    server.recognise(token, Ok(identity));
}

/// A user whose key was given five requests a day asks its issuer for a JWT, and makes a key without limits with it.
#[tokio::test]
async fn a_user_with_a_jwt_makes_keys_within_the_limits_that_its_keys_were_given() {
    let server = server().await;
    jwt(&server, "jwt");
    let limited = pb::Key {
        quota: "5/day".into(),
        ..alices()
    };
    let given = make(&server, ROOT, limited.clone()).await.unwrap();
    for revoked in [false, true] {
        if revoked {
            let name = given.name.clone();
            let revoke = pb::RevokeKeyRequest {
                name,
                ..Default::default()
            };
            server.keys("jwt").revoke_key(revoke).await.unwrap();
        }
        let refused = make(&server, "jwt", alices()).await;
        let status = check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
        assert_eq!(bad_fields(&status), ["key.rate"]);
        let made = make(&server, "jwt", limited.clone()).await.unwrap();
        assert_eq!(made.created_by, "jwt:https://issuer.example alice");
    }
}

#[tokio::test]
async fn what_an_admin_takes_from_a_key_is_taken_from_what_it_has_made() {
    let server = server().await;
    let wide = pb::Key {
        scopes: vec!["read".into(), "write".into()],
        ..alices()
    };
    let own = given(&server, ROOT, "alice", wide.clone()).await;
    let child = given(&server, "alice", "child", wide.clone()).await;
    let below = make(&server, "child", wide).await.unwrap();
    let request = pb::UpdateKeyRequest {
        key: Some(pb::Key {
            name: own.name,
            scopes: vec!["read".into()],
            allow_cidrs: vec!["10.0.0.0/8".into()],
            quota: "5/day".into(),
            ..pb::Key::default()
        }),
        update_mask: Some(FieldMask {
            paths: ["scopes", "allow_cidrs", "quota"].map(Into::into).into(),
        }),
    };
    server.keys(ROOT).update_key(request).await.unwrap();
    for key in [child, below] {
        let now = shown(&server, &key).await;
        assert_eq!(now.scopes, ["read"]);
        assert_eq!(now.allow_cidrs, ["10.0.0.0/8"]);
        assert_eq!(now.quota, "5/day");
    }
}

#[tokio::test]
async fn a_key_says_who_made_it_and_is_revoked_with_it() {
    let server = server().await;
    let own = given(&server, ROOT, "alice", alices()).await;
    let child = given(&server, "alice", "child", alices()).await;
    let below = make(&server, "child", alices()).await.unwrap();
    let beside = make(&server, ROOT, alices()).await.unwrap();
    assert_eq!(own.created_by, server.own_key(ROOT).await.name);
    assert_eq!(child.created_by, own.name);
    assert_eq!(below.created_by, child.name);
    let revoke = |cascade| pb::RevokeKeyRequest {
        name: own.name.clone(),
        cascade,
        ..Default::default()
    };
    let mut root = server.keys(ROOT);
    let alone = root.revoke_key(revoke(false)).await.unwrap().into_inner();
    assert_eq!(alone.also_revoked_count, 0);
    assert_eq!(shown(&server, &child).await.state(), pb::KeyState::Active);
    // What stopped half way is gone on with, through keys that are revoked already.
    let middle = pb::RevokeKeyRequest {
        name: child.name.clone(),
        ..Default::default()
    };
    root.revoke_key(middle).await.unwrap();
    let again = root.revoke_key(revoke(true)).await.unwrap().into_inner();
    assert_eq!(again.also_revoked_count, 1);
    for key in [&own, &child, &below] {
        assert_eq!(shown(&server, key).await.state(), pb::KeyState::Revoked);
    }
    assert_eq!(shown(&server, &beside).await.state(), pb::KeyState::Active);
    let last = root.revoke_key(revoke(true)).await.unwrap().into_inner();
    assert_eq!(last.also_revoked_count, 0);
}

/// A stolen key of an admin makes keys wherever it may.
#[tokio::test]
async fn what_a_global_admins_key_has_made_in_other_tenants_is_revoked_with_it() {
    let server = server().await.with_tenant("acme").await;
    let own = server.own_key("acme-global_admin").await;
    let made = make(&server, "acme-global_admin", alices()).await.unwrap();
    assert_eq!(
        made.created_by, "global_admin",
        "not which, nor of which tenant"
    );
    let revoke = pb::RevokeKeyRequest {
        name: own.name,
        cascade: true,
        ..Default::default()
    };
    let done = server.keys(ROOT).revoke_key(revoke).await.unwrap();
    assert_eq!(done.into_inner().also_revoked_count, 1);
    assert_eq!(shown(&server, &made).await.state(), pb::KeyState::Revoked);
}
