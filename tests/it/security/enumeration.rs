//! Nobody learns which tokens, tenants and keys there are, or were: by no answer, and by no clock.

use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use keystile::proto::admin as pb;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::clocked::{QUESTIONS, check_no_time_tells};
use super::{delete, keys, make, many, revoke_all, tenant, unknown};
use crate::harness::http1;
use crate::rest::{KEYS, PLACE, VALIDATE, ask};
use crate::support::{check, client};

/// Enough that each is asked for once: what is remembered of a first answer must not help.
const COUNT: usize = QUESTIONS + 20;

/// Tokens of each kind that must not be told from another.
struct Tokens([Vec<String>; 4]);

const KINDS: [&str; 4] = ["unknown", "revoked", "of a deleted tenant", "malformed"];

impl Tokens {
    async fn new(name: &str) -> Self {
        let [gone, doomed] = ["gone", "doomed"].map(|end| format!("{name}-{end}"));
        for id in [&gone, &doomed] {
            tenant(id, pb::Tenant::default()).await;
        }
        let (revoked, deleted) = (many(&gone, COUNT).await, many(&doomed, COUNT).await);
        revoke_all(&gone).await;
        delete(&doomed).await;
        let unknown = (0..COUNT).map(|_| unknown()).collect();
        Self([
            unknown,
            revoked,
            deleted,
            (0..COUNT).map(malformed).collect(),
        ])
    }

    /// One that was not asked for yet.
    fn get(&self, kind: usize, used: &mut usize) -> &str {
        *used += 1;
        &self.0[kind][*used / KINDS.len()]
    }
}

fn malformed(at: usize) -> String {
    let mut token = unknown();
    match at % 4 {
        0 => "x".into(),
        1 => "ks_live_".into(),
        2 => format!("{token}x"),
        _ => {
            // A typing error: the checksum does not match.
            let last = if token.pop() == Some('0') { '1' } else { '0' };
            format!("{token}{last}")
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Asks with a token of each kind, in turn: all answers are one; then by the clock.
#[track_caller]
fn check_all_alike(
    name: &str,
    runtime: &Runtime,
    works: &str,
    mut answer: impl FnMut(&str) -> String,
) {
    let tokens = runtime.block_on(Tokens::new(name));
    let mut used = 0;
    let first = answer(tokens.get(0, &mut used));
    for (kind, name) in KINDS.iter().enumerate() {
        for _ in 0..8 {
            assert_eq!(answer(tokens.get(kind, &mut used)), first, "{name}");
        }
    }
    assert_ne!(answer(works), first, "and one that works is told apart");
    check_no_time_tells(&KINDS, |kind, _| {
        answer(tokens.get(kind, &mut used));
    });
}

#[test]
fn a_check_answers_all_tokens_that_do_not_work_alike() {
    let runtime = runtime();
    let channel = runtime.block_on(client::tcp(PLACE.server.authz_port));
    check_all_alike("enum-check", &runtime, &PLACE.alice, |token| {
        let request = check::headers(&[
            (":method", "GET"),
            ("x-api-key", token),
            ("x-request-id", "same"),
        ]);
        let mut client = AuthorizationClient::new(channel.clone());
        let answer = runtime.block_on(client.check(request)).unwrap();
        let mut metadata = answer.metadata().clone();
        metadata.remove("date");
        // Envoy's log may know whose key it was (DESIGN 3.3); the client gets the rest.
        let answer = CheckResponse {
            dynamic_metadata: None,
            ..answer.into_inner()
        };
        format!("{metadata:?} {answer:?}")
    });
}

#[test]
fn an_rpc_answers_all_callers_that_are_none_alike() {
    let runtime = runtime();
    check_all_alike("enum-grpc", &runtime, &PLACE.alice, |token| {
        let request = pb::ListKeysRequest {
            parent: "tenants/acme".into(),
            ..pb::ListKeysRequest::default()
        };
        match runtime.block_on(async { keys(token).list_keys(request).await }) {
            Ok(_) => "let in".into(),
            Err(status) => {
                let mut metadata = status.metadata().clone();
                metadata.remove("date");
                // Not the whole status: its own metadata have the date.
                let (code, text) = (status.code(), status.message());
                format!("{code} {text} {:?} {metadata:?}", status.details())
            }
        }
    });
}

#[test]
fn an_rpc_says_the_same_of_all_tokens_that_do_not_work() {
    let runtime = runtime();
    let client = runtime.block_on(async { keys(&PLACE.admin) });
    check_all_alike("enum-verify", &runtime, &PLACE.alice, |token| {
        let request = pb::VerifyKeyRequest {
            token: token.into(),
            ..pb::VerifyKeyRequest::default()
        };
        let answer = runtime.block_on(client.clone().verify_key(request));
        format!("{:?}", answer.unwrap().into_inner())
    });
}

fn told(reply: &http1::Reply) -> String {
    let mut headers = reply.headers.clone();
    headers.retain(|(name, _)| name != "date");
    let body = String::from_utf8_lossy(&reply.body);
    format!("{} {headers:?} {body}", reply.status)
}

#[test]
fn rest_answers_all_callers_that_are_none_alike() {
    check_all_alike("enum-rest", &runtime(), &PLACE.alice, |token| {
        told(&ask("GET", KEYS, token, None).0)
    });
}

#[test]
fn validate_answers_all_tokens_that_do_not_work_alike() {
    check_all_alike("enum-validate", &runtime(), &PLACE.alice, |token| {
        told(&ask("POST", VALIDATE, "", Some(&json!({ "token": token }))).0)
    });
}

/// Another tenant's key, and one that there never was.
#[test]
fn keys_and_tenants_of_others_are_as_those_that_never_were() {
    let runtime = runtime();
    let theirs = runtime.block_on(make("globex", "erin", pb::Role::User)).0;
    let never = "aaaaaaaaaaaaaaaaaaaa";
    let revoke = |id: &str| told(&ask("DELETE", &format!("{KEYS}/{id}"), &PLACE.admin, None).0);
    let list = |tenant: &str| {
        let path = format!("{KEYS}?tenant_id={tenant}");
        told(&ask("GET", &path, &PLACE.admin, None).0)
    };
    assert_eq!(revoke(&theirs.key_id), revoke(never));
    assert_eq!(list("globex"), list("never-was"));
    assert_ne!(list("globex"), list("acme"));
    check_no_time_tells(&["theirs", "never"], |kind, _| {
        revoke([theirs.key_id.as_str(), never][kind]);
    });
    check_no_time_tells(&["theirs", "never"], |kind, _| {
        list(["globex", "never-was"][kind]);
    });
}
