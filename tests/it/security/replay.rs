//! A `request_id` is its caller's: whoever else sends it, with whatever content, gets nothing that was made for another.

use keystile::proto::admin as pb;
use tonic::Code;

use super::{delete, keys, make, new_key, root, tenant, tenants};

const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

fn create(tenant: &str) -> pb::CreateKeyRequest {
    let key = pb::Key {
        display_name: "replayed".into(),
        owner: "staff".into(),
        ..pb::Key::default()
    };
    pb::CreateKeyRequest {
        request_id: ID.into(),
        ..new_key(tenant, key)
    }
}

#[tokio::test]
async fn a_request_id_gives_its_answer_to_its_caller_alone() {
    tenant("replay", pb::Tenant::default()).await;
    tenant("replay-other", pb::Tenant::default()).await;
    let (_, boss) = make("replay", "boss", pb::Role::TenantAdmin).await;
    let (_, again) = make("replay", "boss", pb::Role::TenantAdmin).await;
    let (_, staff) = make("replay", "staff", pb::Role::User).await;
    let (_, stranger) = make("replay-other", "staff", pb::Role::TenantAdmin).await;
    let made = keys(&boss)
        .create_key(create("replay"))
        .await
        .unwrap()
        .into_inner();
    let (id, token) = (made.key.unwrap().key_id, made.plaintext);

    // The owner of the key that was made, another key of the very caller's owner, and the global admin.
    for other in [&staff, &again, root()] {
        let theirs = keys(other)
            .create_key(create("replay"))
            .await
            .unwrap()
            .into_inner();
        assert_ne!(theirs.plaintext, token);
        assert_ne!(theirs.key.unwrap().key_id, id);
    }
    // Another tenant's admin, in this tenant and in its own.
    let refused = keys(&stranger)
        .create_key(create("replay"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let theirs = keys(&stranger)
        .create_key(create("replay-other"))
        .await
        .unwrap();
    assert_ne!(theirs.into_inner().plaintext, token);
    // The caller itself in another tenant: the id does not reach across.
    let refused = keys(&boss)
        .create_key(create("replay-other"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    // In a batch, and as an import.
    let batch = pb::BatchCreateKeysRequest {
        parent: "tenants/replay".into(),
        requests: vec![pb::CreateKeyRequest {
            parent: String::new(),
            ..create("replay")
        }],
    };
    let answer = keys(&again)
        .batch_create_keys(batch)
        .await
        .unwrap()
        .into_inner();
    assert!(
        !format!("{answer:?}").contains(&token),
        "no token of another's"
    );
    // It is still the first caller's.
    let repeated = keys(&boss)
        .create_key(create("replay"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (repeated.plaintext, repeated.key.unwrap().key_id),
        (token, id)
    );
}

/// A tenant that is made again under an old name has no memory.
#[tokio::test]
async fn a_request_id_ends_with_its_tenant() {
    tenant("phoenix", pb::Tenant::default()).await;
    let first = keys(root()).create_key(create("phoenix")).await.unwrap();
    delete("phoenix").await;
    let gone = keys(root())
        .create_key(create("phoenix"))
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    tenant("phoenix", pb::Tenant::default()).await;
    let second = keys(root()).create_key(create("phoenix")).await.unwrap();
    assert_ne!(first.into_inner().plaintext, second.into_inner().plaintext);
}

/// The answer to an old request is no way back to a key that was taken away.
#[tokio::test]
async fn a_repeated_request_revives_nothing() {
    tenant("revive", pb::Tenant::default()).await;
    let made = keys(root())
        .create_key(create("revive"))
        .await
        .unwrap()
        .into_inner();
    let revoke = pb::RevokeKeyRequest {
        name: made.key.unwrap().name,
        ..pb::RevokeKeyRequest::default()
    };
    keys(root()).revoke_key(revoke).await.unwrap();
    if let Ok(repeated) = keys(root()).create_key(create("revive")).await {
        let key = repeated.into_inner().key.unwrap();
        assert_eq!(key.state(), pb::KeyState::Revoked);
    }
    let list = pb::ListKeysRequest {
        parent: "tenants/revive".into(),
        filter: "state = ACTIVE".into(),
        ..pb::ListKeysRequest::default()
    };
    let active = keys(root()).list_keys(list).await.unwrap().into_inner();
    assert_eq!(active.keys, []);
    let get = pb::GetTenantRequest {
        name: "tenants/revive".into(),
    };
    assert!(tenants(root()).get_tenant(get).await.is_ok());
}
