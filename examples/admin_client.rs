//! A client of the admin API: makes a tenant with a key, proves the token, and cleans up.
//!
//! ```text
//! KEYSTILE_API_KEY=ks_live_... cargo run --example admin_client -- 127.0.0.1:9002
//! ```
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for people, with an environment of its own"
)]

use anyhow::Context as _;
use keystile::proto::admin as pb;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

/// Adds the API key to each call.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.0.clone());
        Ok(request)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:9002".to_owned());
    let key = std::env::var("KEYSTILE_API_KEY").context("set KEYSTILE_API_KEY")?;
    let bearer = Bearer(format!("Bearer {key}").parse()?);
    let channel = Channel::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let tenants = TenantServiceClient::with_interceptor(channel.clone(), bearer.clone());
    let keys = KeyServiceClient::with_interceptor(channel, bearer);
    match tour(tenants, keys).await {
        Err(status) => Err(anyhow::anyhow!(explain(&status))),
        Ok(()) => Ok(()),
    }
}

async fn tour<I: Interceptor + Clone>(
    mut tenants: TenantServiceClient<tonic::service::interceptor::InterceptedService<Channel, I>>,
    mut keys: KeyServiceClient<tonic::service::interceptor::InterceptedService<Channel, I>>,
) -> Result<(), Status> {
    let create = pb::CreateTenantRequest {
        tenant_id: "example".into(),
        ..Default::default()
    };
    let tenant = tenants.create_tenant(create).await?.into_inner();
    println!("made {} (etag {})", tenant.name, tenant.etag);

    let create = pb::CreateKeyRequest {
        parent: tenant.name.clone(),
        key: Some(pb::Key {
            display_name: "ci".into(),
            owner: "alice".into(),
            scopes: vec!["read".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = keys.create_key(create).await?.into_inner();
    println!("made {}", made.key.unwrap_or_default().name);

    let verify = pb::VerifyKeyRequest {
        token: made.plaintext,
        ..Default::default()
    };
    let found = keys.verify_key(verify).await?.into_inner();
    println!("its token is valid: {}", found.valid);

    let delete = pb::DeleteTenantRequest {
        name: tenant.name,
        etag: tenant.etag,
    };
    tenants.delete_tenant(delete).await?;
    println!("deleted the tenant with its keys");
    Ok(())
}

/// The stable reason and the fields that were refused.
fn explain(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason);
    let bad = status.get_details_bad_request();
    let violations = bad.map(|bad| bad.field_violations).unwrap_or_default();
    let fields: Vec<_> = violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    format!(
        "{} ({}{}{})",
        status.message(),
        reason.unwrap_or_else(|| format!("{:?}", status.code())),
        if fields.is_empty() { "" } else { ": " },
        fields.join(", ")
    )
}
