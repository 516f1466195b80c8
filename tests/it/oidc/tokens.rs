//! Which tokens are accepted: real signatures, and everything that can be done to them.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keystile::clock::Timestamp;
use keystile::domain::name::{Issuer, TenantId};
use keystile::domain::role::Role;
use keystile::oidc::{
    ClaimPath, Holder, JWT_LEN_MAX, KeySet, Mapping, Refusal, Settings, Verifier,
};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{AUDIENCE, ISSUER, SigningKey, key_set};

const NOW: i64 = 1_800_000_000;

fn settings() -> Settings {
    let algorithms = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ];
    Settings {
        issuer: Issuer::parse(ISSUER).unwrap(),
        audience: vec![AUDIENCE.to_owned(), "other".to_owned()],
        algorithms: algorithms
            .iter()
            .map(|name| name.parse().unwrap())
            .collect(),
        leeway: Duration::from_secs(30),
        mapping: Mapping {
            role: ClaimPath::parse("realm_access.roles"),
            tenant: ClaimPath::parse("tenant"),
            owner: ClaimPath::parse("sub"),
            scopes: Some(ClaimPath::parse("scope")),
            roles: [
                ("platform", Role::GlobalAdmin),
                ("admin", Role::TenantAdmin),
                ("member", Role::User),
            ]
            .map(|(value, role)| (value.to_owned(), role))
            .into(),
            tenants: None,
        },
    }
}

fn plain() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 300, "nbf": NOW, "iat": NOW,
        "tenant": "acme", "realm_access": {"roles": ["member"]}, "scope": "read openid",
    })
}

fn verify(settings: Settings, keys: &str, token: &str) -> Result<Holder, Refusal> {
    let keys = KeySet::parse(keys.as_bytes()).unwrap();
    let now = Timestamp::from_millis(NOW * 1000);
    Verifier::new(settings).verify(token.as_bytes(), &keys, now)
}

#[test]
fn a_token_is_accepted_however_it_is_signed_with_a_public_key() {
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let mut keys: Vec<SigningKey> = rsa.map(|name| SigningKey::rsa("k").with(name, name)).into();
    keys.extend([
        SigningKey::p256("a"),
        SigningKey::p384("b"),
        SigningKey::ed25519("c"),
    ]);
    let all = key_set(&keys);
    for key in &keys {
        let name = key.algorithm;
        let holder = verify(settings(), &all, &key.token(&plain()))
            .unwrap_or_else(|why| panic!("{name}: {why:?}"));
        assert_eq!(holder.subject.as_str(), "alice");
        assert_eq!(
            (holder.role, holder.tenant),
            (Role::User, TenantId::parse("acme").ok())
        );
        let scopes: Vec<&str> = holder.scopes.iter().map(|scope| scope.as_str()).collect();
        assert_eq!(scopes, ["openid", "read"]);
        // And only as long as the settings allow it.
        let mut strict = settings();
        strict
            .algorithms
            .retain(|allowed| format!("{allowed:?}") != name);
        assert_eq!(
            verify(strict, &all, &key.token(&plain())),
            Err(Refusal::Algorithm),
            "{name}"
        );
    }
}

#[test]
fn one_changed_byte_anywhere_and_it_is_refused() {
    let key = SigningKey::p256("a");
    let (keys, token) = (key_set([&key]), key.token(&plain()));
    verify(settings(), &keys, &token).unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verify(settings(), &keys, &changed).is_err(), "byte {at}");
    }
    for end in 0..token.len() {
        assert!(verify(settings(), &keys, &token[..end]).is_err(), "{end}");
    }
}

/// A token with another header, signed as it should be.
fn headed(key: &SigningKey, changes: &Value) -> String {
    let mut header = key.header();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(header.as_object_mut().unwrap().remove(name)),
            value => header[name] = value.clone(),
        }
    }
    key.raw(&header.to_string(), &plain().to_string())
}

/// Signed with the public key as if that were a shared secret.
fn confused(key: &SigningKey, secret: &[u8]) -> String {
    let header = json!({"alg": "HS256", "kid": key.kid}).to_string();
    let parts = [header, plain().to_string()].map(|part| BASE64URL_NOPAD.encode(part.as_bytes()));
    let message = parts.join(".");
    let mac = Hmac::<Sha256>::new_from_slice(secret)
        .unwrap()
        .chain_update(&message);
    format!(
        "{message}.{}",
        BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())
    )
}

#[test]
fn a_header_chooses_neither_the_rules_nor_the_key() {
    let key = SigningKey::rsa("a");
    let thief = SigningKey::p256("thief");
    let keys = key_set([&key]);
    let jwk = key.jwk();
    let modulus = BASE64URL_NOPAD
        .decode(jwk["n"].as_str().unwrap().as_bytes())
        .unwrap();
    let unsigned = |alg: &str| {
        let header = BASE64URL_NOPAD.encode(json!({"alg": alg, "kid": "a"}).to_string().as_bytes());
        format!(
            "{header}.{}.",
            BASE64URL_NOPAD.encode(plain().to_string().as_bytes())
        )
    };
    let of_thief = |more: &Value| {
        let mut header = json!({"alg": "ES256", "kid": "a"});
        header
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        thief.raw(&header.to_string(), &plain().to_string())
    };
    let malformed = Err(Refusal::Malformed);
    for (what, token, expected) in [
        (
            "no kid, one key",
            headed(&key, &json!({"kid": null})),
            Ok(()),
        ),
        ("no typ", headed(&key, &json!({"typ": null})), Ok(())),
        (
            "an access token",
            headed(&key, &json!({"typ": "at+jwt"})),
            Ok(()),
        ),
        (
            "the same in full",
            headed(&key, &json!({"typ": "application/at+JWT"})),
            Ok(()),
        ),
        ("alg none", unsigned("none"), Err(Refusal::Algorithm)),
        ("alg None", unsigned("None"), Err(Refusal::Algorithm)),
        (
            "alg absent",
            headed(&key, &json!({"alg": null})),
            Err(Refusal::Algorithm),
        ),
        (
            "alg a number",
            headed(&key, &json!({"alg": 256})),
            Err(Refusal::Algorithm),
        ),
        ("no signature", unsigned("RS256"), Err(Refusal::Signature)),
        (
            "the modulus as a secret",
            confused(&key, &modulus),
            Err(Refusal::Algorithm),
        ),
        (
            "the JWK as a secret",
            confused(&key, jwk.to_string().as_bytes()),
            Err(Refusal::Algorithm),
        ),
        (
            "another algorithm than the key's",
            headed(&key, &json!({"alg": "RS384"})),
            Err(Refusal::UnknownKey),
        ),
        (
            "another kid",
            headed(&key, &json!({"kid": "b"})),
            Err(Refusal::UnknownKey),
        ),
        (
            "a kid that is a path",
            headed(&key, &json!({"kid": "../a"})),
            Err(Refusal::UnknownKey),
        ),
        (
            "a kid that is no text",
            headed(&key, &json!({"kid": 1})),
            malformed,
        ),
        (
            "a long kid",
            headed(&key, &json!({"kid": "a".repeat(257)})),
            malformed,
        ),
        (
            "a token for logging out",
            headed(&key, &json!({"typ": "logout+jwt"})),
            malformed,
        ),
        ("crit", headed(&key, &json!({"crit": ["exp"]})), malformed),
        ("empty crit", headed(&key, &json!({"crit": []})), malformed),
        (
            "b64 is critical",
            headed(&key, &json!({"crit": ["b64"], "b64": false})),
            malformed,
        ),
        (
            "a key in the header",
            of_thief(&json!({"jwk": thief.jwk()})),
            Err(Refusal::UnknownKey),
        ),
        (
            "a key in the header, RS256",
            of_thief(&json!({"alg": "RS256", "jwk": thief.jwk()})),
            Err(Refusal::Signature),
        ),
        (
            "where keys are",
            of_thief(&json!({"jku": "https://evil.example/jwks"})),
            Err(Refusal::UnknownKey),
        ),
        (
            "where a certificate is",
            of_thief(&json!({"x5u": "https://evil.example/x", "x5c": ["AAAA"]})),
            Err(Refusal::UnknownKey),
        ),
        (
            "the same, of the right key",
            headed(
                &key,
                &json!({"jku": "https://evil.example/jwks", "x5u": "https://evil.example/x"}),
            ),
            Ok(()),
        ),
        (
            "a header twice",
            key.raw(
                r#"{"alg":"RS256","kid":"a","kid":"a"}"#,
                &plain().to_string(),
            ),
            malformed,
        ),
        (
            "a list as header",
            key.raw("[]", &plain().to_string()),
            malformed,
        ),
        (
            "a list as claims",
            key.raw(&key.header().to_string(), "[]"),
            malformed,
        ),
        (
            "no JSON as claims",
            key.raw(&key.header().to_string(), "x"),
            malformed,
        ),
        (
            "four parts",
            format!("{}.x", key.token(&plain())),
            malformed,
        ),
        ("padding", key.token(&plain()) + "=", malformed),
        ("nothing", String::new(), malformed),
    ] {
        assert_eq!(
            verify(settings(), &keys, &token).map(drop),
            expected,
            "{what}: {token}"
        );
    }
}

#[test]
fn claims_are_held_against_the_settings_and_the_clock() {
    let key = SigningKey::ed25519("a");
    let keys = key_set([&key]);
    let mut long = plain();
    long["groups"] = "g".repeat(JWT_LEN_MAX).into();
    for (changes, expected) in [
        (json!({}), Ok(())),
        (json!({"aud": ["account", "other"]}), Ok(())),
        (json!({"aud": "account"}), Err(Refusal::Audience)),
        (json!({"aud": ["account"]}), Err(Refusal::Audience)),
        (json!({"aud": []}), Err(Refusal::Audience)),
        (json!({"aud": null}), Err(Refusal::Audience)),
        (json!({"aud": 7}), Err(Refusal::Audience)),
        (json!({"aud": "keystile "}), Err(Refusal::Audience)),
        (json!({"iss": "https://evil.example"}), Err(Refusal::Issuer)),
        (json!({"iss": format!("{ISSUER}/")}), Err(Refusal::Issuer)),
        (json!({"iss": [ISSUER]}), Err(Refusal::Issuer)),
        (
            json!({"iss": ["https://evil.example", ISSUER]}),
            Err(Refusal::Issuer),
        ),
        (json!({"iss": null}), Err(Refusal::Issuer)),
        (json!({"exp": NOW - 29}), Ok(())),
        (json!({"exp": NOW - 30}), Err(Refusal::Expired)),
        (json!({"exp": 0}), Err(Refusal::Expired)),
        (json!({"exp": -1}), Err(Refusal::Expired)),
        (json!({"exp": null}), Err(Refusal::Expired)),
        (json!({"exp": "2999999999"}), Err(Refusal::Expired)),
        (json!({"exp": u64::MAX}), Err(Refusal::Malformed)),
        (json!({"exp": NOW as f64 + 0.5}), Ok(())),
        (json!({"nbf": NOW + 30}), Ok(())),
        (json!({"nbf": NOW + 31}), Err(Refusal::NotYetValid)),
        (json!({"nbf": "soon"}), Err(Refusal::Malformed)),
        (json!({"nbf": null}), Ok(())),
        (json!({"iat": NOW + 31}), Err(Refusal::NotYetValid)),
        (json!({"cnf": {"jkt": "x"}}), Err(Refusal::Bound)),
        (json!({"sub": null}), Err(Refusal::NoSubject)),
        (json!({"sub": ""}), Err(Refusal::NoSubject)),
        (json!({"sub": 7}), Err(Refusal::NoSubject)),
        (json!({"sub": "a\nb"}), Err(Refusal::NoSubject)),
        (json!({"sub": "a b"}), Err(Refusal::NoSubject)),
        (json!({"sub": "a".repeat(256)}), Err(Refusal::NoSubject)),
        (json!({"sub": "auth0|0123456789"}), Ok(())),
        (json!({"sub": "ann!"}), Err(Refusal::NoOwner)),
        (json!({"realm_access": {"roles": []}}), Err(Refusal::NoRole)),
        (
            json!({"realm_access": {"roles": ["Member"]}}),
            Err(Refusal::NoRole),
        ),
        (
            json!({"realm_access": {"roles": {"member": true}}}),
            Err(Refusal::NoRole),
        ),
        (json!({"realm_access": ["member"]}), Err(Refusal::NoRole)),
        (
            json!({"realm_access": null, "realm_access.roles": ["member"]}),
            Err(Refusal::NoRole),
        ),
        (json!({"realm_access": null}), Err(Refusal::NoRole)),
        (json!({"realm_access": {"roles": "member"}}), Ok(())),
        (json!({"realm_access": {"roles": "x member y"}}), Ok(())),
        (json!({"tenant": null}), Err(Refusal::NoTenant)),
        (json!({"tenant": "ACME"}), Err(Refusal::NoTenant)),
        (json!({"tenant": "acme globex"}), Err(Refusal::NoTenant)),
        (json!({"tenant": ["acme", "acme"]}), Ok(())),
        (
            json!({"tenant": ["acme", "globex"]}),
            Err(Refusal::NoTenant),
        ),
        (json!({"tenant": {"id": "acme"}}), Err(Refusal::NoTenant)),
    ] {
        let mut claims = plain();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let found = verify(settings(), &keys, &key.token(&claims)).map(drop);
        assert_eq!(found, expected, "{changes}");
    }
    assert_eq!(
        verify(settings(), &keys, &key.token(&long)),
        Err(Refusal::Malformed),
        "too long"
    );
    let text = plain().to_string();
    for name in ["tenant", "sub", "exp", "realm_access"] {
        let twice = format!("{},\"{name}\":{}}}", &text[..text.len() - 1], plain()[name]);
        let found = verify(
            settings(),
            &keys,
            &key.raw(&key.header().to_string(), &twice),
        );
        assert_eq!(found, Err(Refusal::Malformed), "{name} twice");
    }
}

#[test]
fn the_first_role_of_the_settings_decides_and_a_tenant_goes_by_its_name_there() {
    let key = SigningKey::p384("a");
    let keys = key_set([&key]);
    let holder = |settings: Settings, roles: Value, tenant: Value| {
        let mut claims = plain();
        claims["realm_access"]["roles"] = roles;
        claims["tenant"] = tenant;
        verify(settings, &keys, &key.token(&claims)).map(|holder| (holder.role, holder.tenant))
    };
    let acme = || TenantId::parse("acme").ok();
    let ours = |roles| holder(settings(), roles, json!("acme"));
    assert_eq!(
        ours(json!(["member", "admin"])),
        Ok((Role::TenantAdmin, acme()))
    );
    assert_eq!(
        ours(json!(["admin", "platform"])),
        Ok((Role::GlobalAdmin, None))
    );
    // Who administers everything belongs nowhere.
    let nowhere = holder(settings(), json!(["platform"]), json!("No Tenant"));
    assert_eq!(nowhere, Ok((Role::GlobalAdmin, None)));

    let mut mapped = settings();
    mapped.mapping.tenants = Some(vec![("/customers/Acme Inc".to_owned(), acme().unwrap())]);
    let theirs = |tenant| holder(mapped.clone(), json!(["member"]), tenant);
    assert_eq!(
        theirs(json!(["/staff", "/customers/Acme Inc"])),
        Ok((Role::User, acme()))
    );
    assert_eq!(theirs(json!("acme")), Err(Refusal::NoTenant), "not listed");

    let mut named = settings();
    named.mapping.role = ClaimPath::parse("https://example.com/roles");
    let mut claims = plain();
    claims["https://example.com/roles"] = json!(["admin"]);
    claims["sub"] = json!("robot#1");
    let found = verify(named, &keys, &key.token(&claims)).unwrap();
    assert_eq!(
        (found.role, found.owner),
        (Role::TenantAdmin, None),
        "only a user must own keys"
    );
}

#[test]
fn without_a_name_a_key_is_taken_only_when_there_is_no_choice() {
    let (one, two) = (SigningKey::p256("one"), SigningKey::p256("two"));
    let other = SigningKey::ed25519("other");
    let token = headed(&one, &json!({"kid": null}));
    assert!(verify(settings(), &key_set([&one]), &token).is_ok());
    assert!(
        verify(settings(), &key_set([&one, &other]), &token).is_ok(),
        "of another kind"
    );
    let found = verify(settings(), &key_set([&one, &two]), &token);
    assert_eq!(found, Err(Refusal::UnknownKey));
    // Two keys of one name: either may have signed it.
    let twin = SigningKey::p256("one");
    for keys in [key_set([&one, &twin]), key_set([&twin, &one])] {
        assert!(verify(settings(), &keys, &one.token(&plain())).is_ok());
    }
    assert_eq!(
        verify(settings(), &key_set([&twin]), &one.token(&plain())),
        Err(Refusal::Signature)
    );
}
