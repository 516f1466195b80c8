//! Keys with less than their role gives: those that do not open this API, those that act on themselves alone, and tokens
//! that a rotation has replaced. Every RPC of the schema, by each of them.

use std::time::Duration;

use keystile::domain::change::Actor;
use keystile::domain::governance::KeyRules;
use keystile::domain::key::Key;
use keystile::domain::name::{KeyId, TenantId};
use keystile::domain::role::AdminAccess;
use keystile::proto::admin as pb;
use tonic::{Code, Status};

use super::isolation::{TABLE, call};
use super::server::AdminServer;
use super::{ROOT, check_refused, create_key, server};
use crate::support::generous_rules;

/// A key of the tenant `own`: its token, by which the server knows its holder.
struct Holder {
    server: AdminServer,
    token: &'static str,
    key: pb::Key,
}

/// With which of its tokens and with what right the key calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    None,
    Itself,
    OldToken,
}

impl Holder {
    /// A global admin's key: no role stands in the way of what it is refused.
    async fn new(with: With) -> Self {
        let server = AdminServer::start().await.with_tenant("own").await;
        let token = "own-global_admin";
        let key = server.own_key(token).await;
        let tenant = TenantId::parse("own").unwrap();
        let id = KeyId::parse(&key.key_id).unwrap();
        let registry = &server.registry;
        let access = match with {
            With::None => AdminAccess::None,
            With::Itself => AdminAccess::Itself,
            With::OldToken => AdminAccess::Role,
        };
        let narrow = |key: &mut Key| key.admin_access = access;
        let note = String::new();
        let narrowed = registry.update_key(&Actor::Operator, &tenant, &id, None, note, narrow);
        narrowed.await.unwrap();
        if with == With::OldToken {
            let hour = Duration::from_secs(3600);
            let rotated = registry.rotate_key(&Actor::Operator, &tenant, &id, hour, None, None);
            rotated.await.unwrap();
        }
        Self { server, token, key }
    }

    /// What becomes of each thing that it may do to the key of this name.
    async fn on(&self, name: &str) -> [Result<(), Status>; 4] {
        let mut keys = self.server.keys(self.token);
        let name = || name.to_owned();
        let rotate = pb::RotateKeyRequest {
            name: name(),
            grace: prost_types::Duration::try_from(Duration::from_secs(60)).ok(),
            ..Default::default()
        };
        let renamed = pb::UpdateKeyRequest {
            key: Some(pb::Key {
                name: name(),
                description: "changed".into(),
                ..pb::Key::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["description".into()],
            }),
        };
        let revoke = pb::RevokeKeyRequest {
            name: name(),
            ..Default::default()
        };
        [
            keys.get_key(pb::GetKeyRequest { name: name() })
                .await
                .map(drop),
            keys.update_key(renamed).await.map(drop),
            keys.rotate_key(rotate).await.map(drop),
            keys.revoke_key(revoke).await.map(drop),
        ]
    }
}

fn is_closed(answer: &Result<(), Status>) -> bool {
    matches!(answer, Err(status) if status.code() == Code::PermissionDenied)
}

#[tokio::test]
async fn a_key_without_its_roles_rights_is_refused_by_every_rpc_that_is_not_about_itself() {
    for with in [With::None, With::Itself, With::OldToken] {
        for (rpc, ..) in TABLE {
            let holder = Holder::new(with).await;
            let answer = call(&holder.server, rpc, holder.token, "own").await;
            // What each holder may do to itself is below; the token of this world is no key's, so nothing waits for it.
            let about_itself = *rpc == "RevokeSelf" || *rpc == "ClaimKey" && with != With::None;
            assert_eq!(is_closed(&answer), !about_itself, "{rpc}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_key_that_may_act_on_itself_alone_reads_rotates_and_revokes_itself_and_no_other() {
    for (with, itself) in [
        (With::None, [false, false, false, false]),
        (With::Itself, [true, false, true, true]),
        (With::OldToken, [true, false, false, true]),
    ] {
        let holder = Holder::new(with).await;
        let other = holder.server.own_key("own-user").await.name;
        for answer in holder.on(&other).await {
            assert!(is_closed(&answer), "{with:?}: {answer:?}");
        }
        let own = holder.on(&holder.key.name).await;
        assert_eq!(
            own.each_ref().map(Result::is_ok),
            itself,
            "{with:?} {own:?}"
        );
        for answer in own.iter().filter(|answer| answer.is_err()) {
            // A rotation makes the calling token an old one, and a revoked key opens nothing.
            assert!(is_closed(answer), "{with:?}: {answer:?}");
        }
    }
}

/// The server that a token opened before a change does not open after it, whatever is cached.
#[tokio::test]
async fn a_key_that_was_revoked_or_expired_since_it_was_recognised_opens_nothing() {
    let server = AdminServer::start().await.with_tenant("own").await;
    let mut root = server.keys("own-global_admin");
    let own = server.own_key("own-user").await;
    let revoke = pb::RevokeKeyRequest {
        name: own.name.clone(),
        ..Default::default()
    };
    root.revoke_key(revoke).await.unwrap();
    let get = pb::GetKeyRequest { name: own.name };
    let refused = server.keys("own-user").get_key(get).await;
    check_refused(refused, Code::Unauthenticated, "INVALID_API_KEY");
}

/// Who rotates its own key and loses the answer gets it again; who has the old token and not the request does not.
#[tokio::test]
async fn an_old_token_is_given_the_next_one_only_for_the_request_that_replaced_it() {
    let server = server().await;
    let own = server.own_key("platform-user").await;
    let mut keys = server.keys("platform-user");
    let rotate = |request_id: &str| pb::RotateKeyRequest {
        name: own.name.clone(),
        grace: prost_types::Duration::try_from(Duration::from_secs(3600)).ok(),
        request_id: request_id.into(),
        ..Default::default()
    };
    let ours = rotate("f81d4fae-7dec-4d0a-a765-00a0c91e6bf6");
    let first = keys.rotate_key(ours.clone()).await.unwrap().into_inner();
    let again = keys.rotate_key(ours).await.unwrap().into_inner();
    assert_eq!(first, again);
    for other in [rotate("0b2d4fae-7dec-4d0a-a765-00a0c91e6bf6"), rotate("")] {
        let refused = keys.rotate_key(other).await;
        check_refused(refused, Code::PermissionDenied, "PERMISSION_DENIED");
    }
    let mut root = server.keys(ROOT);
    let name = own.name.clone();
    let shown = root.get_key(pb::GetKeyRequest { name }).await.unwrap();
    assert_eq!(shown.into_inner().generation, 2, "nobody took the key over");
}

#[tokio::test]
async fn a_key_has_the_access_that_it_is_given_or_that_the_rules_say() {
    let server = server().await;
    server.registry.set_key_rules(KeyRules {
        default_admin_access: AdminAccess::None,
        ..generous_rules()
    });
    let mut keys = server.keys(ROOT);
    use pb::AdminAccess::{None, Role, Self_, Unspecified};
    for (role, asked, given) in [
        (pb::Role::User, Unspecified, None),
        (pb::Role::User, Self_, Self_),
        (pb::Role::User, Role, Role),
        (pb::Role::TenantAdmin, Unspecified, Role),
        (pb::Role::TenantAdmin, None, None),
        (pb::Role::GlobalAdmin, Unspecified, Role),
    ] {
        let mut request = create_key("platform", "ci");
        let key = request.key.as_mut().unwrap();
        key.set_role(role);
        key.set_admin_access(asked);
        let made = keys.create_key(request).await.unwrap().into_inner();
        let key = made.key.unwrap();
        assert_eq!(key.admin_access(), given, "{role:?} {asked:?}");
    }
    // Both what is made and what is changed is in the audit.
    let notes = server.notes("key.created").await;
    assert!(
        notes.contains(&"role user, admin_access self".to_owned()),
        "{notes:?}"
    );
    let key = server.own_key("platform-user").await;
    let mut update = pb::UpdateKeyRequest {
        key: Some(key),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["admin_access".into()],
        }),
    };
    update.key.as_mut().unwrap().set_admin_access(Self_);
    let changed = keys.update_key(update).await.unwrap().into_inner();
    assert_eq!(changed.admin_access(), Self_);
    let notes = server.notes("key.updated").await;
    assert_eq!(notes, ["admin_access; admin_access role -> self"]);
    let listed = keys
        .list_keys(pb::ListKeysRequest {
            parent: "tenants/platform".into(),
            filter: "admin_access = SELF".into(),
            ..Default::default()
        })
        .await;
    assert_eq!(listed.unwrap().into_inner().keys.len(), 2);
}
