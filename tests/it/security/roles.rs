//! Every endpoint of REST, by every role, on its own and on others' things. A new endpoint without a row fails.

use keystile::proto::admin as pb;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{make, revoked_key, tenant};
use crate::rest::{CONFIG, KEYS, LIMITS, VALIDATE, ask};

/// What a caller is answered: the status says it.
type Row = (&'static str, &'static str, [u16; 4]);

/// Endpoint, whose things; then the status for nobody, a user, a tenant admin and a global admin of the tenant.
const TABLE: &[Row] = &[
    //                                       nobody user admin global
    ("POST /api/v1/auth/apikeys", "mine", [401, 201, 201, 201]),
    (
        "POST /api/v1/auth/apikeys",
        "of another owner",
        [401, 403, 201, 201],
    ),
    (
        "POST /api/v1/auth/apikeys",
        "with more scopes",
        [401, 403, 201, 201],
    ),
    ("GET /api/v1/auth/apikeys", "mine", [401, 200, 200, 200]),
    (
        "GET /api/v1/auth/apikeys",
        "of another owner",
        [401, 403, 200, 200],
    ),
    (
        "GET /api/v1/auth/apikeys",
        "of another tenant",
        [401, 404, 404, 200],
    ),
    (
        "DELETE /api/v1/auth/apikeys/{id}",
        "mine",
        [401, 200, 200, 200],
    ),
    (
        "DELETE /api/v1/auth/apikeys/{id}",
        "of another owner",
        [401, 404, 200, 200],
    ),
    (
        "DELETE /api/v1/auth/apikeys/{id}",
        "of an admin",
        [401, 404, 403, 200],
    ),
    (
        "DELETE /api/v1/auth/apikeys/{id}",
        "of another tenant",
        [401, 404, 404, 404],
    ),
    (
        "GET /api/v1/auth/apikey-limits",
        "mine",
        [401, 200, 200, 200],
    ),
    (
        "GET /api/v1/auth/apikey-limits",
        "of another tenant",
        [401, 404, 404, 200],
    ),
    (
        "PUT /api/v1/auth/apikey-limits",
        "mine",
        [401, 403, 200, 200],
    ),
    (
        "PUT /api/v1/auth/apikey-limits",
        "of another tenant",
        [401, 404, 404, 200],
    ),
    (
        "GET /api/v1/auth/apikey-config",
        "mine",
        [401, 403, 403, 200],
    ),
    ("POST /api/v1/auth/validate", "mine", [200, 200, 200, 200]),
    (
        "POST /api/v1/auth/validate",
        "of another owner",
        [200, 401, 200, 200],
    ),
    (
        "POST /api/v1/auth/validate",
        "of another tenant",
        [200, 401, 401, 200],
    ),
];

#[test]
fn every_endpoint_has_a_row() {
    let (_, document) = ask("GET", "/openapi.json", "", None);
    let paths = document["paths"].as_object().unwrap();
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let endpoint = format!("{} {path}", method.to_uppercase());
            assert!(TABLE.iter().any(|(row, ..)| *row == endpoint), "{endpoint}");
        }
    }
}

struct Call {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

/// Two tenants that the tests of this file share.
static TENANTS: OnceCell<()> = OnceCell::const_new();

async fn call(endpoint: &str, whose: &str, owner: &str) -> Call {
    let make_tenants = async || {
        for id in ["roles", "roles-other"] {
            tenant(id, pb::Tenant::default()).await;
        }
    };
    TENANTS.get_or_init(make_tenants).await;
    let (of, tenant) = match whose {
        "of another tenant" => ("staff", "roles-other"),
        "of another owner" => ("other", "roles"),
        "of an admin" => ("chief", "roles"),
        _ => (owner, "roles"),
    };
    let role = match whose {
        "of an admin" => pb::Role::GlobalAdmin,
        _ => pb::Role::User,
    };
    let (method, path) = endpoint.split_once(' ').unwrap();
    let (path, body) = match (method, path) {
        ("POST", KEYS) => {
            let mut body = json!({"name": "made"});
            match whose {
                "of another owner" => body["owner"] = of.into(),
                "with more scopes" => body["scopes"] = json!(["admin"]),
                _ => {}
            }
            (path.to_owned(), Some(body))
        }
        ("GET", KEYS) => match whose {
            "of another owner" => (format!("{path}?owner={of}"), None),
            "of another tenant" => (format!("{path}?tenant_id={tenant}&owner={of}"), None),
            _ => (path.to_owned(), None),
        },
        (_, LIMITS) => {
            let body = (method == "PUT").then(|| json!({"maxKeysPerUser": 1000}));
            match whose {
                "of another tenant" => (format!("{path}?tenant_id={tenant}"), body),
                _ => (path.to_owned(), body),
            }
        }
        ("GET", CONFIG) => (path.to_owned(), None),
        ("DELETE", _) => {
            let (key, _) = make(tenant, of, role).await;
            (format!("{KEYS}/{}", key.key_id), None)
        }
        ("POST", VALIDATE) => {
            let (_, token) = make(tenant, of, role).await;
            (path.to_owned(), Some(json!({ "token": token })))
        }
        _ => panic!("{endpoint} needs a call here"),
    };
    let method = ["POST", "GET", "DELETE", "PUT"]
        .into_iter()
        .find(|known| *known == method);
    Call {
        method: method.unwrap(),
        path,
        body,
    }
}

#[tokio::test]
async fn every_endpoint_by_every_role_on_own_and_others_things() {
    let callers = [
        ("nobody", None),
        ("staff", Some(pb::Role::User)),
        ("boss", Some(pb::Role::TenantAdmin)),
        ("root", Some(pb::Role::GlobalAdmin)),
    ];
    for (at, (owner, role)) in callers.into_iter().enumerate() {
        // Also makes the tenants, the first time.
        call("GET /api/v1/auth/apikeys", "mine", owner).await;
        let token = match role {
            Some(role) => make("roles", owner, role).await.1,
            None => String::new(),
        };
        for (endpoint, whose, expected) in TABLE {
            let Call { method, path, body } = call(endpoint, whose, owner).await;
            let (reply, said) = ask(method, &path, &token, body.as_ref());
            assert_eq!(
                reply.status, expected[at],
                "{endpoint} {whose} by {owner}: {said}"
            );
        }
    }
}

/// What does not work opens nothing, on any endpoint.
#[tokio::test]
async fn a_key_that_was_revoked_or_whose_tenant_is_suspended_opens_nothing() {
    let (token, suspended) = revoked_key("roles-ended").await;
    for (endpoint, ..) in TABLE
        .iter()
        .filter(|(endpoint, ..)| !endpoint.ends_with("validate"))
    {
        let Call { method, path, body } = call(endpoint, "mine", "nobody-else").await;
        let revoked = ask(method, &path, &token, body.as_ref());
        assert_eq!(
            (revoked.0.status, &revoked.1["code"]),
            (401, &json!("INVALID_API_KEY"))
        );
        let suspended = ask(method, &path, &suspended, body.as_ref());
        assert_eq!(
            (suspended.0.status, &suspended.1["code"]),
            (403, &json!("TENANT_SUSPENDED"))
        );
    }
}
