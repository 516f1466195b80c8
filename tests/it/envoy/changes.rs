//! What an operator changes holds from the next request on.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::world::{Instance, World};
use crate::harness::http1;
use crate::harness::keystile::NewKey;

/// Status and, when it is Keystile that refuses, the code.
type Answer = (u16, String);

/// Asks through the plain listener with this key.
fn ask(world: &World, key: &NewKey) -> Answer {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let row = format!("change-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let token = &key.token;
    let request =
        format!("GET /orders HTTP/1.1\r\nhost: x\r\nx-row: {row}\r\nx-api-key: {token}\r\n\r\n");
    let port = world.envoy.port("default");
    let reply = http1::send(port, request.as_bytes(), false).expect("an answer");
    let reached = world.upstream.arrived(&row).len();
    assert_eq!(reached, usize::from(reply.status == 200), "upstream asked");
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let code = body["code"].as_str().unwrap_or_default();
    (reply.status, code.to_owned())
}

fn refused(status: u16, code: &str) -> Answer {
    (status, code.to_owned())
}

fn allowed() -> Answer {
    (200, String::new())
}

/// A tenant with two keys, and the world and instance that they live in.
fn tenant(id: &str) -> (&'static World, &'static Instance, NewKey, NewKey) {
    let world = World::get();
    let instance = world.instance("default");
    let keystile = &instance.keystile;
    keystile.cli(&["tenant", "create", id, "--display-name", id]);
    let key = |name| {
        let args = ["--name", name, "--owner", "bob", "--role", "user"];
        keystile.create_key(id, &args)
    };
    (world, instance, key("one"), key("two"))
}

#[test]
fn a_revoked_key_is_refused_at_once_and_the_other_key_is_not() {
    let (world, instance, one, two) = tenant("revoking");
    assert_eq!(ask(world, &one), allowed());
    assert_eq!(ask(world, &two), allowed());
    instance
        .keystile
        .cli(&["key", "revoke", "revoking", &one.id]);
    assert_eq!(ask(world, &one), refused(401, "invalid_api_key"));
    assert_eq!(ask(world, &two), allowed());
}

#[test]
fn a_suspended_tenant_is_refused_at_once_and_back_at_once() {
    let (world, instance, one, two) = tenant("pausing");
    assert_eq!(ask(world, &one), allowed());
    instance.keystile.cli(&["tenant", "suspend", "pausing"]);
    assert_eq!(ask(world, &one), refused(403, "tenant_suspended"));
    assert_eq!(ask(world, &two), refused(403, "tenant_suspended"));
    instance.keystile.cli(&["tenant", "resume", "pausing"]);
    assert_eq!(ask(world, &one), allowed());
    assert_eq!(ask(world, &two), allowed());
}

#[test]
fn a_paused_key_is_refused_at_once_and_back_at_once_and_a_wrong_token_of_it_learns_nothing() {
    let (world, instance, one, two) = tenant("sleeping");
    let keystile = &instance.keystile;
    assert_eq!(ask(world, &one), allowed());
    keystile.cli(&["key", "pause", "sleeping", &one.id]);
    assert_eq!(ask(world, &one), refused(403, "api_key_paused"));
    assert_eq!(ask(world, &two), allowed());
    let near = NewKey {
        id: one.id.clone(),
        token: instance.tokens["stranger"].clone(),
    };
    assert_eq!(ask(world, &near), refused(401, "invalid_api_key"));
    keystile.cli(&["key", "resume", "sleeping", &one.id]);
    assert_eq!(ask(world, &one), allowed());
}

#[test]
fn a_deleted_tenant_takes_its_keys_with_it_at_once() {
    let (world, instance, one, two) = tenant("leaving");
    assert_eq!(ask(world, &one), allowed());
    instance
        .keystile
        .cli(&["tenant", "delete", "leaving", "--yes"]);
    assert_eq!(ask(world, &one), refused(401, "invalid_api_key"));
    assert_eq!(ask(world, &two), refused(401, "invalid_api_key"));
}

#[test]
fn a_token_refused_before_does_not_spoil_a_key_made_after() {
    let (world, instance, one, _) = tenant("arriving");
    let stranger = NewKey {
        id: String::new(),
        token: instance.tokens["stranger"].clone(),
    };
    assert_eq!(ask(world, &stranger), refused(401, "invalid_api_key"));
    assert_eq!(ask(world, &one), allowed());
}

#[test]
fn a_line_break_in_a_name_or_in_metadata_is_refused_before_it_can_become_a_header() {
    let keystile = &World::get().instance("default").keystile;
    for args in [
        ["--display-name", "Line\r\nx-evil: 1"],
        ["--display-name", "Line\nx-evil: 1"],
        ["--metadata", "note=a\r\nx-evil: 1"],
        ["--metadata", "no\r\nte=a"],
        ["--metadata", "trans fer=a"],
        ["--feature", "a,b"],
    ] {
        let all = [&["tenant", "create", "breaking"], args.as_slice()].concat();
        let output = keystile.try_cli(&all);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(1 | 2)),
            "{args:?}: {words}"
        );
        assert!(!words.is_empty(), "{args:?}: refused without a word");
    }
    let left = keystile.try_cli(&["tenant", "get", "breaking"]);
    assert_eq!(left.status.code(), Some(1), "a refused tenant is not there");
}
