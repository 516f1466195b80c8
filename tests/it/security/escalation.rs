//! Nobody gets more than they have: not by role, scope, feature, limit or metadata, nor by a field that is not for them
//! to write, whatever it is called and however often.

use std::collections::BTreeMap;

use keystile::proto::FILE_DESCRIPTOR_SET;
use keystile::proto::admin as pb;
use prost_reflect::DescriptorPool;
use prost_types::FieldMask;
use serde_json::json;
use tonic::Code;

use super::{keys, make, new_key, root, tenant, tenants};
use crate::rest::{KEYS, LIMITS, PLACE, ask, check_refused, send};

fn post(body: &str) -> Vec<u8> {
    let token = &PLACE.alice;
    format!(
        "POST {KEYS} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Every field of a key, a tenant and their requests that REST has no name for, in both spellings.
#[test]
fn rest_takes_no_field_that_it_does_not_name() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let messages = [
        "Key",
        "Tenant",
        "CreateKeyRequest",
        "ImportKeyRequest",
        "UpdateKeyRequest",
    ];
    let mut names: Vec<String> = Vec::new();
    for message in messages {
        let message = pool.get_message_by_name(&format!("keystile.admin.v1.{message}"));
        for field in message.unwrap().fields() {
            names.extend([field.name().to_owned(), field.json_name().to_owned()]);
        }
    }
    names.extend(["__proto__", "constructor", "Name", "OWNER", "is_admin", ""].map(Into::into));
    let known = ["name", "description", "expires_at", "scopes", "owner"];
    names.retain(|name| !known.contains(&name.as_str()));
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        for value in [
            json!("global_admin"),
            json!(3),
            json!(null),
            json!({}),
            json!(["*"]),
        ] {
            let body = json!({"name": "mass", &name: value});
            check_refused(send(&post(&body.to_string())), 400, "MALFORMED_REQUEST");
        }
    }
    // Beside them, what it names is taken.
    let body = json!({"name": "plain", "description": null, "expires_at": null, "scopes": null, "owner": null});
    assert_eq!(send(&post(&body.to_string())).0.status, 201);
}

#[test]
fn a_field_that_is_there_twice_is_refused_however_it_is_written() {
    for body in [
        r#"{"name":"a","owner":"alice","owner":"bob"}"#,
        r#"{"name":"a","scopes":["read"],"scopes":["admin"]}"#,
        r#"{"name":"a","n\u0061me":"b"}"#,
        r#"{"name":"a","\u006eame":"b"}"#,
        r#"[{"name":"a"}]"#,
        r#"["a",null,null,["read"],"alice"]"#,
        r#"{"name":"a"} {"name":"b"}"#,
        r#"{"name":"a"},"#,
        "{\"name\":\"a\"}\0",
        "\u{feff}{\"name\":\"a\"}",
        r#"{"name":"a","scopes":NaN}"#,
        r#"{"name":"a",/* owner */"owner":"alice"}"#,
        r#"{'name':'a'}"#,
        r#"{"name":"\ud800"}"#,
    ] {
        check_refused(send(&post(body)), 400, "MALFORMED_REQUEST");
    }
    assert_eq!(
        send(&post(r#"{"n\u0061me":"a"}"#)).0.status,
        201,
        "one way to write it"
    );
}

/// A tenant's admin writes the limits of its tenant and nothing beside them.
#[tokio::test]
async fn limits_over_rest_take_no_field_that_is_not_one() {
    tenant("rest-limits", pb::Tenant::default()).await;
    let (_, boss) = make("rest-limits", "boss", pb::Role::TenantAdmin).await;
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut names = Vec::new();
    for message in [
        "KeyLimits",
        "LimitConfiguration",
        "SystemConfig",
        "GlobalKeyLimits",
    ] {
        let message = pool.get_message_by_name(&format!("keystile.admin.v1.{message}"));
        for field in message.unwrap().fields() {
            names.extend([field.name().to_owned(), field.json_name().to_owned()]);
        }
    }
    names.retain(|name| !(name.starts_with("maxKeysPer")));
    assert!(names.len() > 30, "{names:?}");
    let before = ask("GET", LIMITS, &boss, None).1;
    for name in names {
        let body = json!({"maxKeysPerUser": 9, &name: true});
        check_refused(
            ask("PUT", LIMITS, &boss, Some(&body)),
            400,
            "MALFORMED_REQUEST",
        );
    }
    assert_eq!(ask("GET", LIMITS, &boss, None).1, before);
    let body = json!({"maxKeysPerUser": 9});
    assert_eq!(ask("PUT", LIMITS, &boss, Some(&body)).0.status, 200);
}

/// Whoever makes a key over REST makes one of a user's, with no more than that user may hand on.
#[tokio::test]
async fn a_key_made_over_rest_is_a_users() {
    tenant("rest-roles", pb::Tenant::default()).await;
    for (owner, role) in [
        ("root", pb::Role::GlobalAdmin),
        ("boss", pb::Role::TenantAdmin),
        ("staff", pb::Role::User),
    ] {
        let (_, token) = make("rest-roles", owner, role).await;
        let (reply, made) = ask("POST", KEYS, &token, Some(&json!({"name": "made"})));
        assert_eq!(reply.status, 201, "{made}");
        let id = made["data"]["id"].as_str().unwrap();
        let name = format!("tenants/rest-roles/keys/{id}");
        let found = keys(root()).get_key(pb::GetKeyRequest { name }).await;
        let found = found.unwrap().into_inner();
        assert_eq!(
            (found.role(), found.owner.as_str()),
            (pb::Role::User, owner)
        );
        let token = made["data"]["api_key"].as_str().unwrap();
        let query = format!("{KEYS}?tenant_id=acme");
        check_refused(ask("GET", &query, token, None), 404, "TENANT_NOT_FOUND");
        let (_, made) = ask("POST", KEYS, token, Some(&json!({"name": "its own"})));
        assert_eq!(made["data"]["scopes"], json!([]));
        let wider = json!({"name": "wider", "scopes": ["read"]});
        check_refused(
            ask("POST", KEYS, token, Some(&wider)),
            403,
            "PERMISSION_DENIED",
        );
    }
}

/// A mask cannot name what does not change, nor reach what is above the caller; and nothing has changed afterwards.
#[tokio::test]
async fn no_mask_reaches_what_its_caller_may_not_change() {
    let plan = pb::Tenant {
        metadata: [("region".to_owned(), "eu".to_owned())].into(),
        ..pb::Tenant::default()
    };
    tenant("masks", plan).await;
    let (user, user_token) = make("masks", "staff", pb::Role::User).await;
    let (boss, boss_token) = make("masks", "boss", pb::Role::TenantAdmin).await;
    let (chief, _) = make("masks", "chief", pb::Role::GlobalAdmin).await;
    let wanted = |key: &pb::Key| pb::Key {
        name: key.name.clone(),
        owner: "root".into(),
        role: pb::Role::GlobalAdmin.into(),
        tenant_id: "acme".into(),
        kind: pb::KeyKind::Test.into(),
        scopes: vec!["read".into(), "admin".into()],
        rate: "1000000/s".into(),
        quota: "1000000/day".into(),
        expire_time: Some(prost_types::Timestamp {
            seconds: 99_999_999_999,
            nanos: 0,
        }),
        state: pb::KeyState::Active.into(),
        generation: 99,
        ..key.clone()
    };
    for (token, key, fields) in [
        (
            &user_token,
            &user,
            &[
                "owner",
                "role",
                "tenant_id",
                "kind",
                "expire_time",
                "state",
                "generation",
                "name",
                "scopes",
                "rate",
                "quota",
                "*",
                "Role",
                "role ",
                "key.role",
                "scopes.0",
                "metadata",
            ][..],
        ),
        (
            &boss_token,
            &boss,
            &[
                "owner",
                "role",
                "tenant_id",
                "expire_time",
                "state",
                "key_id",
                "etag",
            ],
        ),
        (&boss_token, &chief, &["description", "scopes", "*"]),
    ] {
        for field in fields {
            let request = pb::UpdateKeyRequest {
                key: Some(wanted(key)),
                update_mask: Some(FieldMask {
                    paths: vec![(*field).to_owned()],
                }),
            };
            let refused = keys(token).update_key(request).await;
            let code = refused
                .map(|_| Code::Ok)
                .unwrap_or_else(|status| status.code());
            assert!(
                matches!(
                    code,
                    Code::InvalidArgument | Code::PermissionDenied | Code::NotFound
                ),
                "{field}: {code:?}"
            );
        }
        let name = key.name.clone();
        let after = keys(root()).get_key(pb::GetKeyRequest { name }).await;
        assert_eq!(after.unwrap().into_inner(), *key, "nothing has changed");
    }
    // Metadata, features, plan and limits of the tenant are not a tenant's to write.
    for token in [&user_token, &boss_token] {
        for field in [
            "metadata",
            "features",
            "plan",
            "rate",
            "quota",
            "display_name",
            "*",
        ] {
            let request = pb::UpdateTenantRequest {
                tenant: Some(pb::Tenant {
                    name: "tenants/masks".into(),
                    metadata: BTreeMap::from([("role".to_owned(), "root".to_owned())])
                        .into_iter()
                        .collect(),
                    features: vec!["images".into()],
                    plan: "pro".into(),
                    rate: "1000000/s".into(),
                    ..pb::Tenant::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec![field.to_owned()],
                }),
            };
            let status = tenants(token).update_tenant(request).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{field}");
        }
    }
    let name = "tenants/masks".to_owned();
    let after = tenants(root())
        .get_tenant(pb::GetTenantRequest { name })
        .await;
    assert_eq!(
        after
            .unwrap()
            .into_inner()
            .metadata
            .get("region")
            .map(String::as_str),
        Some("eu")
    );
}

/// What is written into metadata, names and scopes is text: no right is read out of it.
#[tokio::test]
async fn words_that_sound_like_rights_are_none() {
    let words = [
        ("role", "global_admin"),
        ("apikey-global-admin", "true"),
        ("tenant-id", "acme"),
    ];
    let metadata = words.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let wished = pb::Tenant {
        display_name: "global_admin".into(),
        metadata: metadata.into(),
        features: vec!["global_admin".into()],
        ..pb::Tenant::default()
    };
    tenant("wishes", wished).await;
    let key = pb::Key {
        display_name: "global_admin".into(),
        description: "role: global_admin".into(),
        owner: "global_admin".into(),
        scopes: ["apikey.global_admin", "global_admin", "*", "apikey.admin"]
            .map(Into::into)
            .into(),
        ..pb::Key::default()
    };
    let made = keys(root())
        .create_key(new_key("wishes", key))
        .await
        .unwrap();
    let token = made.into_inner().plaintext;
    let list = pb::ListTenantsRequest::default();
    let status = tenants(&token).list_tenants(list).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    check_refused(
        ask("GET", &format!("{KEYS}?owner=boss"), &token, None),
        403,
        "PERMISSION_DENIED",
    );
    check_refused(
        ask("GET", &format!("{KEYS}?tenant_id=acme"), &token, None),
        404,
        "TENANT_NOT_FOUND",
    );
}
