mod merges;

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{
    Address, HeaderMap, HeaderValue, SocketAddress, address,
};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use proptest::prelude::*;
use prost::Message;

use super::headers::caller;
use super::*;
use crate::domain::request::{Credential, Mode};

const PSEUDO: (&str, &str) = (":method", "GET");

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn encode(http: HttpRequest, extensions: &[(&str, &str)], source: Option<&str>) -> Vec<u8> {
    let peer = source.map(|address| Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: address.into(),
                ..Default::default()
            })),
        }),
        ..Default::default()
    });
    let attributes = AttributeContext {
        source: peer,
        request: Some(Request {
            http: Some(http),
            ..Default::default()
        }),
        context_extensions: map(extensions),
        ..Default::default()
    };
    CheckRequest {
        attributes: Some(attributes),
    }
    .encode_to_vec()
}

fn headers(pairs: &[(&str, &str)]) -> Vec<u8> {
    let http = HttpRequest {
        headers: map(pairs),
        path: "/".into(),
        ..Default::default()
    };
    encode(http, &[], None)
}

fn raw_headers(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let header = |(key, raw): &(&str, &[u8])| HeaderValue {
        key: (*key).into(),
        raw_value: raw.to_vec(),
        ..Default::default()
    };
    let headers = pairs.iter().map(header).collect();
    encode(
        HttpRequest {
            header_map: Some(HeaderMap { headers }),
            ..Default::default()
        },
        &[],
        None,
    )
}

#[track_caller]
fn check(message: &[u8], expected: Credential<'_>) {
    let settings = Settings::default();
    let incoming = Incoming::read(message, &settings).unwrap();
    assert!(
        incoming.access_request(None).credential == expected,
        "expected {expected:?}"
    );
}

#[test]
fn the_facts_of_envoys_own_message_are_read() {
    let http = HttpRequest {
        id: "15517477020455803835".into(),
        headers: map(&[
            PSEUDO,
            ("x-api-key", "K1"),
            ("x-request-id", "7c9e-1"),
            ("content-type", "application/grpc+proto"),
            ("x_tenant_id", "evil"),
            ("x-tenant-meta-a", "evil"),
        ]),
        path: "/a?b=c".into(),
        ..Default::default()
    };
    let extensions = [
        ("keystile.mode", "optional"),
        ("keystile.features", "a,b"),
        ("keystile.cost", "7"),
        ("other", "x"),
    ];
    let message = encode(http, &extensions, Some("2001:db8::1"));
    let settings = Settings::default();
    let incoming = Incoming::read(&message, &settings).unwrap();
    let request = incoming.access_request(None);
    assert!(request.credential == Credential::One(b"K1"));
    assert_eq!(
        request.rule,
        Rule {
            mode: Mode::Optional,
            features: "a,b",
            scopes: "",
            cost: 7,
        }
    );
    assert_eq!(request.source, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(incoming.request_id, Some("7c9e-1"));
    assert_eq!(incoming.caller, Protocol::Grpc);
    assert!(!incoming.filtered && incoming.bad_rule.is_none());
    let mut forged = incoming.forged.clone();
    forged.sort_unstable();
    assert_eq!(forged, ["x-tenant-meta-a", "x_tenant_id"]);
}

#[test]
fn credentials_are_found_in_both_forms_of_headers() {
    check(&headers(&[PSEUDO]), Credential::None);
    check(&headers(&[("x-api-key", "")]), Credential::None);
    check(&headers(&[("x-api-key", "K")]), Credential::One(b"K"));
    check(
        &headers(&[("authorization", "bearer K")]),
        Credential::One(b"K"),
    );
    check(&headers(&[("authorization", "Basic K")]), Credential::None);
    check(
        &headers(&[("x-api-key", "K"), ("authorization", "Bearer K")]),
        Credential::One(b"K"),
    );
    check(
        &headers(&[("x-api-key", "K"), ("authorization", "Bearer L")]),
        Credential::Ambiguous,
    );
    check(&headers(&[("x-api-key", "K,L")]), Credential::Ambiguous);
    check(&raw_headers(&[("x-api-key", b"K")]), Credential::One(b"K"));
    check(
        &raw_headers(&[("x-api-key", b"K"), ("x-api-key", b"K")]),
        Credential::Ambiguous,
    );
    check(
        &raw_headers(&[("x-api-key", b"K\xff")]),
        Credential::One(b"K\xff"),
    );
    check(
        &raw_headers(&[
            ("authorization", b"Basic a"),
            ("authorization", b"Bearer K"),
        ]),
        Credential::Ambiguous,
    );
}

#[test]
fn a_misspelt_rule_is_told_apart_from_no_rule() {
    for (name, value, bad) in [
        ("keystile.mode", "off", false),
        ("keystile.cost", "5", false),
        ("keystile.cost", "0", false),
        ("keystile.cost", "-1", true),
        ("keystile.cost", "1000001", true),
        ("keystile.dry_run", "true", false),
        ("keystile.dry_run", "perhaps", true),
        ("keystile.mode", "offf", true),
        ("keystile.scope", "read", true),
        ("scope", "read", false),
    ] {
        let message = encode(HttpRequest::default(), &[(name, value)], None);
        assert_eq!(
            Incoming::read(&message, &Settings::default())
                .unwrap()
                .bad_rule
                .is_some(),
            bad,
            "{name}={value}"
        );
    }
}

#[test]
fn a_connection_header_must_not_name_a_reserved_header() {
    for (value, refused) in [
        ("Upgrade, x-tenant-id", true),
        ("X_API_KEY-owner", true),
        ("keep-alive, Upgrade", false),
        ("x-api-key", false),
    ] {
        let message = headers(&[("connection", value)]);
        let ambiguity = Incoming::read(&message, &Settings::default())
            .unwrap()
            .ambiguity;
        assert_eq!(ambiguity.is_some(), refused, "{value}");
    }
}

#[test]
fn ids_that_could_do_harm_are_not_repeated() {
    for (id, kept) in [
        ("a-B_1.2", true),
        ("a b", false),
        ("a\"b", false),
        ("", false),
        (&*"x".repeat(129), false),
    ] {
        assert_eq!(harmless_id(id.as_bytes()).is_some(), kept, "{id}");
    }
}

#[test]
fn grpc_web_and_connect_callers_read_the_http_status() {
    for (content_type, expected) in [
        ("application/grpc", Protocol::Grpc),
        ("Application/GRPC+json", Protocol::Grpc),
        ("application/grpc-web+proto", Protocol::Http),
        ("application/connect+json", Protocol::Http),
        ("", Protocol::Http),
    ] {
        assert_eq!(caller(content_type.as_bytes()), expected, "{content_type}");
    }
}

proptest! {
    #[test]
    fn no_message_makes_the_reader_panic(bytes: Vec<u8>) {
        let _read = Incoming::read(&bytes, &Settings::default()).is_ok();
    }

    /// Whatever the generated types can hold is read. Encoded anew first: prost takes a map entry whatever its
    /// wire type says, which no writer sends and the specification does not allow.
    #[test]
    fn what_the_generated_types_accept_is_accepted(mut message in Just(headers(&[PSEUDO, ("x-api-key", "K")])), at: prop::sample::Index, byte: u8) {
        let at = at.index(message.len());
        message[at] = byte;
        if let Ok(decoded) = CheckRequest::decode(message.as_slice()) {
            prop_assert!(Incoming::read(&decoded.encode_to_vec(), &Settings::default()).is_ok());
        }
    }
}

#[test]
fn failures_are_counted_against_the_source_or_whom_trusted_proxies_name() {
    let source = |text: &str| text.parse::<block::Source>().unwrap();
    let pair = ("x-forwarded-for", "198.51.100.1, 198.51.100.2");
    let http = HttpRequest {
        headers: map(&[PSEUDO, pair]),
        ..Default::default()
    };
    let message = encode(http.clone(), &[], Some("::ffff:192.0.2.1"));
    for (trusted_hops, expected) in [
        (0, "192.0.2.1"),
        (1, "198.51.100.2"),
        (2, "198.51.100.1"),
        (3, "192.0.2.1"),
    ] {
        let settings = Settings {
            trusted_hops,
            ..Settings::default()
        };
        let incoming = Incoming::read(&message, &settings).unwrap();
        let request = incoming.access_request(None);
        assert_eq!(request.caller, Some(source(expected)), "{trusted_hops}");
        assert_eq!(request.source, Some("::ffff:192.0.2.1".parse().unwrap()));
    }
    let zone = encode(http.clone(), &[], Some("fe80::1%eth0"));
    let no_address = encode(http.clone(), &[], Some("192.0.2.1%eth0"));
    let unknown = encode(http.clone(), &[], None);
    // A rehearsal counts nothing, and a block holds for it too.
    let rehearsed = encode(http, &[("keystile.dry_run", "true")], Some("192.0.2.1"));
    for (message, expected) in [
        (&unknown, None),
        (&rehearsed, Some(source("192.0.2.1"))),
        (&zone, Some(source("fe80::/64"))),
        (&no_address, None),
    ] {
        let settings = Settings::default();
        let incoming = Incoming::read(message, &settings).unwrap();
        assert_eq!(incoming.access_request(None).caller, expected);
    }
}

/// The work for one request is bounded, whatever Envoy lets through.
#[test]
fn a_list_or_a_path_too_long_to_be_read_is_ambiguous() {
    let settings = Settings {
        credentials: vec![
            CredentialSource::Cookie("key".into()),
            CredentialSource::Query("key".into()),
        ],
        ..Settings::default()
    };
    let ambiguity = |message: &[u8]| Incoming::read(message, &settings).unwrap().ambiguity;
    let long = "a=b; ".repeat(READ_BYTES_MAX / 5 + 1);
    let short = &long[..READ_BYTES_MAX - 10];
    assert_eq!(ambiguity(&headers(&[("cookie", short)])), None);
    for name in ["cookie", "connection"] {
        let ambiguity = ambiguity(&headers(&[(name, &long)])).expect("too long");
        assert!(ambiguity.contains(name), "{ambiguity}");
    }
    let lines = [("cookie", short.as_bytes()), ("cookie", short.as_bytes())];
    assert!(ambiguity(&raw_headers(&lines)).is_some(), "together");
    let path = |path: &str| {
        let http = HttpRequest {
            path: path.to_owned(),
            ..HttpRequest::default()
        };
        ambiguity(&encode(http, &[], None))
    };
    assert!(path(&format!("/?{}", "&key=a".repeat(20_000))).is_some());
    assert_eq!(path("/?key=a"), None);
    let no_cookie = Settings::default();
    let message = headers(&[("cookie", &long)]);
    let read = Incoming::read(&message, &no_cookie).unwrap();
    assert_eq!(
        read.ambiguity, None,
        "a cookie is not read where no key is in one"
    );
}
