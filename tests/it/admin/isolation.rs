//! Every RPC, every role, own and other tenant: what is allowed, refused, or not even there.

use keystile::domain::governance::KeyRules;
use keystile::proto::admin as pb;
use prost::Message as _;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

mod table;

use super::server::AdminServer;
use crate::support::generous_rules;
use table::Outcome::{self, Allowed, Denied, Hidden};
pub(super) use table::TABLE;

/// RPCs of the schema that the table has no row for.
fn missing_rows() -> Vec<String> {
    let pool = prost_reflect::DescriptorPool::decode(keystile::proto::FILE_DESCRIPTOR_SET).unwrap();
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|method| method.name().to_owned())
        .filter(|name| !TABLE.iter().any(|(row, ..)| row == name))
        .collect()
}

#[test]
fn every_rpc_has_a_row() {
    assert_eq!(missing_rows(), Vec::<String>::new());
}

/// Whether tenant admins may change limits at run time, and whether anybody may.
#[derive(Clone, Copy, Debug)]
struct Overrides {
    tenants: bool,
    admins: bool,
}

/// The outcome of a row under these switches: they take away the right to change limits, and no other.
fn under(overrides: Overrides, rpc: &str, role: &str, expected: Outcome) -> Outcome {
    let may_change = overrides.admins && (overrides.tenants || role == "global_admin");
    match expected {
        Allowed if rpc == "UpdateKeyLimits" && !may_change => Denied,
        expected => expected,
    }
}

#[tokio::test]
async fn every_rpc_by_every_role_on_own_and_other_tenant_under_every_override_switch() {
    let switches = [(true, true), (false, true), (true, false), (false, false)];
    for (tenants, admins) in switches {
        every_row(Overrides { tenants, admins }).await;
    }
}

async fn every_row(overrides: Overrides) {
    for (rpc, user, tenant_admin, global_admin) in TABLE {
        let roles = [
            ("user", user),
            ("tenant_admin", tenant_admin),
            ("global_admin", global_admin),
        ];
        for (role, [own, other]) in roles {
            for (tenant, expected) in [("own", own), ("other", other)] {
                // A fresh server each time: an allowed call must not spoil the next.
                let server = AdminServer::start()
                    .await
                    .with_tenant("own")
                    .await
                    .with_tenant("other")
                    .await;
                server.registry.set_key_rules(KeyRules {
                    allow_tenant_override: overrides.tenants,
                    allow_admin_override: overrides.admins,
                    ..generous_rules()
                });
                let found = outcome(call(&server, rpc, &format!("own-{role}"), tenant).await);
                let expected = under(overrides, rpc, role, *expected);
                assert_eq!(
                    found, expected,
                    "{rpc} by {role} on {tenant}, {overrides:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_is_hidden_cannot_be_told_from_what_is_not_there() {
    let server = AdminServer::start()
        .await
        .with_tenant("own")
        .await
        .with_tenant("other")
        .await;
    for (rpc, ..) in TABLE.iter().filter(|(_, user, ..)| user[1] == Hidden) {
        for role in ["user", "tenant_admin"] {
            let token = format!("own-{role}");
            let hidden = call(&server, rpc, &token, "other").await.unwrap_err();
            let absent = call(&server, rpc, &token, "absent").await.unwrap_err();
            assert_eq!(
                (hidden.code(), hidden.message(), hidden.details()),
                (absent.code(), absent.message(), absent.details()),
                "{rpc} by {role}"
            );
        }
    }
}

fn outcome(answer: Result<(), Status>) -> Outcome {
    let Err(status) = answer else { return Allowed };
    assert!(status.get_details_error_info().is_some(), "{status}");
    match status.code() {
        Code::PermissionDenied => Denied,
        Code::NotFound => Hidden,
        other => panic!("{other:?}: {status}"),
    }
}

/// A key of the tenant that belongs to nobody who calls.
async fn some_key(server: &AdminServer, tenant: &str, role: pb::Role) -> String {
    let request = create_key(tenant, role);
    match server.keys("own-global_admin").create_key(request).await {
        Ok(made) => made.into_inner().key.unwrap().name,
        Err(_) => format!("tenants/{tenant}/keys/abcd2345"),
    }
}

fn create_key(tenant: &str, role: pb::Role) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        parent: format!("tenants/{tenant}"),
        key: Some(pb::Key {
            display_name: "made".into(),
            owner: "somebody".into(),
            role: role.into(),
            ..pb::Key::default()
        }),
        ..pb::CreateKeyRequest::default()
    }
}

fn role_of(rpc: &str) -> pb::Role {
    if rpc.ends_with("Admin") {
        pb::Role::GlobalAdmin
    } else {
        pb::Role::User
    }
}

/// The error of one request of a batch as the error of a call.
fn as_status(error: &tonic_types::Status) -> Status {
    let details = error.encode_to_vec().into();
    Status::with_details(Code::from_i32(error.code), error.message.clone(), details)
}

fn status_of_unknown(answer: &pb::VerifyKeyResponse) -> Status {
    assert!(!answer.valid);
    Status::with_error_details(
        Code::NotFound,
        answer.reason.clone(),
        tonic_types::ErrorDetails::with_error_info(
            answer.reason.clone(),
            "test",
            [(String::new(), String::new())],
        ),
    )
}

pub(super) async fn call(
    server: &AdminServer,
    rpc: &str,
    token: &str,
    tenant: &str,
) -> Result<(), Status> {
    let name = format!("tenants/{tenant}");
    let mut tenants = server.tenants(token);
    let mut keys = server.keys(token);
    let etag = String::new();
    match rpc {
        "CreateTenant" => {
            let tenant_id = format!("{tenant}-new");
            let request = pb::CreateTenantRequest {
                tenant_id,
                ..pb::CreateTenantRequest::default()
            };
            tenants.create_tenant(request).await.map(drop)
        }
        "GetTenant" => tenants
            .get_tenant(pb::GetTenantRequest { name })
            .await
            .map(drop),
        "ListTenants" => tenants
            .list_tenants(pb::ListTenantsRequest::default())
            .await
            .map(drop),
        "UpdateTenant" => {
            let request = pb::UpdateTenantRequest {
                tenant: Some(pb::Tenant {
                    name,
                    plan: "pro".into(),
                    ..pb::Tenant::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["plan".into()],
                }),
            };
            tenants.update_tenant(request).await.map(drop)
        }
        "SuspendTenant" => {
            let request = pb::SuspendTenantRequest {
                name,
                etag,
                reason: String::new(),
            };
            tenants.suspend_tenant(request).await.map(drop)
        }
        "ResumeTenant" => tenants
            .resume_tenant(pb::ResumeTenantRequest { name, etag })
            .await
            .map(drop),
        "DeleteTenant" => {
            let get = pb::GetTenantRequest { name: name.clone() };
            let current = server.tenants("own-global_admin").get_tenant(get).await;
            let etag = current
                .map(|tenant| tenant.into_inner().etag)
                .unwrap_or_default();
            tenants
                .delete_tenant(pb::DeleteTenantRequest { name, etag })
                .await
        }
        .map(drop),
        "CreateKey" => keys
            .create_key(create_key(tenant, pb::Role::User))
            .await
            .map(drop),
        "CreateAdmin" => keys
            .create_key(create_key(tenant, pb::Role::GlobalAdmin))
            .await
            .map(drop),
        "BatchCreateTenants" => {
            let request = pb::CreateTenantRequest {
                tenant_id: format!("{tenant}-new"),
                ..pb::CreateTenantRequest::default()
            };
            let requests = vec![request];
            let batch = pb::BatchCreateTenantsRequest { requests };
            let answer = tenants.batch_create_tenants(batch).await?.into_inner();
            match answer.results.into_iter().next().unwrap().result.unwrap() {
                pb::batch_create_tenants_result::Result::Tenant(_) => Ok(()),
                pb::batch_create_tenants_result::Result::Error(error) => Err(as_status(&error)),
            }
        }
        "BatchCreateKeys" | "BatchOfMany" => {
            let parent = match rpc {
                "BatchOfMany" => "tenants/-".to_owned(),
                _ => name,
            };
            let requests = vec![create_key(tenant, pb::Role::User)];
            let batch = pb::BatchCreateKeysRequest { parent, requests };
            let answer = keys.batch_create_keys(batch).await?.into_inner();
            match answer.results.into_iter().next().unwrap().result.unwrap() {
                pb::batch_create_keys_result::Result::Created(_) => Ok(()),
                pb::batch_create_keys_result::Result::Error(error) => Err(as_status(&error)),
            }
        }
        "ImportKeys" | "ImportAdmin" => {
            let role = match rpc {
                "ImportAdmin" => pb::Role::GlobalAdmin,
                _ => pb::Role::User,
            };
            let request = pb::ImportKeyRequest {
                key: create_key(tenant, role).key,
                token: "a-token-of-another-system".into(),
                ..pb::ImportKeyRequest::default()
            };
            let batch = pb::ImportKeysRequest {
                parent: name,
                requests: vec![request],
            };
            let answer = keys.import_keys(batch).await?.into_inner();
            match answer.results.into_iter().next().unwrap().result.unwrap() {
                pb::import_key_result::Result::Key(_) => Ok(()),
                pb::import_key_result::Result::Error(error) => Err(as_status(&error)),
            }
        }
        "UpdateKey" | "UpdateAdmin" => {
            let name = some_key(server, tenant, role_of(rpc)).await;
            let request = pb::UpdateKeyRequest {
                key: Some(pb::Key {
                    name,
                    description: "changed".into(),
                    ..pb::Key::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["description".into()],
                }),
            };
            keys.update_key(request).await.map(drop)
        }
        "RevokeAllKeys" | "RevokeAllOfOne" | "RevokeAllOfMine" => {
            use pb::revoke_all_keys_request::Scope;
            let request = pb::RevokeAllKeysRequest {
                parent: name,
                scope: Some(match rpc {
                    "RevokeAllKeys" => Scope::AllOwners(true),
                    "RevokeAllOfOne" => Scope::Owner("somebody".into()),
                    _ => Scope::Owner(format!("{}-owner", token.split_once('-').unwrap().1)),
                }),
                ..pb::RevokeAllKeysRequest::default()
            };
            keys.revoke_all_keys(request).await.map(drop)
        }
        "RevokeToken" | "RevokeAtLookupId" => {
            use pb::revoke_token_request::Target;
            let request = create_key(tenant, pb::Role::User);
            let made = server.keys("own-global_admin").create_key(request).await;
            let token = made.map(|made| made.into_inner().plaintext);
            let token = token.unwrap_or_else(|_| "no-such-token-anywhere".into());
            let target = match rpc {
                "RevokeToken" => Target::Token(token),
                // Nobody's, so it is not found where one may look.
                _ => Target::LookupId("ab".repeat(16)),
            };
            let request = pb::RevokeTokenRequest {
                target: Some(target),
                ..pb::RevokeTokenRequest::default()
            };
            keys.revoke_token(request).await.map(drop)
        }
        "VerifyKey" => {
            let request = create_key(tenant, pb::Role::User);
            let made = server.keys("own-global_admin").create_key(request).await;
            let token = made.map(|made| made.into_inner().plaintext);
            let request = pb::VerifyKeyRequest {
                token: token.unwrap_or_else(|_| "no-such-token-anywhere".into()),
                ..pb::VerifyKeyRequest::default()
            };
            let answer = keys.verify_key(request).await?.into_inner();
            match answer.key {
                Some(_) => Ok(()),
                // What is hidden is as unknown as what is not there.
                None => Err(status_of_unknown(&answer)),
            }
        }
        "GetKey" => {
            let name = some_key(server, tenant, pb::Role::User).await;
            keys.get_key(pb::GetKeyRequest { name }).await.map(drop)
        }
        "ListKeys" => {
            let request = pb::ListKeysRequest {
                parent: name,
                ..pb::ListKeysRequest::default()
            };
            keys.list_keys(request).await.map(drop)
        }
        "RotateKey" | "RotateAdmin" => {
            let request = pb::RotateKeyRequest {
                name: some_key(server, tenant, role_of(rpc)).await,
                ..Default::default()
            };
            keys.rotate_key(request).await.map(drop)
        }
        "ClaimKey" => {
            let request = pb::ClaimKeyRequest::default();
            keys.claim_key(request).await.map(drop)
        }
        "RevealKey" | "RevealAdmin" => {
            let name = some_key(server, tenant, role_of(rpc)).await;
            let request = pb::RevealKeyRequest { name };
            keys.reveal_key(request).await.map(drop)
        }
        "RenewKey" | "RenewAdmin" => {
            let end = |year: i64| prost_types::Timestamp {
                seconds: (year - 1970) * 31_557_600,
                nanos: 0,
            };
            let mut made = create_key(tenant, role_of(rpc));
            made.key.as_mut().unwrap().expire_time = Some(end(2100));
            let made = server.keys("own-global_admin").create_key(made).await;
            let name = made.map(|made| made.into_inner().key.unwrap().name);
            let request = pb::RenewKeyRequest {
                name: name.unwrap_or_else(|_| format!("tenants/{tenant}/keys/abcd2345")),
                expire_time: Some(end(2101)),
                ..Default::default()
            };
            keys.renew_key(request).await.map(drop)
        }
        "PauseKey" | "PauseAdmin" => {
            let request = pb::PauseKeyRequest {
                name: some_key(server, tenant, role_of(rpc)).await,
                ..Default::default()
            };
            keys.pause_key(request).await.map(drop)
        }
        "ResumeKey" | "ResumeAdmin" => {
            let request = pb::ResumeKeyRequest {
                name: some_key(server, tenant, role_of(rpc)).await,
                ..Default::default()
            };
            keys.resume_key(request).await.map(drop)
        }
        "RevokeKey" | "RevokeAdmin" => {
            let name = some_key(server, tenant, role_of(rpc)).await;
            let request = pb::RevokeKeyRequest {
                name,
                etag,
                reason: String::new(),
                ..Default::default()
            };
            keys.revoke_key(request).await.map(drop)
        }
        "RevokeSelf" => {
            let request = pb::RevokeSelfRequest::default();
            keys.revoke_self(request).await.map(drop)
        }
        "ListSidecars" => {
            let request = pb::ListSidecarsRequest::default();
            server.fleet(token).list_sidecars(request).await.map(drop)
        }
        "ListBlocks" => {
            let request = pb::ListBlocksRequest::default();
            server.blocks(token).list_blocks(request).await.map(drop)
        }
        "ClearBlocks" => {
            let which = Some(pb::clear_blocks_request::Which::All(true));
            let request = pb::ClearBlocksRequest { which };
            server.blocks(token).clear_blocks(request).await.map(drop)
        }
        "GetKeyLimits" => {
            let name = format!("{name}/keyLimits");
            let request = pb::GetKeyLimitsRequest { name };
            server.limits(token).get_key_limits(request).await.map(drop)
        }
        "UpdateKeyLimits" => {
            let request = pb::UpdateKeyLimitsRequest {
                key_limits: Some(pb::KeyLimits {
                    name: format!("{name}/keyLimits"),
                    ..pb::KeyLimits::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["*".into()],
                }),
            };
            let answer = server.limits(token).update_key_limits(request).await;
            answer.map(drop)
        }
        "GetSystemConfig" => {
            let request = pb::GetSystemConfigRequest::default();
            let answer = server.limits(token).get_system_config(request).await;
            answer.map(drop)
        }
        other => panic!("no call for {other}"),
    }
}
