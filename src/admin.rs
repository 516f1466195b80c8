//! The admin API: who calls, what is asked, do it, answer. Decides nothing that the registry decides.

pub mod caller;
mod convert;
mod grant;
mod keys;
mod page_token;
mod tenants;

use std::sync::Arc;

use tonic::service::Routes;
use tonic::{Request, Status};

use crate::admin::caller::{Authenticate, Identity};
use crate::admin::page_token::PageTokens;
use crate::clock::Clock;
use crate::proto::admin::key_service_server::KeyServiceServer;
use crate::proto::admin::tenant_service_server::TenantServiceServer;
use crate::registry::Registry;

pub use convert::key_to_proto;

/// The largest request, in bytes: 64 KiB hold the largest single resource, the rest is room for batches.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What every service needs.
#[derive(Clone)]
struct Admin {
    registry: Registry,
    auth: Arc<dyn Authenticate>,
    clock: Arc<dyn Clock>,
    pages: PageTokens,
}

/// The admin services. Replicas behind one address need the same `page_token_key`.
pub fn routes(
    registry: Registry,
    auth: Arc<dyn Authenticate>,
    clock: Arc<dyn Clock>,
    page_token_key: &[u8; 32],
) -> Routes {
    let admin = Admin {
        registry,
        auth,
        clock,
        pages: PageTokens::new(page_token_key),
    };
    let tenants = TenantServiceServer::new(tenants::Tenants(admin.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let keys =
        KeyServiceServer::new(keys::Keys(admin)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(tenants).add_service(keys)
}

impl Admin {
    async fn caller<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        caller::identify(self.auth.as_ref(), request).await
    }
}
