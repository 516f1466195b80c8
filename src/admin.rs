//! The admin API: who calls, what is asked, do it, answer. Decides nothing that the registry decides.

mod access;
mod batch;
mod blocks;
pub mod caller;
mod convert;
mod early;
mod filter;
mod fleet;
mod grant;
mod guard;
mod keys;
mod limits;
mod message;
mod page;
mod page_token;
mod rest;
mod tenants;

use std::sync::Arc;

use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Request, Status};
use tonic_reflection::server::{v1, v1alpha};

use crate::abuse::Blocks;
use crate::admin::access::Deed;
use crate::admin::caller::{Admitted, Authenticate};
use crate::admin::guard::GuardLayer;
use crate::admin::page_token::PageTokens;
use crate::clock::Clock;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::admin::block_service_server::BlockServiceServer;
use crate::proto::admin::fleet_service_server::FleetServiceServer;
use crate::proto::admin::key_service_server::KeyServiceServer;
use crate::proto::admin::limit_service_server::LimitServiceServer;
use crate::proto::admin::tenant_service_server::TenantServiceServer;
use crate::registry::Registry;
use crate::status::Reason;
use crate::telemetry::Throttle;

pub use convert::key_to_proto;

/// The largest request, in bytes: 64 KiB hold the largest single resource, the rest is room for batches, and for
/// telling whoever sends a megabyte as a name which field it was.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The same of a question about the schemas, which names one of them, and which anybody may ask: room is made for as much
/// as a message says that it is long, before any of it has come.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// What every service needs.
#[derive(Clone)]
struct Admin {
    registry: Registry,
    auth: Arc<dyn Authenticate>,
    blocks: Arc<Blocks>,
    clock: Arc<dyn Clock>,
    pages: PageTokens,
    /// Refusals of keys that do not open this API, told now and then.
    closed: Arc<Throttle>,
}

/// What the listener serves.
#[derive(Debug)]
pub struct Services {
    grpc: Routes,
    rest: axum::Router,
    callers: early::Callers,
}

impl Services {
    /// Adds a gRPC service of somebody else's.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<
                http::Request<tonic::body::Body>,
                Response: axum::response::IntoResponse,
                Error = std::convert::Infallible,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.grpc = self.grpc.add_service(service);
        self
    }
}

/// The admin services and their descriptions. Replicas behind one address need the same `page_token_key`.
pub fn routes(
    registry: Registry,
    auth: Arc<dyn Authenticate>,
    blocks: Arc<Blocks>,
    clock: Arc<dyn Clock>,
    page_token_key: &[u8; 32],
) -> Services {
    let admin = Admin {
        registry,
        auth,
        blocks,
        clock,
        pages: PageTokens::new(page_token_key),
        closed: Arc::default(),
    };
    let rest = rest::router(&admin);
    let callers = early::Callers::new(Arc::clone(&admin.auth));
    let tenants = TenantServiceServer::new(tenants::Tenants(admin.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let keys = KeyServiceServer::new(keys::Keys(admin.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let fleet = FleetServiceServer::new(fleet::Fleet(admin.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let limits = LimitServiceServer::new(limits::Limits(admin.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let blocks =
        BlockServiceServer::new(blocks::Blocks(admin)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let grpc = Routes::new(tenants)
        .add_service(keys)
        .add_service(limits)
        .add_service(fleet)
        .add_service(blocks)
        .add_service(reflection())
        .add_service(older_reflection());
    Services {
        grpc,
        rest,
        callers,
    }
}

/// Describes every service of the listener to whoever asks: schemas are no secret.
fn reflection() -> v1::ServerReflectionServer<impl v1::ServerReflection> {
    let built = descriptions().build_v1();
    let service = built.expect("the build has compiled these descriptors");
    service.max_decoding_message_size(QUESTION_BYTES_MAX)
}

/// The same for tools that know only the older protocol.
fn older_reflection() -> v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection> {
    let built = descriptions().build_v1alpha();
    let service = built.expect("the build has compiled these descriptors");
    service.max_decoding_message_size(QUESTION_BYTES_MAX)
}

fn descriptions() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The error when there is no room for more unfinished requests.
pub fn overloaded() -> Status {
    Reason::Overloaded.status("too many unfinished requests at once; try again")
}

/// What the listener serves: routes whose calls end in time and whose errors say why.
pub fn router(services: Services) -> axum::Router {
    services
        .grpc
        .prepare()
        .into_axum_router()
        .route_layer(axum::middleware::from_fn_with_state(
            services.callers,
            early::identified,
        ))
        .route_layer(axum::middleware::from_fn(rest::only_grpc))
        .merge(services.rest)
        .fallback(rest::nothing_here)
        .layer(axum::middleware::map_response(rest::guarded))
        .layer(GuardLayer)
}

impl Admin {
    /// Who calls, if it may call at all.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Admitted, Status> {
        self.caller_who(request, Deed::OfRole).await
    }

    /// Who calls, if it may do this: for calls that a key which may only act on itself can make.
    async fn caller_who<T>(
        &self,
        request: &Request<T>,
        deed: Deed<'_>,
    ) -> Result<Admitted, Status> {
        let identity = caller::identify(self.auth.as_ref(), request).await?;
        let own = self.check_access(&identity, deed).await?;
        Ok(Admitted { identity, own })
    }
}
