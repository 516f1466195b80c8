//! Whatever a request is made of: an answer in the protocol, a key only for its token, no reserved header of the
//! client's.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use keystile::ext_authz::credential::CredentialSource;
use keystile::ext_authz::{CheckService, Settings};
use percent_encoding::percent_decode;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::Message as _;

use crate::support::check;
use crate::support::world::World;

const CASES: u32 = 3_000;
/// Every allow sets or removes each of these.
const RESERVED: [&str; 9] = [
    "x-tenant-token",
    "x-tenant-id",
    "x-tenant-name",
    "x-tenant-plan",
    "x-tenant-features",
    "x-tenant-rate-limit",
    "x-api-key-id",
    "x-api-key-owner",
    "x-api-key-scopes",
];

/// A service that looks everywhere for a key, and tokens to look for.
struct Setting {
    service: CheckService,
    runtime: tokio::runtime::Runtime,
    /// Of the one key that works.
    token: String,
    /// What is sent: the token, and what is almost one.
    tokens: Vec<String>,
}

fn setting() -> Setting {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (service, tokens) = runtime.block_on(async {
        let world = World::new().await;
        let [works, revoked] = [world.create_key().await, world.create_key().await];
        world.revoke(&revoked).await;
        let settings = Settings {
            credentials: vec![
                CredentialSource::Header("x-api-key".into()),
                CredentialSource::Bearer("authorization".into()),
                CredentialSource::Query("api_key".into()),
                CredentialSource::Cookie("api_key".into()),
            ],
            ..Settings::default()
        };
        let patience = crate::harness::PATIENCE;
        let service = world.service(patience, settings);
        let swapped = works.token.to_ascii_uppercase();
        let short = works.token[..works.token.len() - 1].to_owned();
        // The one that works more often, or few requests would come far.
        let good = works.token;
        (
            service,
            vec![
                good.clone(),
                good.clone(),
                good,
                revoked.token,
                swapped,
                short,
            ],
        )
    });
    Setting {
        service,
        runtime,
        token: tokens[0].clone(),
        tokens,
    }
}

impl Setting {
    fn answer(&self, message: &[u8]) -> CheckResponse {
        // Not through `call`, which would turn a panic into an answer.
        let answer = self.runtime.block_on(self.service.check(message, None));
        CheckResponse::decode(answer.0.into_bytes()).expect("an answer that can be read")
    }
}

fn value(tokens: &[String]) -> impl Strategy<Value = String> + use<> {
    let token = prop::sample::select(tokens.to_vec());
    let form = prop::sample::select(vec![
        "{}",
        "{}",
        "Bearer {}",
        "bearer  {} ",
        "Basic {}",
        "{},{}",
        "api_key={}",
        "a=1; api_key={}; b=2",
        "api_key={}; api_key=x",
        "x-tenant-id, close",
        "{} {}",
        "application/grpc",
        "",
    ]);
    prop_oneof![
        4 => (token, form).prop_map(|(token, form)| form.replace("{}", &token)),
        1 => "[ -~]{0,40}",
        1 => "\\PC{0,20}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "x-api-key",
        "x-api-key",
        "x_api_key",
        "authorization",
        "authorization",
        "cookie",
        "connection",
        "content-type",
        "x-request-id",
        ":method",
        ":path",
        "x-tenant-id",
        "x_tenant_id",
        "X-Tenant-Plan",
        "x.tenant.id",
        "x!tenant!evil",
        "x~api~key~id",
        "x-tenant-meta-a",
        "x-tenant-",
        "x-api-key-id",
        "x-api_key-scopes",
        "x-api-key-owner",
    ]);
    prop_oneof![
        5 => known.prop_map(str::to_owned),
        1 => "[a-z_-]{1,16}",
        1 => "x-tenant-[a-z_]{0,8}",
        1 => "x[!-~]tenant[!-~][a-z]{0,4}",
    ]
}

fn path(tokens: &[String]) -> impl Strategy<Value = String> + use<> {
    let token = prop::sample::select(tokens.to_vec());
    let form = prop::sample::select(vec![
        "/?api_key={}",
        "/a?b=1&api%5fkey={}&c",
        "/?api_key=x&api_key={}",
        "/?API_KEY={}",
        "{}",
        "/{}",
        "/#?api_key={}",
    ]);
    prop_oneof![
        2 => Just("/".to_owned()),
        2 => (token, form).prop_map(|(token, form)| form.replace("{}", &token)),
        1 => "/[ -~]{0,40}",
        1 => "\\PC{0,20}",
    ]
}

fn rule() -> impl Strategy<Value = HashMap<String, String>> {
    let entries = prop::sample::select(vec![
        ("keystile.mode", "required"),
        ("keystile.mode", "optional"),
        ("keystile.mode", "off"),
        ("keystile.mode", "maybe"),
        ("keystile.features", "images"),
        ("keystile.features", ""),
        ("keystile.scopes", "read,write"),
        ("keystile.cost", "2"),
        ("keystile.typo", "x"),
        ("other", "off"),
    ]);
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    prop::collection::vec(entries, 0..3).prop_map(move |all| all.into_iter().map(owned).collect())
}

/// Headers as Envoy sends them: as a map, or as raw lines.
fn requests(tokens: &[String]) -> impl Strategy<Value = CheckRequest> + use<> {
    let headers = prop::collection::vec((name(), value(tokens)), 0..8);
    let junk = prop::collection::vec(any::<u8>(), 0..12);
    (headers, path(tokens), rule(), any::<bool>(), junk).prop_map(
        |(headers, path, rule, raw, junk)| {
            let mut http = HttpRequest {
                path,
                ..HttpRequest::default()
            };
            if raw {
                let line = |(key, value): (String, String)| HeaderValue {
                    key,
                    raw_value: value.into_bytes(),
                    ..HeaderValue::default()
                };
                let mut lines: Vec<_> = headers.into_iter().map(line).collect();
                lines.push(HeaderValue {
                    key: "x-junk".into(),
                    raw_value: junk,
                    ..HeaderValue::default()
                });
                http.header_map = Some(HeaderMap { headers: lines });
            } else {
                http.headers = headers.into_iter().collect();
            }
            let mut request = check::request(http);
            if let Some(attributes) = &mut request.attributes {
                attributes.context_extensions = rule;
            }
            request
        },
    )
}

/// Tells what is wrong with an answer to these bytes; `client` are the names of the client's headers.
fn judge(
    setting: &Setting,
    message: &[u8],
    client: &[String],
    rule: Option<&HashMap<String, String>>,
) -> Result<(), TestCaseError> {
    let answer = setting.answer(message);
    let code = answer.status.as_ref().map(|status| status.code);
    match answer.http_response {
        Some(HttpResponse::OkResponse(ok)) => {
            prop_assert_eq!(code, Some(0));
            judge_allow(&ok, client)?;
            let key = set_headers(&ok)?.contains_key("x-api-key-id");
            if key {
                prop_assert!(holds(message, &setting.token), "a key without its token");
            } else if let Some(rule) = rule {
                let mode = rule.get("keystile.mode").map(String::as_str);
                prop_assert!(
                    matches!(mode, Some("off" | "optional")),
                    "passed without a key: {:?}",
                    rule
                );
            }
        }
        Some(HttpResponse::DeniedResponse(denied)) => {
            prop_assert!(code.is_some_and(|code| code != 0), "{:?} would allow", code);
            let http = denied.status.map(|status| status.code);
            prop_assert!(matches!(http, Some(400 | 401 | 403 | 503)), "{:?}", http);
        }
        other => prop_assert!(false, "neither allow nor deny: {:?}", other),
    }
    Ok(())
}

fn holds(message: &[u8], token: &str) -> bool {
    let has = |text: &[u8]| {
        text.windows(token.len())
            .any(|part| part == token.as_bytes())
    };
    has(message) || has(&percent_decode(message).collect::<Vec<u8>>())
}

/// Every reserved header is set or removed, never both; so is whatever of the client's could pass for one.
fn judge_allow(ok: &OkHttpResponse, client: &[String]) -> Result<(), TestCaseError> {
    let set = set_headers(ok)?;
    let removed = |name: &str| {
        let mut all = ok.headers_to_remove.iter();
        all.any(|removed| removed.eq_ignore_ascii_case(name))
    };
    for name in RESERVED {
        prop_assert!(set.contains_key(name) != removed(name), "{}", name);
    }
    for name in client {
        let plain = name
            .to_ascii_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        if plain.starts_with("x-tenant-") || plain.starts_with("x-api-key-") {
            let set = set.contains_key(name.to_ascii_lowercase().as_str());
            prop_assert!(set != removed(name), "the client's {}", name);
        }
    }
    Ok(())
}

#[expect(
    deprecated,
    reason = "that `append` is unset is part of what is promised"
)]
fn set_headers(ok: &OkHttpResponse) -> Result<BTreeMap<&str, &str>, TestCaseError> {
    let mut set = BTreeMap::new();
    for HeaderValueOption {
        header,
        append,
        append_action,
        ..
    } in &ok.headers
    {
        prop_assert_eq!((*append_action, append.is_none()), (2, true), "overwrites");
        let header = header.as_ref().unwrap();
        let visible = header
            .value
            .bytes()
            .all(|b| b == b' ' || b.is_ascii_graphic());
        prop_assert!(visible, "{}: {:?}", header.key, header.value);
        let twice = set.insert(header.key.as_str(), header.value.as_str());
        prop_assert!(twice.is_none(), "{} is set twice", header.key);
    }
    Ok(set)
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn any_request_is_answered_and_a_key_is_given_for_its_token_alone() {
    let setting = setting();
    let test = |request: CheckRequest| {
        let attributes = request.attributes.as_ref().unwrap();
        let http = attributes.request.as_ref().unwrap().http.as_ref().unwrap();
        let raw = http.header_map.iter().flat_map(|map| &map.headers);
        let raw = raw.map(|header| header.key.clone());
        let client: Vec<_> = http.headers.keys().cloned().chain(raw).collect();
        let rule = &attributes.context_extensions;
        judge(&setting, &request.encode_to_vec(), &client, Some(rule))
    };
    runner().run(&requests(&setting.tokens), test).unwrap();
}

#[test]
fn any_bytes_are_answered_and_a_key_is_given_for_its_token_alone() {
    let setting = setting();
    let change = (any::<prop::sample::Index>(), any::<u8>(), any::<bool>());
    let broken = (
        requests(&setting.tokens).prop_map(|request| request.encode_to_vec()),
        prop::collection::vec(change, 1..4),
    );
    let test = |(mut message, changes): (Vec<u8>, Vec<_>)| {
        for (at, byte, cut) in changes {
            if message.is_empty() {
                break;
            }
            let at: prop::sample::Index = at;
            let at = at.index(message.len());
            if cut {
                message.truncate(at);
            } else {
                message[at] = byte;
            }
        }
        judge(&setting, &message, &[], None)
    };
    runner().run(&broken, test).unwrap();
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let test = |message: Vec<u8>| judge(&setting, &message, &[], None);
    runner().run(&noise, test).unwrap();
}

#[test]
fn the_generated_requests_reach_every_kind_of_answer() {
    let setting = setting();
    let kinds = std::cell::RefCell::new(BTreeMap::<String, u32>::new());
    let test = |request: CheckRequest| {
        let answer = setting.answer(&request.encode_to_vec());
        let kind = match answer.http_response {
            Some(HttpResponse::OkResponse(ok)) if set_headers(&ok)?.is_empty() => "keyless".into(),
            Some(HttpResponse::OkResponse(_)) => "with a key".into(),
            _ => answer.status.unwrap_or_default().message,
        };
        *kinds.borrow_mut().entry(kind).or_default() += 1;
        Ok(())
    };
    runner().run(&requests(&setting.tokens), test).unwrap();
    let kinds = kinds.into_inner();
    for kind in [
        "with a key",
        "keyless",
        "missing_api_key",
        "invalid_api_key",
        "ambiguous_request",
        "feature_not_enabled",
        "scope_not_granted",
        "authorization_unavailable",
    ] {
        assert!(
            kinds.get(kind).is_some_and(|n| *n >= 3),
            "{kind}: {kinds:?}"
        );
    }
}
