//! What an attacker tries, one file a subject, against the real binary. Each file has what must be let in beside what
//! must not, so that a server that refuses everything passes none of them.
//!
//! Elsewhere, and not again here: guesses at `authz` ([`crate::abuse`]), forged context headers (`envoy/spoofing.rs`),
//! paths with two readings on the way to an upstream (`envoy/ambiguity.rs`, `envoy/paths.rs`), every field of every
//! RPC against every hostile value (`admin/hostile.rs`), every RPC by every role (`admin/isolation.rs`), tokens in logs
//! and at rest ([`crate::secrets_never_leak`]), any bytes at all ([`crate::any_request`]), repeated requests
//! (`admin/requests.rs`).

mod access;
mod brute_force;
mod clocked;
mod confusion;
mod enumeration;
mod escalation;
mod injection;
mod paths;
mod replay;
mod roles;
mod strict_mode;

use keystile::proto::admin as pb;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::rest::PLACE;

/// Puts one credential, or none, on each call.
#[derive(Clone)]
struct Bearing(&'static str, Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Bearing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.1 {
            request.metadata_mut().insert(self.0, value.clone());
        }
        Ok(request)
    }
}

type Caller = InterceptedService<Channel, Bearing>;

fn caller(token: &str) -> Caller {
    caller_with("x-api-key", token)
}

fn caller_with(header: &'static str, value: &str) -> Caller {
    let address = format!("http://127.0.0.1:{}", PLACE.server.admin_port);
    let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
    let value = (!value.is_empty()).then(|| value.parse().unwrap());
    InterceptedService::new(channel, Bearing(header, value))
}

fn keys(token: &str) -> KeyServiceClient<Caller> {
    KeyServiceClient::new(caller(token))
}

fn tenants(token: &str) -> TenantServiceClient<Caller> {
    TenantServiceClient::new(caller(token))
}

/// The token of the only global admin.
fn root() -> &'static str {
    &PLACE.server.admin_token
}

/// A tenant of its own for a test.
async fn tenant(id: &str, tenant: pb::Tenant) -> pb::Tenant {
    let request = pb::CreateTenantRequest {
        tenant_id: id.into(),
        tenant: Some(tenant),
        ..pb::CreateTenantRequest::default()
    };
    let made = tenants(root()).create_tenant(request).await.unwrap();
    made.into_inner()
}

fn new_key(tenant: &str, key: pb::Key) -> pb::CreateKeyRequest {
    pb::CreateKeyRequest {
        parent: format!("tenants/{tenant}"),
        key: Some(key),
        ..pb::CreateKeyRequest::default()
    }
}

/// A key and its token.
async fn make(tenant: &str, owner: &str, role: pb::Role) -> (pb::Key, String) {
    let key = pb::Key {
        display_name: owner.into(),
        owner: owner.into(),
        role: role.into(),
        scopes: vec!["read".into()],
        ..pb::Key::default()
    };
    let made = keys(root()).create_key(new_key(tenant, key)).await.unwrap();
    let made = made.into_inner();
    (made.key.unwrap(), made.plaintext)
}

/// So many keys of one tenant: their tokens. No owner has more than a few.
async fn many(tenant: &str, count: usize) -> Vec<String> {
    let request = |at: usize| pb::CreateKeyRequest {
        key: Some(pb::Key {
            display_name: "one of many".into(),
            owner: format!("owner-{}", at / 5),
            ..pb::Key::default()
        }),
        ..pb::CreateKeyRequest::default()
    };
    let batch = pb::BatchCreateKeysRequest {
        parent: format!("tenants/{tenant}"),
        requests: (0..count).map(request).collect(),
    };
    let made = keys(root()).batch_create_keys(batch).await.unwrap();
    let results = made.into_inner().results.into_iter();
    results
        .map(|result| match result.result.unwrap() {
            pb::batch_create_keys_result::Result::Created(made) => made.plaintext,
            pb::batch_create_keys_result::Result::Error(error) => panic!("{error:?}"),
        })
        .collect()
}

/// Revokes every key of a tenant.
async fn revoke_all(tenant: &str) {
    let request = pb::RevokeAllKeysRequest {
        parent: format!("tenants/{tenant}"),
        scope: Some(pb::revoke_all_keys_request::Scope::AllOwners(true)),
        ..pb::RevokeAllKeysRequest::default()
    };
    keys(root()).revoke_all_keys(request).await.unwrap();
}

async fn delete(tenant: &str) {
    let name = format!("tenants/{tenant}");
    let mut tenants = tenants(root());
    let found = tenants.get_tenant(pb::GetTenantRequest { name }).await;
    let pb::Tenant { name, etag, .. } = found.unwrap().into_inner();
    let request = pb::DeleteTenantRequest { name, etag };
    tenants.delete_tenant(request).await.unwrap();
}

/// A key that was revoked, and one whose tenant is suspended.
async fn revoked_key(id: &str) -> (String, String) {
    let suspended = format!("{id}-suspended");
    for id in [id, &suspended] {
        tenant(id, pb::Tenant::default()).await;
    }
    let (_, token) = make(id, "alice", pb::Role::GlobalAdmin).await;
    let (_, other) = make(&suspended, "alice", pb::Role::TenantAdmin).await;
    revoke_all(id).await;
    let request = pb::SuspendTenantRequest {
        name: format!("tenants/{suspended}"),
        ..pb::SuspendTenantRequest::default()
    };
    tenants(root()).suspend_tenant(request).await.unwrap();
    (token, other)
}

/// A token as we make them, which nobody has.
fn unknown() -> String {
    let token = keystile::crypto::token::Token::generate("ks_live", &mut rand::rng());
    token.expose().to_owned()
}
