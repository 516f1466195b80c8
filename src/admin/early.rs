//! Who calls is found out from the head of a call, before its message is read: a stranger's is never held.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body::Body as _;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::metadata::MetadataMap;

use crate::admin::MESSAGE_BYTES_MAX;
use crate::admin::caller::{Authenticate, ClientNames, Identified, Peer, identify};
use crate::admin::message;
use crate::proto::FILE_DESCRIPTOR_SET;

/// What recognises callers, and of which methods: none is open to strangers.
#[derive(Clone)]
pub(super) struct Callers {
    auth: Arc<dyn Authenticate>,
    methods: Arc<BTreeSet<String>>,
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callers")
    }
}

impl Callers {
    pub(super) fn new(auth: Arc<dyn Authenticate>) -> Self {
        let methods = Arc::new(methods());
        Self { auth, methods }
    }
}

/// The paths of all methods of ours.
fn methods() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut paths = BTreeSet::new();
    for file in &files.file {
        for service in &file.service {
            let prefix = format!("/{}.{}", file.package(), service.name());
            let names = service.method.iter();
            paths.extend(names.map(|method| format!("{prefix}/{}", method.name())));
        }
    }
    paths
}

/// Lets a call of a known caller on to its method. What is not one of ours, or has no message, is answered further on.
pub(super) async fn identified(
    State(callers): State<Callers>,
    mut request: Request,
    next: Next,
) -> Response {
    let ours = callers.methods.contains(request.uri().path());
    if !ours || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let mut head = tonic::Request::new(());
    *head.metadata_mut() = MetadataMap::from_headers(request.headers().clone());
    if let Some(names) = request.extensions().get::<ClientNames>() {
        head.extensions_mut().insert(names.clone());
    }
    if let Some(peer) = request.extensions().get::<Peer>() {
        head.extensions_mut().insert(*peer);
    }
    match identify(callers.auth.as_ref(), &head).await {
        Ok(identity) => {
            request.extensions_mut().insert(Identified(identity));
            let (head, body) = request.into_parts();
            match message::read(body, MESSAGE_BYTES_MAX).await {
                Ok(body) => next.run(Request::from_parts(head, body)).await,
                Err(refused) => refused.into_http(),
            }
        }
        Err(refused) => refused.into_http(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known() {
        let all = methods();
        assert!(
            all.contains("/keystile.admin.v1.KeyService/CreateKey"),
            "{all:?}"
        );
        assert!(
            all.len() > 20 && !all.iter().any(|path| path.contains("..")),
            "{all:?}"
        );
    }
}
