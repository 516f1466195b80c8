//! A `CheckRequest` as bytes, made with the types of the reference implementation.

use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, address};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use prost::Message as _;

/// A request for `/` with these headers.
pub(crate) fn headers(headers: &[(&str, &str)]) -> CheckRequest {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    request(HttpRequest {
        headers: headers.iter().map(owned).collect(),
        path: "/".into(),
        ..HttpRequest::default()
    })
}

/// The same as bytes.
pub(crate) fn with_headers(all: &[(&str, &str)]) -> Vec<u8> {
    headers(all).encode_to_vec()
}

pub(crate) fn request(http: HttpRequest) -> CheckRequest {
    let request = Request {
        http: Some(http),
        ..Request::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(request),
            ..AttributeContext::default()
        }),
    }
}

/// The same request from an address.
pub(crate) fn from(mut request: CheckRequest, source: &str) -> CheckRequest {
    let socket = SocketAddress {
        address: source.to_owned(),
        ..SocketAddress::default()
    };
    let attributes = request.attributes.get_or_insert_default();
    attributes.source = Some(Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        ..Peer::default()
    });
    request
}

/// The message as gRPC frames it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap();
    [&[0], &len.to_be_bytes()[..], message].concat()
}
