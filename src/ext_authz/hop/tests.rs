use serde_json::{Value, json};

use super::*;

use crate::crypto::keyring::{Keyring, Ring};
use crate::crypto::signing::ContextKeys;

/// The keys of the first hop; how often one was asked for.
#[derive(Debug)]
struct First {
    keys: ContextKeys,
    asked: AtomicU64,
}

impl PublicKeys for Arc<First> {
    fn verify(&self, kid: &str, message: &[u8], signature: &[u8], now: Timestamp) -> Option<bool> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.keys.verify(kid, message, signature, now)
    }
}

const NOW: i64 = 1_800_000_000;
const TARGET: Target<'_> = Target {
    method: b"GET",
    authority: b"API.test:8443",
    path: b"/v1/orders?page=2",
};

fn keys() -> ContextKeys {
    let made = Timestamp::from_millis(NOW * 1000);
    ContextKeys::new(&Keyring::generate(Ring::Signing, made, &mut rand::rng())).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": "keystile", "sub": "acme", "aud": "api.test", "iat": NOW, "nbf": NOW, "exp": NOW + 60,
        "jti": "AAAAAAAAAAAAAAAAAAAAAA", "tenant": "acme", "key_id": "k1", "key_ref": "AQAAAAAAAAAAAAAAAAAAAA",
        "owner": "alice", "features": [], "scopes": [], "htm": "GET", "authority": "api.test:8443", "path": "/v1/orders",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn hop(keys: &Arc<First>, audience: &[&str]) -> TrustedHop {
    let settings = HopSettings {
        all_listeners: true,
        issuer: "keystile".into(),
        audience: audience.iter().map(ToString::to_string).collect(),
        max_age: Duration::from_secs(30),
    };
    TrustedHop::new(Box::new(Arc::clone(keys)), settings)
}

fn first() -> Arc<First> {
    Arc::new(First {
        keys: keys(),
        asked: AtomicU64::new(0),
    })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis((NOW + seconds) * 1000)
}

fn sign(keys: &ContextKeys, claims: &Value) -> String {
    keys.signer(at(0)).sign(claims.to_string().as_bytes())
}

#[test]
fn a_context_for_another_request_too_old_or_of_somebody_else_is_not_believed() {
    let first = first();
    let hop = hop(&first, &[]);
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let rows = [
        (claims(), 0, Outcome::Accepted),
        (claims(), 29, Outcome::Accepted),
        (claims(), -5, Outcome::Accepted),
        (claims(), -6, Outcome::Expired),
        (claims(), 30, Outcome::Expired),
        (claims(), 60, Outcome::Expired),
        (with("exp", json!(NOW)), 0, Outcome::Expired),
        (with("exp", json!(NOW + 301)), 0, Outcome::Expired),
        (with("exp", json!(i64::MAX)), 0, Outcome::Expired),
        (with("iat", json!(i64::MIN)), 0, Outcome::Expired),
        (with("nbf", json!(NOW + 10)), 0, Outcome::Expired),
        (with("iss", json!("other")), 0, Outcome::Foreign),
        (with("aud", json!("other.test")), 0, Outcome::Foreign),
        (
            with("aud", json!(["other.test", "api.test"])),
            0,
            Outcome::Accepted,
        ),
        (with("aud", json!([])), 0, Outcome::Foreign),
        (with("htm", json!("POST")), 0, Outcome::OtherRequest),
        (with("htm", json!("get")), 0, Outcome::OtherRequest),
        (
            with("authority", json!("api.test")),
            0,
            Outcome::OtherRequest,
        ),
        (with("path", json!("/v1/order")), 0, Outcome::OtherRequest),
        (
            with("path", json!("/v1/orders?page=2")),
            0,
            Outcome::OtherRequest,
        ),
        (with("path", json!("/V1/orders")), 0, Outcome::OtherRequest),
        (without("key_ref"), 0, Outcome::NoKeyRef),
        (with("key_ref", json!("short")), 0, Outcome::Malformed),
        (with("jti", json!("")), 0, Outcome::Malformed),
        (without("jti"), 0, Outcome::Malformed),
        (without("exp"), 0, Outcome::Malformed),
        (with("exp", json!("1")), 0, Outcome::Malformed),
        (with("tenant", json!(7)), 0, Outcome::Malformed),
    ];
    for (claims, seconds, expected) in rows {
        let token = sign(&first.keys, &claims);
        let found = hop.proven(token.as_bytes(), &[TARGET], at(seconds), true);
        let outcome = found.map_or_else(|outcome| outcome, |_| Outcome::Accepted);
        assert_eq!(outcome, expected, "{seconds}: {claims}");
    }
}

#[test]
fn a_context_that_was_made_up_or_changed_is_not_believed() {
    let (first, stranger) = (first(), keys());
    let hop = hop(&first, &["orders"]);
    let claims = with("aud", json!("orders"));
    let token = sign(&first.keys, &claims);
    let proven = hop
        .proven(token.as_bytes(), &[TARGET], at(0), true)
        .unwrap();
    assert_eq!(
        (proven.tenant.as_str(), proven.key.as_str()),
        ("acme", "k1")
    );

    let [header, body, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let kid = first.keys.signer(at(0)).id();
    let mut other = claims.clone();
    other["tenant"] = json!("other");
    let other = encode(&other);
    let twice = claims.to_string().replace(
        "\"tenant\":\"acme\"",
        "\"tenant\":\"acme\",\"tenant\":\"other\"",
    );
    let headers = |alg: &str, more: Value| {
        let mut header = json!({"alg": alg, "kid": kid, "typ": "JWT"});
        header
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        encode(&header)
    };
    let rows = [
        (sign(&stranger, &claims), Outcome::UnknownKey),
        (format!("{header}.{other}.{signature}"), Outcome::Signature),
        (format!("{header}.{body}."), Outcome::Signature),
        (format!("{header}.{body}.{signature}A"), Outcome::Signature),
        (
            format!("{header}.{body}.{signature}.{signature}"),
            Outcome::Malformed,
        ),
        (format!("{header}.{body}"), Outcome::Malformed),
        (
            format!("{}.{body}.{signature}", headers("none", json!({}))),
            Outcome::Malformed,
        ),
        (
            format!("{}.{body}.{signature}", headers("HS256", json!({}))),
            Outcome::Malformed,
        ),
        (
            format!(
                "{}.{body}.{signature}",
                headers("EdDSA", json!({"crit": ["b64"]}))
            ),
            Outcome::Malformed,
        ),
        (
            format!(
                "{}.{body}.{signature}",
                headers("EdDSA", json!({"jwk": {}}))
            ),
            Outcome::Malformed,
        ),
        (
            format!(
                "{}.{body}.{signature}",
                headers("EdDSA", json!({"typ": "at+jwt"}))
            ),
            Outcome::Malformed,
        ),
        (
            first.keys.signer(at(0)).sign(twice.as_bytes()),
            Outcome::Malformed,
        ),
        (format!("{token},{token}"), Outcome::Malformed),
        (format!(" {token}"), Outcome::Malformed),
        ("..".into(), Outcome::Malformed),
        (String::new(), Outcome::Malformed),
        ("a.".repeat(20_000), Outcome::Malformed),
    ];
    for (forged, expected) in rows {
        let found = hop.proven(forged.as_bytes(), &[TARGET], at(0), true);
        assert_eq!(found.unwrap_err(), expected, "{forged:.80}");
    }
    // Whatever byte is changed, nothing is believed of it.
    for at_byte in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at_byte] ^= 1;
        assert!(
            hop.proven(&bytes, &[TARGET], at(0), true).is_err(),
            "{at_byte}"
        );
    }
}

#[test]
fn what_is_for_another_request_costs_no_signature() {
    let first = first();
    let hop = hop(&first, &[]);
    let token = sign(&first.keys, &with("path", json!("/other")));
    assert!(
        hop.proven(token.as_bytes(), &[TARGET], at(0), true)
            .is_err()
    );
    assert_eq!(first.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_context_pays_for_one_request() {
    let first = first();
    let hop = hop(&first, &[]);
    let token = sign(&first.keys, &claims());
    let uses = |looks_only| {
        let found = hop.proven(token.as_bytes(), &[TARGET], at(1), looks_only);
        found.unwrap().first_use
    };
    assert!(uses(true), "who only looks uses nothing up");
    assert!(uses(false));
    assert!(!uses(false));
    let metrics = Metrics::new().unwrap();
    Arc::new(hop).observe(&metrics);
    let text = metrics.render().unwrap();
    for line in [
        "{outcome=\"accepted\"} 1",
        "{outcome=\"repeated\"} 1",
        "{outcome=\"signature\"} 0",
    ] {
        assert!(
            text.contains(&format!("keystile_trusted_hop_contexts_total{line}")),
            "{text}"
        );
    }
}
