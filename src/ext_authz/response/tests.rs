use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, OkHttpResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use prost::Message;

use super::*;
use crate::domain::decision::{DenyReason, Subject};
use crate::domain::name::{KeyId, TenantId};
use crate::ext_authz::testing;

fn decode(answer: Answer) -> CheckResponse {
    CheckResponse::decode(answer.into_bytes()).unwrap()
}

fn ok(response: &CheckResponse) -> &OkHttpResponse {
    assert_eq!(
        response.status.as_ref().map(|status| status.code),
        Some(0),
        "an allow says so"
    );
    match &response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("not an allow: {other:?}"),
    }
}

/// What is set, after checking that each header overwrites.
#[expect(
    deprecated,
    reason = "that `append` is unset is part of what is promised"
)]
fn set(ok: &OkHttpResponse) -> BTreeMap<&str, &str> {
    let read = |option: &'_ envoy_types::pb::envoy::config::core::v3::HeaderValueOption| {
        assert_eq!(
            (option.append_action, option.append),
            (2, None),
            "OVERWRITE_IF_EXISTS_OR_ADD, append unset"
        );
    };
    ok.headers.iter().for_each(read);
    ok.headers
        .iter()
        .filter_map(|option| option.header.as_ref())
        .map(|header| (header.key.as_str(), header.value.as_str()))
        .collect()
}

fn metadata(response: &CheckResponse) -> BTreeMap<String, String> {
    let text = |kind: &Option<Kind>| match kind {
        Some(Kind::StringValue(text)) => text.clone(),
        Some(Kind::ListValue(list)) => {
            let items = list.values.iter().map(|value| match &value.kind {
                Some(Kind::StringValue(text)) => text.clone(),
                other => panic!("a list of text, not {other:?}"),
            });
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
        other => panic!("text or list, not {other:?}"),
    };
    let fields = &response.dynamic_metadata.as_ref().unwrap().fields;
    fields
        .iter()
        .map(|(name, value)| (name.clone(), text(&value.kind)))
        .collect()
}

#[tokio::test]
async fn an_allow_sets_or_removes_every_reserved_header() {
    let world = testing::World::new().await;
    let answer = world
        .check(
            &[
                ("x-api-key", &world.token),
                ("x-tenant-evil", "1"),
                ("x_tenant_id", "2"),
                ("x-tenant-id", "3"),
            ],
            &[],
        )
        .await;
    let response = decode(answer);
    let ok = ok(&response);
    let set = set(ok);
    let expected = [
        ("x-api-key-id", world.key_id.as_str()),
        ("x-api-key-owner", "alice@example.com"),
        ("x-api-key-scopes", "read,write"),
        ("x-tenant-features", "export,images"),
        ("x-tenant-id", "acme"),
        ("x-tenant-meta-region", "eu"),
        (
            "x-tenant-name",
            "Acme%20%26%20S%C3%B6hne%20100%25"
                .replace("%26", "&")
                .leak(),
        ),
        ("x-tenant-plan", "pro"),
    ];
    assert_eq!(set.into_iter().collect::<Vec<_>>(), expected);
    let mut removed = ok.headers_to_remove.clone();
    removed.sort();
    assert_eq!(
        removed,
        [
            "x-api-key",
            "x-tenant-evil",
            "x-tenant-rate-limit",
            "x-tenant-token",
            "x_tenant_id"
        ]
    );
    let facts = metadata(&response);
    let expected = [
        ("features", "[export,images]"),
        ("key_id", world.key_id.as_str()),
        ("plan", "pro"),
        ("reason", "allowed"),
        ("tenant_id", "acme"),
    ];
    assert_eq!(
        facts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect::<Vec<_>>(),
        expected
    );
}

#[tokio::test]
async fn an_allow_without_a_key_removes_all_of_them() {
    let world = testing::World::new().await;
    for (mode, reason) in [("optional", "anonymous"), ("off", "exempt")] {
        let forged = [("x-tenant-id", "evil"), ("x-tenant-meta-a", "evil")];
        let response = decode(world.check(&forged, &[("keystile.mode", mode)]).await);
        let ok = ok(&response);
        assert!(ok.headers.is_empty());
        for name in [
            "x-tenant-id",
            "x-tenant-plan",
            "x-api-key-owner",
            "x-tenant-rate-limit",
            "x-tenant-meta-a",
        ] {
            assert!(
                ok.headers_to_remove.iter().any(|removed| removed == name),
                "{mode}: {name}"
            );
        }
        assert_eq!(
            metadata(&response).into_iter().collect::<Vec<_>>(),
            [("reason".to_owned(), reason.to_owned())]
        );
    }
}

#[tokio::test]
async fn where_envoy_hides_headers_the_aliases_are_removed_unseen() {
    let world = testing::World::new().await;
    let response = decode(world.check_filtered(&[("x-api-key", &world.token)]).await);
    let removed = &ok(&response).headers_to_remove;
    for name in [
        "x_tenant_id",
        "x-tenant_id",
        "x_api_key_owner",
        "x_tenant_rate_limit",
    ] {
        assert!(removed.iter().any(|header| header == name), "{name}");
    }
    assert!(
        !removed.iter().any(|header| header == "x-tenant-id"),
        "set, so not removed"
    );
}

#[tokio::test]
async fn an_exempt_route_keeps_other_peoples_bearers() {
    let world = testing::World::new().await;
    let bearer = format!("Bearer {}", world.token);
    for (value, removed) in [
        ("Bearer some.other.jwt", false),
        ("Basic dTpw", false),
        (bearer.as_str(), true),
    ] {
        let response = decode(
            world
                .check(&[("authorization", value)], &[("keystile.mode", "off")])
                .await,
        );
        let found = ok(&response)
            .headers_to_remove
            .iter()
            .any(|name| name == "authorization");
        assert_eq!(found, removed, "{}", &value[..10]);
    }
}

#[test]
fn every_reason_has_its_status_code_and_words() {
    let rows = [
        (DenyReason::MissingApiKey, 401, 16),
        (DenyReason::InvalidApiKey, 401, 16),
        (DenyReason::ApiKeyExpired, 401, 16),
        (DenyReason::TenantSuspended, 403, 7),
        (DenyReason::ApiKeyPaused, 403, 7),
        (DenyReason::FeatureNotEnabled, 403, 7),
        (DenyReason::ScopeNotGranted, 403, 7),
        (DenyReason::NetworkNotAllowed, 403, 7),
        (DenyReason::AmbiguousRequest, 400, 3),
        (DenyReason::RateLimited, 429, 8),
        (DenyReason::QuotaExceeded, 429, 8),
        (DenyReason::TemporarilyBlocked, 429, 8),
        (DenyReason::AuthorizationUnavailable, 503, 14),
    ];
    assert_eq!(rows.len(), DenyReason::ALL.len());
    for (reason, http, code) in rows {
        let denial = Denial {
            detail: Some("a\"b".into()),
            retry_after: (http == 429).then_some(Duration::from_millis(2_001)),
            ..Denial::because(reason)
        };
        let response = decode(deny(&denial, None, false));
        assert_eq!(response.status.as_ref().unwrap().code, code);
        let Some(HttpResponse::DeniedResponse(denied)) = &response.http_response else {
            panic!("denied")
        };
        assert_eq!(denied.status.as_ref().unwrap().code, http);
        let header = |name: &str| {
            let found = denied
                .headers
                .iter()
                .filter_map(|option| option.header.as_ref())
                .find(|header| header.key == name);
            found.map(|header| header.value.as_str())
        };
        assert_eq!(header("content-type"), Some("application/problem+json"));
        let retry_after = match http {
            429 => Some("3"),
            503 => Some("1"),
            _ => None,
        };
        assert_eq!(header("retry-after"), retry_after, "{reason:?}");
        assert_eq!(
            header("www-authenticate").is_some(),
            http == 401,
            "RFC 9110 section 15.5.2"
        );
        let body: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
        assert_eq!(
            (body["status"].as_i64(), body["code"].as_str()),
            (Some(i64::from(http)), Some(reason.as_str()))
        );
        for field in ["type", "title", "detail"] {
            assert!(
                body[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}"
            );
        }
        assert_eq!(metadata(&response)["reason"], reason.as_str());
    }
}

#[test]
fn a_deferred_refusal_is_an_error_response() {
    let denial = Denial::because(DenyReason::AuthorizationUnavailable);
    let response = decode(deny(&denial, None, true));
    assert_eq!(response.status.unwrap().code, 14);
    assert!(matches!(
        response.http_response,
        Some(HttpResponse::ErrorResponse(_))
    ));
}

#[test]
fn the_operator_learns_whose_key_was_refused() {
    let subject = Subject {
        tenant: TenantId::parse("acme").unwrap(),
        key: KeyId::parse("k1234567").unwrap(),
        plan: None,
    };
    let denial = Denial {
        subject: Some(subject),
        ..Denial::because(DenyReason::TenantSuspended)
    };
    let facts = metadata(&decode(deny(&denial, None, false)));
    assert_eq!(
        (facts["tenant_id"].as_str(), facts["key_id"].as_str()),
        ("acme", "k1234567")
    );
}
