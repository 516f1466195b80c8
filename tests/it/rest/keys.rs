//! Making, listing, revoking and validating keys.

use serde_json::{Value, json};

use super::{KEYS, PLACE, VALIDATE, ask, check_refused};

fn make(token: &str, body: &Value) -> Value {
    let (reply, made) = ask("POST", KEYS, token, Some(body));
    assert_eq!(reply.status, 201, "{made}");
    made["data"].clone()
}

fn list(token: &str, query: &str) -> Vec<Value> {
    let (reply, body) = ask("GET", &format!("{KEYS}{query}"), token, None);
    assert_eq!(reply.status, 200, "{body}");
    let keys = body["data"]["api_keys"].as_array().unwrap().clone();
    assert_eq!(body["data"]["total"], keys.len());
    keys
}

#[test]
fn a_key_is_made_listed_validated_and_revoked() {
    let body = json!({
        "name": "ci", "description": "for the build", "expires_at": "2999-01-31T00:00:00Z", "scopes": ["read"]
    });
    let made = make(&PLACE.alice, &body);
    let (id, key) = (
        made["id"].as_str().unwrap(),
        made["api_key"].as_str().unwrap(),
    );
    assert!(key.starts_with("ks_live_") && key.starts_with(made["key_prefix"].as_str().unwrap()));
    assert!(made["warning"].as_str().unwrap().contains("only time"));
    assert_eq!(made["scopes"], json!(["read"]));
    assert!(
        made["expires_at"]
            .as_str()
            .unwrap()
            .starts_with("2999-01-31T00:00:00")
    );

    let of = |keys: Vec<Value>| keys.into_iter().find(|key| key["id"] == id);
    let shown = of(list(&PLACE.alice, "")).expect("listed for its owner");
    assert_eq!(
        (&shown["name"], &shown["is_active"]),
        (&json!("ci"), &json!(true))
    );
    assert_eq!(shown["prefix"], made["key_prefix"]);
    assert!(shown["created_at"].is_string() && shown["last_used"].is_null());
    assert!(!shown.to_string().contains(key), "no list shows a token");
    assert!(
        of(list(&PLACE.bob, "")).is_none(),
        "another's key does not exist"
    );
    assert!(of(list(&PLACE.admin, "")).is_none(), "not the admin's own");
    assert!(of(list(&PLACE.admin, "?owner=alice")).is_some());

    let token = json!({"token": key});
    for caller in ["", &PLACE.alice, &PLACE.admin, &PLACE.server.admin_token] {
        let (reply, body) = ask("POST", VALIDATE, caller, Some(&token));
        assert_eq!(reply.status, 200, "{body}");
        let whose =
            json!({"valid": true, "type": "api_key", "tenant_id": "acme", "user_id": "alice"});
        assert_eq!(body["data"], whose);
    }
    for stranger in [&PLACE.bob, &PLACE.other_admin] {
        check_refused(
            ask("POST", VALIDATE, stranger, Some(&token)),
            401,
            "INVALID_API_KEY",
        );
    }

    let path = format!("{KEYS}/{id}");
    for stranger in [&PLACE.bob, &PLACE.other_admin] {
        check_refused(ask("DELETE", &path, stranger, None), 404, "KEY_NOT_FOUND");
    }
    let (reply, body) = ask("DELETE", &path, &PLACE.alice, None);
    assert_eq!(
        (reply.status, &body["data"]["is_active"]),
        (200, &json!(false))
    );
    check_refused(
        ask("POST", VALIDATE, "", Some(&token)),
        401,
        "INVALID_API_KEY",
    );
    assert_eq!(of(list(&PLACE.alice, "")).unwrap()["is_active"], false);
}

#[test]
fn nobody_makes_a_key_that_may_do_more_than_its_own_or_is_anothers() {
    let wider = json!({"name": "wider", "scopes": ["admin"]});
    check_refused(
        ask("POST", KEYS, &PLACE.alice, Some(&wider)),
        403,
        "PERMISSION_DENIED",
    );
    let for_bob = json!({"name": "for bob", "owner": "bob"});
    check_refused(
        ask("POST", KEYS, &PLACE.alice, Some(&for_bob)),
        403,
        "PERMISSION_DENIED",
    );
    let made = make(&PLACE.admin, &for_bob);
    let of_bob = list(&PLACE.bob, "");
    assert!(of_bob.iter().any(|key| key["id"] == made["id"]));
    // What it is made with is no way to a role.
    let validated = ask(
        "POST",
        KEYS,
        made["api_key"].as_str().unwrap(),
        Some(&for_bob),
    );
    assert_eq!(validated.0.status, 201, "its own owner");
    let query = format!("{KEYS}?owner=alice");
    check_refused(
        ask("GET", &query, made["api_key"].as_str().unwrap(), None),
        403,
        "PERMISSION_DENIED",
    );
    for field in ["role", "tenant_id", "generations", "id"] {
        let body = json!({"name": "x", field: "global_admin"});
        check_refused(
            ask("POST", KEYS, &PLACE.alice, Some(&body)),
            400,
            "MALFORMED_REQUEST",
        );
    }
}

#[test]
fn what_is_wrong_is_said_by_the_name_of_its_field() {
    for (body, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "a\nb"}), "name"),
        (
            json!({"name": "ok", "description": "x".repeat(300)}),
            "description",
        ),
        (json!({"name": "ok", "expires_at": "soon"}), "expires_at"),
        (
            json!({"name": "ok", "expires_at": "2001-01-01T00:00:00Z"}),
            "expires_at",
        ),
        (json!({"name": "ok", "owner": "no blanks"}), "owner"),
        (json!({"name": "ok", "scopes": ["a,b"]}), "scopes[0]"),
    ] {
        let code = match field {
            "expires_at" if body["expires_at"] != "soon" => "API_KEY_EXPIRY_INVALID",
            _ => "INVALID_FIELD",
        };
        let said = check_refused(ask("POST", KEYS, &PLACE.admin, Some(&body)), 400, code);
        assert!(said["details"][field].is_string(), "{field}: {said}");
        let text = said["error"].as_str().unwrap();
        assert!(!text.contains("key."), "names of another protocol: {said}");
    }
}

#[test]
fn a_key_that_does_not_open_the_api_hears_no_more_of_an_id_that_is_none() {
    let closed = PLACE
        .server
        .create_key(
            "acme",
            &[
                "--name",
                "closed",
                "--owner",
                "alice",
                "--admin-access",
                "none",
            ],
        )
        .token;
    for id in ["abcdefgh12345678", "no-id", "A", "%00", "%ff"] {
        let path = format!("{KEYS}/{id}");
        let refused = ask("DELETE", &path, &closed, None);
        check_refused(refused, 403, "PERMISSION_DENIED");
        let refused = ask("DELETE", &path, &PLACE.alice, None);
        check_refused(refused, 404, "KEY_NOT_FOUND");
    }
}
