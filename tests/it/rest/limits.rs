//! Limits on keys and their configuration: who reads and changes what, where it comes from, and what is refused.

use serde_json::{Value, json};

use super::{CONFIG, KEYS, LIMITS, PLACE, VALIDATE, ask, ask_at, check_refused};
use crate::harness::http1::Reply;
use crate::support::program::{Place, Running};

/// A tenant of its own with an admin: its id is the name of the admin's owner too.
fn tenant(id: &str) -> String {
    PLACE.server.cli(&["tenant", "create", id]);
    let args = ["--name", id, "--owner", id, "--role", "tenant_admin"];
    PLACE.server.create_key(id, &args).token
}

fn read(token: &str, query: &str) -> Value {
    let (reply, body) = ask("GET", &format!("{LIMITS}{query}"), token, None);
    assert_eq!(reply.status, 200, "{body}");
    body
}

fn put(token: &str, body: &Value) -> (Reply, Value) {
    ask("PUT", LIMITS, token, Some(body))
}

#[test]
fn limits_are_read_with_their_sources_and_the_frame_beside_them() {
    tenant("limits-read");
    let user = PLACE
        .server
        .create_key("limits-read", &["--name", "u", "--owner", "u"]);
    let expected = json!({
        "status": "success",
        "data": {
            "tenantId": "limits-read",
            "maxKeysPerUser": 10, "maxKeysPerTenantAdmin": 25, "maxKeysPerGlobalAdmin": 100,
            "sources": {
                "maxKeysPerUser": "default", "maxKeysPerTenantAdmin": "default", "maxKeysPerGlobalAdmin": "default",
            },
        },
        "configuration": {
            "allow_tenant_override": true, "allow_admin_override": true,
            "enforce_expiry": false, "max_expiry_days": 0, "min_expiry_days": 0,
        },
    });
    assert_eq!(read(&user.token, ""), expected);
    assert_eq!(
        read(&PLACE.server.admin_token, "?tenant_id=limits-read"),
        expected
    );
}

#[test]
fn limits_are_changed_by_admins_and_hold_at_once() {
    let admin = tenant("limits-put");
    let (reply, body) = put(
        &admin,
        &json!({"maxKeysPerUser": 15, "maxKeysPerTenantAdmin": 30, "maxKeysPerGlobalAdmin": 120}),
    );
    assert_eq!(reply.status, 200, "{body}");
    assert_eq!(
        body["data"],
        json!({
            "tenantId": "limits-put",
            "maxKeysPerUser": 15, "maxKeysPerTenantAdmin": 30, "maxKeysPerGlobalAdmin": 120,
            "sources": {
                "maxKeysPerUser": "tenant_runtime",
                "maxKeysPerTenantAdmin": "tenant_runtime",
                "maxKeysPerGlobalAdmin": "tenant_runtime",
            },
        })
    );
    assert_eq!(read(&admin, ""), body, "and so it stays");
    let (_, same) = put(&admin, &json!({"maxKeysPerUser": 15.0}));
    assert_eq!(same, body, "one number, written in another way");
    // A part leaves the rest as it is; a global admin says whose.
    let path = format!("{LIMITS}?tenant_id=limits-put");
    let (reply, body) = ask(
        "PUT",
        &path,
        &PLACE.server.admin_token,
        Some(&json!({"maxKeysPerUser": 2})),
    );
    assert_eq!(reply.status, 200, "{body}");
    let data = &body["data"];
    assert_eq!(
        (&data["maxKeysPerUser"], &data["maxKeysPerTenantAdmin"]),
        (&json!(2), &json!(30))
    );

    let new = json!({"name": "one more", "owner": "alice"});
    for status in [201, 201, 429] {
        let (reply, body) = ask("POST", KEYS, &admin, Some(&new));
        assert_eq!(reply.status, status, "{body}");
    }
    let refused = check_refused(
        ask("POST", KEYS, &admin, Some(&new)),
        429,
        "API_KEY_LIMIT_EXCEEDED",
    );
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .starts_with("API key limit exceeded")
    );
    for (name, value) in [
        ("limit", "2"),
        ("current", "2"),
        ("role", "user"),
        ("source", "tenant_runtime"),
    ] {
        assert_eq!(refused["details"][name], value, "{refused}");
    }
}

#[test]
fn what_is_no_limit_is_refused_by_its_name_and_changes_nothing() {
    let admin = tenant("limits-bad");
    let before = read(&admin, "");
    for (body, fields) in [
        (json!({"maxKeysPerUser": 0}), &["maxKeysPerUser"][..]),
        (
            json!({"maxKeysPerUser": -1, "maxKeysPerGlobalAdmin": 100_001}),
            &["maxKeysPerUser", "maxKeysPerGlobalAdmin"],
        ),
        (
            json!({"maxKeysPerUser": 7, "maxKeysPerTenantAdmin": i64::MAX}),
            &["maxKeysPerTenantAdmin"],
        ),
        (json!({}), &["body"]),
    ] {
        let said = check_refused(put(&admin, &body), 400, "INVALID_FIELD");
        let named: Vec<_> = said["details"].as_object().unwrap().keys().collect();
        assert_eq!(named.len(), fields.len(), "{said}");
        for field in fields {
            assert!(said["details"][field].is_string(), "{field}: {said}");
        }
    }
    for body in [
        json!({"maxKeysPerUser": "15"}),
        json!({"maxKeysPerUser": 1.5}),
        json!({"maxKeysPerUser": 1e300}),
        json!({"maxKeysPerUser": true}),
        json!({"maxKeysPerUser": null}),
        json!({"maxKeysPerUser": [15]}),
        json!({"max_keys_per_user": 15}),
        json!({"maxKeysPerUser": 15, "tenantId": "globex"}),
        json!({"maxKeysPerUser": 15, "sources": {}}),
        json!([15, 30, 120]),
    ] {
        check_refused(put(&admin, &body), 400, "MALFORMED_REQUEST");
    }
    assert_eq!(read(&admin, ""), before);
}

#[test]
fn who_may_not_is_told_so_and_of_others_nothing() {
    let fifteen = json!({"maxKeysPerUser": 15});
    for (method, body) in [("GET", None), ("PUT", Some(&fifteen))] {
        check_refused(ask(method, LIMITS, "", body), 401, "MISSING_API_KEY");
        for tenant in ["globex", "never-was", "ACME", "%61cme%2e"] {
            let path = format!("{LIMITS}?tenant_id={tenant}");
            for token in [&PLACE.alice, &PLACE.admin] {
                check_refused(ask(method, &path, token, body), 404, "TENANT_NOT_FOUND");
            }
        }
    }
    check_refused(put(&PLACE.alice, &fifteen), 403, "PERMISSION_DENIED");
    check_refused(ask("GET", CONFIG, "", None), 401, "MISSING_API_KEY");
    for token in [&PLACE.alice, &PLACE.admin] {
        check_refused(ask("GET", CONFIG, token, None), 403, "PERMISSION_DENIED");
    }
}

/// A server with another block `api_keys`; the tenants `acme` and `production`, and an admin of `acme`.
fn governed(block: &str) -> (Place, Running, String) {
    let place = Place::bootstrapped();
    place.edit_config(
        "api_keys: {min_expiry_days: 0, max_expiry_days: 0}\n",
        block,
    );
    let running = place.serve();
    for tenant in ["acme", "production"] {
        place.do_it(&["tenant", "create", tenant]);
    }
    let token = token_of(&place, "boss", "tenant_admin");
    (place, running, token)
}

/// Of a new key of `acme`.
fn token_of(place: &Place, owner: &str, role: &str) -> String {
    let facts = ["--name", owner, "--owner", owner, "--role", role];
    let form = ["--expires-in", "30d", "-o", "json"];
    let made = place.do_it(&[&["key", "create", "acme"][..], &facts, &form].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    made["plaintext"].as_str().unwrap().to_owned()
}

#[test]
fn the_configuration_is_shown_whole_with_its_sources() {
    let (place, _running, _) = governed(
        "api_keys:
  default_limits: {max_keys_per_user: 7}
  tenant_limits: [{tenant_id: production, max_keys_per_user: 20}]
  global_limits_override: {max_keys_per_global_admin: 200, max_total_keys: 5000}
  allow_tenant_override: false
  max_expiry_days: 90
",
    );
    let (reply, body) = ask_at(place.admin, "GET", CONFIG, &place.admin_token, None);
    assert_eq!(reply.status, 200, "{body}");
    let mut data = body["data"].clone();
    let roles = data["permissions"]["roles"].take();
    let roles: Vec<_> = roles.as_array().unwrap().iter().collect();
    let pairs = [
        ("apikey.manage", "user"),
        ("apikey.admin", "tenant_admin"),
        ("apikey.global_admin", "global_admin"),
    ];
    for (found, (permission, role)) in roles.iter().zip(pairs) {
        assert_eq!(
            (&found["permission"], &found["role"]),
            (&json!(permission), &json!(role))
        );
    }
    let (default, file) = ("default", "file");
    assert_eq!(
        data,
        json!({
            "enabled": true,
            "default_limits": {"max_keys_per_user": 7, "max_keys_per_tenant_admin": 25, "max_keys_per_global_admin": 100},
            "tenant_limits": [{
                "tenant_id": "production",
                "max_keys_per_user": 20, "max_keys_per_tenant_admin": null, "max_keys_per_global_admin": null,
            }],
            "global_limits_override": {
                "max_keys_per_user": null, "max_keys_per_tenant_admin": null, "max_keys_per_global_admin": 200,
                "max_total_keys": 5000,
            },
            "permissions": {"allow_tenant_override": false, "allow_admin_override": true, "roles": null},
            "expiry_settings": {"enforce_expiry": false, "max_expiry_days": 90, "min_expiry_days": 1},
            "profile": "default",
            "sources": {
                "enabled": default,
                "default_limits": {
                    "max_keys_per_user": file,
                    "max_keys_per_tenant_admin": default,
                    "max_keys_per_global_admin": default,
                },
                "tenant_limits": file,
                "global_limits_override": {
                    "max_keys_per_user": default,
                    "max_keys_per_tenant_admin": default,
                    "max_keys_per_global_admin": file,
                    "max_total_keys": file,
                },
                "permissions": {"allow_tenant_override": file, "allow_admin_override": default},
                "expiry_settings": {
                    "enforce_expiry": default, "max_expiry_days": file, "min_expiry_days": default,
                },
                "profile": default,
            },
        })
    );
    let path = format!("{LIMITS}?tenant_id=production");
    let (_, limits) = ask_at(place.admin, "GET", &path, &place.admin_token, None);
    assert_eq!(
        limits["data"],
        json!({
            "tenantId": "production",
            "maxKeysPerUser": 20, "maxKeysPerTenantAdmin": 25, "maxKeysPerGlobalAdmin": 200,
            "sources": {
                "maxKeysPerUser": "tenant_config",
                "maxKeysPerTenantAdmin": "default",
                "maxKeysPerGlobalAdmin": "global_override",
            },
        })
    );
}

#[test]
fn where_overrides_are_off_nobody_changes_limits_and_hears_the_numbers_that_hold() {
    for (block, by_admin, by_root, words) in [
        (
            "api_keys: {allow_tenant_override: false}\n",
            Some("TENANT_OVERRIDE_DISABLED"),
            None,
            "Tenant admin overrides are disabled",
        ),
        (
            "api_keys: {allow_admin_override: false}\n",
            Some("ADMIN_OVERRIDE_DISABLED"),
            Some("ADMIN_OVERRIDE_DISABLED"),
            "Admin overrides are disabled",
        ),
    ] {
        let (place, _running, admin) = governed(block);
        let path = format!("{LIMITS}?tenant_id=acme");
        for (token, expected) in [(&admin, by_admin), (&place.admin_token, by_root)] {
            let body = json!({"maxKeysPerUser": 15});
            let answer = ask_at(place.admin, "PUT", &path, token, Some(&body));
            let Some(code) = expected else {
                assert_eq!(answer.0.status, 200, "{}", answer.1);
                continue;
            };
            let said = check_refused(answer, 403, code);
            assert!(said["error"].as_str().unwrap().starts_with(words), "{said}");
            assert_eq!(said["details"]["max_keys_per_user"], "10", "{said}");
        }
    }
}

/// Endpoint and whose tenant; the status for a user and a tenant admin of `acme`, and a global admin, with both switches on.
const SWITCHED: &[(&str, &str, &str, [u16; 3])] = &[
    ("GET", LIMITS, "acme", [200, 200, 200]),
    ("GET", LIMITS, "production", [404, 404, 200]),
    ("PUT", LIMITS, "acme", [403, 200, 200]),
    ("PUT", LIMITS, "production", [404, 404, 200]),
    ("GET", CONFIG, "", [403, 403, 200]),
    ("GET", KEYS, "", [200, 200, 200]),
    ("POST", KEYS, "", [201, 201, 201]),
    (
        "DELETE",
        "/api/v1/auth/apikeys/nosuchkey",
        "",
        [404, 404, 404],
    ),
    ("POST", VALIDATE, "", [401, 401, 401]),
];

#[test]
fn the_override_switches_take_the_right_to_change_limits_and_no_other() {
    for (tenants, admins) in [(true, true), (false, true), (true, false), (false, false)] {
        let block = format!(
            "api_keys: {{allow_tenant_override: {tenants}, allow_admin_override: {admins}}}\n"
        );
        let (place, _running, admin) = governed(&block);
        let user = token_of(&place, "alice", "user");
        let may_change = [false, tenants && admins, admins];
        for (method, path, tenant, statuses) in SWITCHED {
            for (at, token) in [&user, &admin, &place.admin_token].into_iter().enumerate() {
                let expected = match (*method, statuses[at]) {
                    ("PUT", 200) if !may_change[at] => 403,
                    (_, status) => status,
                };
                let path = match *tenant {
                    "" => (*path).to_owned(),
                    tenant => format!("{path}?tenant_id={tenant}"),
                };
                let body = match (*method, path.as_str()) {
                    ("PUT", _) => Some(json!({"maxKeysPerUser": 15})),
                    ("POST", KEYS) => Some(json!({"name": "one more"})),
                    ("POST", _) => Some(json!({"token": "nobodys-token-0123456789"})),
                    _ => None,
                };
                let (reply, said) = ask_at(place.admin, method, &path, token, body.as_ref());
                let by = ["user", "tenant admin", "global admin"][at];
                assert_eq!(
                    reply.status, expected,
                    "{method} {path} by {by}, {block}: {said}"
                );
            }
        }
    }
}

#[test]
fn a_new_key_obeys_the_rules_on_expiry_and_on_being_there_at_all() {
    let (place, _running, admin) =
        governed("api_keys: {enforce_expiry: true, min_expiry_days: 2, max_expiry_days: 30}\n");
    let post = |body: &Value| ask_at(place.admin, "POST", KEYS, &admin, Some(body));
    for body in [
        json!({"name": "for ever"}),
        json!({"name": "too long", "expires_at": "2999-01-01T00:00:00Z"}),
    ] {
        let said = check_refused(post(&body), 400, "API_KEY_EXPIRY_INVALID");
        assert!(
            said["error"]
                .as_str()
                .unwrap()
                .starts_with("API key expiry validation failed"),
            "{said}"
        );
        assert!(said["details"]["expires_at"].is_string(), "{said}");
        assert_eq!(said["details"]["max_expiry_days"], "30", "{said}");
    }
    drop(place);

    let (place, _running, admin) = governed("api_keys: {}\n");
    place.edit_config("api_keys: {}", "api_keys: {enabled: false}");
    crate::harness::wait_for("no keys to be made", || {
        let new = json!({"name": "one more"});
        let answer = ask_at(place.admin, "POST", KEYS, &admin, Some(&new));
        (answer.0.status == 409).then(|| check_refused(answer, 409, "API_KEYS_DISABLED"))
    });
}
