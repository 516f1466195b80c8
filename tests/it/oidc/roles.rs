//! Whom a JWT stands for: the real binary over gRPC and REST.

use std::fs;

use keystile::proto::admin as pb;
use keystile::proto::admin::key_service_client::KeyServiceClient;
use keystile::proto::admin::tenant_service_client::TenantServiceClient;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::{SigningKey, ask, claims, key_set, list, place};
use crate::support::program::{Place, Running};

struct World {
    place: Place,
    _running: Running,
    key: SigningKey,
    channel: Channel,
}

impl World {
    async fn start() -> Self {
        let key = SigningKey::rsa("rsa-1");
        let place = place("file: jwks.json");
        fs::write(place.path("jwks.json"), key_set([&key])).unwrap();
        let running = place.serve();
        for tenant in ["acme", "globex"] {
            place.do_it(&["tenant", "create", tenant]);
        }
        let address = format!("http://127.0.0.1:{}", place.admin);
        let channel = Channel::from_shared(address).unwrap().connect_lazy();
        Self {
            place,
            _running: running,
            key,
            channel,
        }
    }

    fn token(&self, subject: &str, role: &str, tenant: &str) -> String {
        self.key.token(&claims(subject, role, tenant))
    }

    async fn get_tenant(&self, token: &str, tenant: &str) -> Result<(), Status> {
        let name = format!("tenants/{tenant}");
        let request = with(token, pb::GetTenantRequest { name });
        let mut client = TenantServiceClient::new(self.channel.clone());
        client.get_tenant(request).await.map(drop)
    }

    async fn create(&self, token: &str, key: pb::Key, id: &str) -> Result<pb::Key, Status> {
        let request = pb::CreateKeyRequest {
            parent: "tenants/acme".to_owned(),
            key: Some(key),
            request_id: id.to_owned(),
        };
        let mut client = KeyServiceClient::new(self.channel.clone());
        let made = client.create_key(with(token, request)).await?.into_inner();
        Ok(made.key.unwrap())
    }
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

fn key(owner: &str, scopes: &[&str]) -> pb::Key {
    pb::Key {
        display_name: "made".to_owned(),
        owner: owner.to_owned(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ..pb::Key::default()
    }
}

#[track_caller]
fn check(answer: Result<(), Status>, code: Code, reason: &str, words: &str) {
    let status = answer.unwrap_err();
    let found = status.get_details_error_info().unwrap().reason;
    assert_eq!((status.code(), found.as_str()), (code, reason), "{status}");
    assert!(status.message().contains(words), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jwt_has_the_role_that_its_claims_map_to() {
    let world = World::start().await;
    let platform = world.token("root", "platform", "nowhere");
    let admin = world.token("carol", "admin", "acme");
    let member = world.token("alice", "member", "acme");
    let (denied, unknown) = (Code::PermissionDenied, Code::Unauthenticated);
    world.get_tenant(&platform, "globex").await.unwrap();
    world.get_tenant(&admin, "acme").await.unwrap();
    for absent in ["globex", "absent"] {
        let found = world.get_tenant(&admin, absent).await;
        check(
            found,
            Code::NotFound,
            "TENANT_NOT_FOUND",
            "tenant not found",
        );
    }
    let found = world.get_tenant(&member, "acme").await;
    check(found, denied, "PERMISSION_DENIED", "this JWT has `user`");

    let expired = json!({"exp": 1_000_000_000});
    let foreign = json!({"aud": "account"});
    let none = json!({"realm_access": {"roles": ["guest"]}});
    for (changes, code, reason, words) in [
        (expired, unknown, "JWT_EXPIRED", "has expired"),
        (foreign, unknown, "INVALID_JWT", "`aud`"),
        (none, denied, "PERMISSION_DENIED", "gives no role"),
        (
            json!({"tenant": ["acme", "globex"]}),
            denied,
            "PERMISSION_DENIED",
            "exactly one tenant",
        ),
        (
            json!({"tenant": "absent"}),
            unknown,
            "INVALID_JWT",
            "not valid",
        ),
    ] {
        let mut claims = claims("carol", "admin", "acme");
        claims
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let found = world.get_tenant(&world.key.token(&claims), "acme").await;
        check(found, code, reason, words);
    }
    let stranger = SigningKey::p256("rsa-1");
    let forged = stranger.token(&claims("root", "platform", "acme"));
    check(
        world.get_tenant(&forged, "acme").await,
        unknown,
        "INVALID_JWT",
        "not valid",
    );
    let other = SigningKey::p256("other").token(&claims("root", "platform", "acme"));
    check(
        world.get_tenant(&other, "acme").await,
        unknown,
        "INVALID_JWT",
        "not valid",
    );

    world.place.do_it(&["tenant", "suspend", "acme"]);
    let found = world.get_tenant(&admin, "acme").await;
    check(
        found,
        denied,
        "TENANT_SUSPENDED",
        "tenant of the JWT is suspended",
    );
    assert_eq!(
        list(&world.place, &admin),
        (403, "TENANT_SUSPENDED".to_owned())
    );
    world.place.do_it(&["tenant", "resume", "acme"]);

    let (_, metrics) = world.place.ops("/metrics").unwrap();
    for line in [
        "keystile_jwts_total{outcome=\"accepted\"}",
        "keystile_jwts_total{outcome=\"audience\"} 1",
        "keystile_jwts_total{outcome=\"signature\"} 0",
        "keystile_jwts_total{outcome=\"expired\"} 1",
        "keystile_jwks_reads_total{outcome=\"ok\"}",
        "keystile_jwks_age_seconds 0",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_a_jwt_has_keys_of_its_own_and_gives_what_its_token_names() {
    let world = World::start().await;
    let alice = world.token("alice", "member", "acme");
    let bob = world.token("bob", "member", "acme");
    let made = world
        .create(&alice, key("alice", &["read"]), "")
        .await
        .unwrap();
    assert_eq!(
        (made.owner.as_str(), made.scopes.as_slice()),
        ("alice", &["read".to_owned()][..])
    );
    for (wanted, field) in [
        (key("bob", &[]), "key.owner"),
        (key("alice", &["write"]), "key.scopes"),
        (key("alice", &["read", "write"]), "key.scopes"),
    ] {
        let refused = world.create(&alice, wanted, "").await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(
            refused.message().starts_with(field),
            "{}",
            refused.message()
        );
        assert!(
            refused.message().ends_with("the calling JWT"),
            "{}",
            refused.message()
        );
    }
    let admin_key = pb::Key {
        role: pb::Role::TenantAdmin.into(),
        ..key("alice", &[])
    };
    let refused = world.create(&alice, admin_key, "").await.unwrap_err();
    assert!(
        refused.message().starts_with("a JWT with the role `user`"),
        "{}",
        refused.message()
    );

    let mut keys = KeyServiceClient::new(world.channel.clone());
    let get = pb::GetKeyRequest {
        name: made.name.clone(),
    };
    keys.get_key(with(&alice, get.clone())).await.unwrap();
    let hidden = keys.get_key(with(&bob, get)).await.unwrap_err();
    assert_eq!(
        (hidden.code(), hidden.message()),
        (Code::NotFound, "key not found")
    );

    // What one has asked for, another does not get by the same id.
    let id = "0b6f6a6e-7a54-4c0f-9a55-6b1f5b8d2c11";
    let first = world.create(&alice, key("alice", &[]), id).await.unwrap();
    let again = world.create(&alice, key("alice", &[]), id).await.unwrap();
    assert_eq!(first.name, again.name, "the same caller, the same answer");
    let admin = world.token("carol", "admin", "acme");
    let others = world.create(&admin, key("alice", &[]), id).await.unwrap();
    assert_ne!(first.name, others.name);

    let own = |token: &str| {
        ask(
            &world.place,
            token,
            "GET",
            "/api/v1/auth/apikeys",
            &Value::Null,
        )
    };
    assert_eq!(own(&alice).1["data"]["total"], 3);
    assert_eq!(own(&bob).1["data"]["total"], 0);
    let body = json!({"name": "over REST", "scopes": ["read"]});
    let (status, made) = ask(&world.place, &bob, "POST", "/api/v1/auth/apikeys", &body);
    assert_eq!(status, 201, "{made}");
    let path = format!(
        "/api/v1/auth/apikeys/{}",
        made["data"]["id"].as_str().unwrap()
    );
    assert_eq!(
        ask(&world.place, &alice, "DELETE", &path, &Value::Null).0,
        404
    );
    assert_eq!(
        ask(&world.place, &bob, "DELETE", &path, &Value::Null).0,
        200
    );
    // A JWT is no key, whoever asks about it.
    let body = json!({ "token": alice });
    let (status, answer) = ask(&world.place, &alice, "POST", "/api/v1/auth/validate", &body);
    assert_eq!(
        (status, answer["code"].as_str()),
        (401, Some("INVALID_API_KEY"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_strict_mode_a_perfect_jwt_is_refused_as_any_key_that_is_not_known() {
    let world = World::start().await;
    let token = world.token("root", "platform", "acme");
    world.get_tenant(&token, "acme").await.unwrap();
    let place = Place::bootstrapped();
    let _running = place.serve();
    place.do_it(&["tenant", "create", "acme"]);
    let address = format!("http://127.0.0.1:{}", place.admin);
    let channel = Channel::from_shared(address).unwrap().connect_lazy();
    let mut client = TenantServiceClient::new(channel);
    let mut get = async |token: &str| {
        let name = "tenants/acme".to_owned();
        let answer = client.get_tenant(with(token, pb::GetTenantRequest { name }));
        let status = answer.await.unwrap_err();
        (
            status.code(),
            status.message().to_owned(),
            status.details().to_vec(),
        )
    };
    let unknown = "ks_live_0000000000000000000000000000000000000000000000000";
    let refused = get(&token).await;
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (Code::Unauthenticated, "the API key is not valid")
    );
    assert_eq!(refused, get(unknown).await);
    assert_eq!(list(&place, &token), (401, "INVALID_API_KEY".to_owned()));
    assert_eq!(list(&place, &token), list(&place, unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_calls_with_a_jwt_and_says_what_to_do_when_it_is_not_taken() {
    let mut world = World::start().await;
    let token = world.token("root", "platform", "acme");
    fs::write(world.place.path("jwt"), format!("{token}\n")).unwrap();
    let with = [
        "tenant",
        "get",
        "acme",
        "--api-key-file",
        "jwt",
        "-o",
        "name",
    ];
    assert_eq!(world.place.do_it(&with).trim(), "tenants/acme");
    world.place.admin_token = String::new();
    let login = world.place.run(&["login", "--api-key-file", "jwt"]);
    assert!(
        login.stdout.contains("as the holder of this JWT"),
        "{}{}",
        login.stdout,
        login.stderr
    );
    assert!(login.stderr.contains("log in again"), "{}", login.stderr);
    assert_eq!(
        world
            .place
            .do_it(&["tenant", "get", "acme", "-o", "name"])
            .trim(),
        "tenants/acme"
    );

    let mut old = claims("root", "platform", "acme");
    old["exp"] = json!(1_000_000_000);
    fs::write(world.place.path("jwt"), world.key.token(&old)).unwrap();
    let expired = world.place.run(&with);
    assert_eq!(expired.code, 1);
    assert!(
        expired.stderr.contains("has expired") && expired.stderr.contains("hint: get a new one"),
        "{}",
        expired.stderr
    );

    let strict = Place::bootstrapped();
    let _running = strict.serve();
    fs::write(strict.path("jwt"), &token).unwrap();
    let refused = strict.run(&with);
    assert!(
        refused
            .stderr
            .contains("does not accept this JWT\nhint: use an API key"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains(&token));
}
