//! Text that people may write (names, descriptions, metadata, reasons) is text wherever it comes out: it ends no header
//! line, names no header, and is of bounded length.

use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use keystile::proto::admin as pb;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tonic::Code;

use super::{keys, make, new_key, root, tenant, tenants};
use crate::rest::{KEYS, PLACE, ask, check_refused, send};
use crate::support::{check, client};

/// What a header line could be ended or a reader confused by, as it is and already encoded.
fn texts() -> Vec<String> {
    [
        "%0d%0ax-tenant-id: globex",
        "%250d%250a",
        "a: b",
        "a, x-tenant-id=globex",
        "\"; x=\"",
        "ünïcödé ☃",
        "名前",
        "<script>alert(1)</script>",
        "${jndi:ldap://evil.example/a}",
        "{{7*7}}",
        "'; DROP TABLE keys; --",
        "%",
        "%zz",
    ]
    .into_iter()
    .map(Into::into)
    .chain(["☃".repeat(128), "%".repeat(128), "a".repeat(128)])
    .collect()
}

/// What must not be written at all.
const CONTROL: [&str; 9] = [
    "a\r\nx-tenant-id: globex",
    "a\nb",
    "a\rb",
    "a\0b",
    "a\tb",
    "\u{85}a\u{85}b",
    "a\u{2028}b",
    "a\u{202e}b",
    "a\u{feff}b",
];

#[tokio::test]
async fn a_tenants_text_reaches_the_upstream_as_one_value_and_decodes_to_itself() {
    let channel = client::tcp(PLACE.server.authz_port).await;
    for (at, text) in texts().into_iter().enumerate() {
        let id = format!("text-{at}");
        let wished = pb::Tenant {
            display_name: text.clone(),
            metadata: [("note".to_owned(), text.clone())].into(),
            ..pb::Tenant::default()
        };
        tenant(&id, wished).await;
        let (_, token) = make(&id, "alice", pb::Role::User).await;
        let request = check::headers(&[(":method", "GET"), ("x-api-key", &token)]);
        let answer = AuthorizationClient::new(channel.clone())
            .check(request)
            .await;
        let Some(HttpResponse::OkResponse(ok)) = answer.unwrap().into_inner().http_response else {
            panic!("{text:?} keeps its tenant out")
        };
        let headers = ok
            .headers
            .iter()
            .filter_map(|option| option.header.as_ref());
        let headers: Vec<_> = headers
            .map(|one| (one.key.as_str(), one.value.as_str()))
            .collect();
        for (name, value) in &headers {
            let visible = |text: &str| text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
            assert!(
                visible(name) && visible(value),
                "{text:?}: {name}: {value:?}"
            );
            assert!(value.len() <= 4096, "{name}");
        }
        let one = |wanted: &str| {
            let mut same = headers.iter().filter(|(name, _)| *name == wanted);
            let value = same.next().map(|(_, value)| *value);
            assert_eq!(same.next(), None, "{wanted} is there once");
            value.unwrap_or_else(|| panic!("no {wanted} for {text:?}"))
        };
        assert_eq!(one("x-tenant-id"), id);
        for name in ["x-tenant-name", "x-tenant-meta-note"] {
            let decoded = percent_decode_str(one(name)).decode_utf8().unwrap();
            assert_eq!(decoded, text, "{name}");
        }
    }
}

#[tokio::test]
async fn what_could_end_a_line_is_written_nowhere() {
    for text in CONTROL {
        let wished = pb::Key {
            display_name: "ok".into(),
            owner: "alice".into(),
            ..pb::Key::default()
        };
        for key in [
            pb::Key {
                display_name: text.into(),
                ..wished.clone()
            },
            pb::Key {
                description: text.into(),
                ..wished.clone()
            },
            pb::Key {
                owner: text.into(),
                ..wished.clone()
            },
            pb::Key {
                scopes: vec![text.into()],
                ..wished.clone()
            },
        ] {
            let refused = keys(root()).create_key(new_key("acme", key)).await;
            assert_eq!(
                refused.unwrap_err().code(),
                Code::InvalidArgument,
                "{text:?}"
            );
        }
        for wished in [
            pb::Tenant {
                display_name: text.into(),
                ..pb::Tenant::default()
            },
            pb::Tenant {
                metadata: [("note".into(), text.into())].into(),
                ..pb::Tenant::default()
            },
            pb::Tenant {
                metadata: [(text.into(), "ok".into())].into(),
                ..pb::Tenant::default()
            },
            pb::Tenant {
                features: vec![text.into()],
                ..pb::Tenant::default()
            },
            pb::Tenant {
                plan: text.into(),
                ..pb::Tenant::default()
            },
        ] {
            let request = pb::CreateTenantRequest {
                tenant_id: "never-made".into(),
                tenant: Some(wished),
                ..pb::CreateTenantRequest::default()
            };
            let refused = tenants(root()).create_tenant(request).await;
            assert_eq!(
                refused.unwrap_err().code(),
                Code::InvalidArgument,
                "{text:?}"
            );
        }
        for body in [
            json!({"name": text}),
            json!({"name": "ok", "description": text}),
            json!({"name": "ok", "owner": text}),
            json!({"name": "ok", "scopes": [text]}),
            json!({"name": "ok", "expires_at": text}),
        ] {
            check_refused(
                ask("POST", KEYS, &PLACE.admin, Some(&body)),
                400,
                "INVALID_FIELD",
            );
        }
    }
    // Names of metadata become names of headers: none that frames a message, hides or ends one.
    for name in [
        "Note",
        "a b",
        "a:b",
        "a_b",
        "-a",
        "a.",
        "ü",
        "",
        &"a".repeat(64),
    ] {
        let request = pb::CreateTenantRequest {
            tenant_id: "never-made".into(),
            tenant: Some(pb::Tenant {
                metadata: [(name.to_owned(), "ok".to_owned())].into(),
                ..pb::Tenant::default()
            }),
            ..pb::CreateTenantRequest::default()
        };
        let refused = tenants(root()).create_tenant(request).await;
        assert_eq!(
            refused.unwrap_err().code(),
            Code::InvalidArgument,
            "{name:?}"
        );
    }
}

#[test]
fn what_a_caller_writes_comes_back_in_json_and_in_no_header() {
    let planted = "planted-8a1f";
    let texts = texts();
    let names = texts.iter().map(|text| format!("{planted} {text}"));
    for (at, name) in names.filter(|name| name.chars().count() <= 128).enumerate() {
        // An owner each: no owner may have them all.
        let body = json!({"name": name, "owner": format!("planted-{at}")});
        let (reply, made) = ask("POST", KEYS, &PLACE.admin, Some(&body));
        assert_eq!((reply.status, &made["data"]["name"]), (201, &body["name"]));
        assert!(!format!("{:?}", reply.headers).contains(planted));
    }
    let token = &PLACE.admin;
    for line in [
        format!("GET /{planted} HTTP/1.1\r\nx-request-id: {planted}"),
        format!("DELETE {KEYS}/{planted} HTTP/1.1\r\norigin: https://{planted}"),
        format!("GET {KEYS}?{planted}=1 HTTP/1.1\r\nreferer: {planted}"),
        format!(
            "GET {KEYS}?tenant_id={planted}%0d%0aset-cookie:%20a HTTP/1.1\r\ncookie: a={planted}"
        ),
        format!("GET {KEYS} HTTP/1.1\r\naccept-language: {planted}\r\nx-forwarded-host: {planted}"),
    ] {
        let (reply, _) = send(
            format!("{line}\r\nhost: {planted}\r\nx-api-key: {token}\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        );
        let headers = format!("{:?}", reply.headers);
        assert!(
            !headers.contains(planted) && !headers.contains("set-cookie"),
            "{headers}"
        );
    }
}
