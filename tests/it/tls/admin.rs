//! The holder of a client certificate on the admin listener.

use keystile::proto::admin as pb;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::{MUTUAL, Secured};
use crate::harness::ca::Pair;
use crate::support::program::{Place, Running};

const ROLES: &str = "client_roles: [{san: \"dns:admin.mesh\", role: global_admin}, \
     {san: \"uri:spiffe://mesh/ns/acme/sa/envoy\", role: tenant_admin, tenant: acme}, \
     {san: \"uri:spiffe://mesh/ns/gone/sa/envoy\", role: tenant_admin, tenant: gone}]";

fn start() -> (Secured, Running) {
    let secured = Secured::new(
        Place::bootstrapped(),
        "admin",
        &format!("{MUTUAL}, {ROLES}"),
    );
    let running = secured.place.serve();
    (secured, running)
}

async fn tenants(secured: &Secured, pair: &Pair) -> TenantServiceClient<Channel> {
    let channel = secured.channel(secured.place.admin, Some(pair)).await;
    TenantServiceClient::new(channel.unwrap())
}

async fn get(client: &mut TenantServiceClient<Channel>, tenant: &str) -> Result<String, Code> {
    let name = format!("tenants/{tenant}");
    let found = client.get_tenant(pb::GetTenantRequest { name }).await;
    found
        .map(|tenant| tenant.into_inner().name)
        .map_err(|status| status.code())
}

fn new_tenant(id: &str) -> pb::CreateTenantRequest {
    pb::CreateTenantRequest {
        tenant_id: id.to_owned(),
        tenant: Some(pb::Tenant {
            display_name: id.to_owned(),
            ..pb::Tenant::default()
        }),
        ..pb::CreateTenantRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_has_the_role_that_the_configuration_gives_it() {
    let (secured, _running) = start();
    let mut global = tenants(&secured, &secured.ca.dns_client("admin.mesh")).await;
    for id in ["acme", "other"] {
        global.create_tenant(new_tenant(id)).await.unwrap();
        assert_eq!(get(&mut global, id).await, Ok(format!("tenants/{id}")));
    }
    let acme = secured.ca.client("spiffe://mesh/ns/acme/sa/envoy");
    let mut acme = tenants(&secured, &acme).await;
    assert_eq!(get(&mut acme, "acme").await, Ok("tenants/acme".to_owned()));
    assert_eq!(get(&mut acme, "other").await, Err(Code::NotFound));
    assert_eq!(get(&mut acme, "nowhere").await, Err(Code::NotFound));
    let made = acme.create_tenant(new_tenant("mine")).await;
    assert_eq!(made.unwrap_err().code(), Code::PermissionDenied);

    // As a key of a suspended tenant would be.
    let suspend = pb::SuspendTenantRequest {
        name: "tenants/acme".to_owned(),
        ..pb::SuspendTenantRequest::default()
    };
    global.suspend_tenant(suspend).await.unwrap();
    assert_eq!(get(&mut acme, "acme").await, Err(Code::PermissionDenied));
    // A role in a tenant that is not there is no role.
    let gone = secured.ca.client("spiffe://mesh/ns/gone/sa/envoy");
    let mut gone = tenants(&secured, &gone).await;
    assert_eq!(get(&mut gone, "gone").await, Err(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_without_a_role_needs_a_key_and_a_key_outranks_a_role() {
    let (secured, _running) = start();
    let with = |name: &str, token: &str| {
        let name = format!("tenants/{name}");
        let mut request = Request::new(pb::GetTenantRequest { name });
        let token = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        request
    };
    let plain = secured.ca.client("spiffe://mesh/ns/web/sa/envoy");
    let mut plain = tenants(&secured, &plain).await;
    assert_eq!(get(&mut plain, "acme").await, Err(Code::Unauthenticated));
    let token = &secured.place.admin_token;
    let found = plain.get_tenant(with("acme", token)).await.unwrap_err();
    assert_eq!(found.code(), Code::NotFound, "the key is a global admin's");
    // A wrong key is not made good by the certificate beside it.
    let mut global = tenants(&secured, &secured.ca.dns_client("admin.mesh")).await;
    assert_eq!(get(&mut global, "acme").await, Err(Code::NotFound));
    let found = global.get_tenant(with("acme", "ks_live_wrong")).await;
    assert_eq!(found.unwrap_err().code(), Code::Unauthenticated);
}
