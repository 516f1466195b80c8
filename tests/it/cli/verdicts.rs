//! What an import says of tokens that do not work, and what it holds against the limits before it sends anything.

use std::fmt::Write as _;

use super::world::Account;
use crate::support::program::Place;

#[test]
fn an_import_says_of_each_token_whether_it_works_and_fails_if_one_does_not() {
    let account = Account::admin();
    for tenant in ["verdicts", "verdicts-b"] {
        account.done(&format!("tenant create {tenant}"));
    }
    let import = |tenant: &str, owner: &str, token: &str| {
        account.file("one.txt", token);
        let line =
            format!("key import {tenant} --name k --owner {owner} --token-file one.txt -o json");
        account.run(&line).json()["key_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    import("verdicts", "alice", "verdict-token-active");
    let revoked = import("verdicts", "alice", "verdict-token-revoked");
    account.done(&format!("key revoke verdicts {revoked}"));
    import("verdicts", "bob", "verdict-token-of-bob");
    import("verdicts-b", "alice", "verdict-token-elsewhere");
    account.file(
        "keys.csv",
        "name,owner,token\r\n\
         a,alice,verdict-token-active\r\n\
         b,alice,verdict-token-revoked\r\n\
         c,alice,verdict-token-of-bob\r\n\
         d,alice,verdict-token-elsewhere\r\n\
         e,alice,verdict-token-new\r\n",
    );
    let ended = account.run("key import verdicts --csv keys.csv -o json");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let rows = serde_json::json!([
        {"line": 2, "verdict": "same_key_active"},
        {"line": 3, "verdict": "revoked"},
        {"line": 4, "verdict": "in_use"},
        {"line": 5, "verdict": "in_use"},
        {"line": 6, "verdict": "imported"},
    ]);
    assert_eq!(ended.json()["rows"], rows);
    let again = account.run("key import verdicts --csv keys.csv");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert_eq!(again.out, "0 imported, 2 there already, 3 refused\n");
    for told in [
        "line 3: the token was revoked with this key: tenants/verdicts/keys/",
        "line 4: the token is in use elsewhere, by this key: tenants/verdicts/keys/",
        "line 5: the token is in use elsewhere, by this key: tenants/verdicts-b/keys/",
    ] {
        assert!(again.err.contains(told), "{again:?}");
    }
    account.file("one.txt", "verdict-token-revoked");
    let one = account.run("key import verdicts --name b --owner alice --token-file one.txt");
    assert_eq!(one.code, Some(1), "{one:?}");
    assert!(one.err.contains("was revoked with this key"), "{one:?}");
    account.file(
        "fine.csv",
        "name,owner,token\na,alice,verdict-token-active\n",
    );
    let fine = account.run("key import verdicts --csv fine.csv");
    assert_eq!(
        (fine.code, fine.out.as_str()),
        (Some(0), "0 imported, 1 there already, 0 refused\n")
    );
}

#[test]
fn a_table_of_more_keys_than_an_owner_may_have_is_refused_before_anything_is_sent() {
    let account = Account::admin();
    account.done("tenant create many");
    let table = |count: usize, owner: &str| {
        let mut text = "name,owner,token\n".to_owned();
        for at in 0..count {
            writeln!(text, "k{at},{owner},limit-token-{owner}-{at:04}").unwrap();
        }
        text
    };
    account.file("keys.csv", &table(20, ""));
    for line in [
        "key import many --csv keys.csv",
        "key import many --csv keys.csv -o json",
    ] {
        let ended = account.run(line);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(
            ended
                .err
                .contains("keys.csv: 10 mistakes; nothing was sent"),
            "{ended:?}"
        );
        let first = "line 12: owner default would have 11 keys, and at most 10 are allowed";
        assert!(
            ended.err.contains(first) && ended.err.contains("line 21: owner default"),
            "{ended:?}"
        );
        assert!(!ended.err.contains("line 11:"), "{ended:?}");
        assert!(
            ended.err.contains("a column `owner`") && ended.err.contains("keystile limits set"),
            "{ended:?}"
        );
        assert_eq!(account.done("key list many"), "no keys\n");
    }
    // What is there already counts once, and the limit is the tenant's own.
    account.file("keys.csv", &table(8, "alice"));
    account.done("key import many --csv keys.csv");
    account.done("key create many --name beside --owner alice");
    account.file("keys.csv", &table(10, "alice"));
    let ended = account.run("key import many --csv keys.csv");
    assert!(
        ended.err.contains("1 mistake;") && ended.err.contains("line 11: owner alice"),
        "{ended:?}"
    );
    account.done("limits set many --max-keys-per-user 11");
    let ended = account.run("key import many --csv keys.csv");
    assert_eq!(
        ended.out, "2 imported, 8 there already, 0 refused\n",
        "{ended:?}"
    );
    account.file("new.csv", "name,owner\na,alice\nb,alice\n");
    let ended = account.run("key create many --csv new.csv --tokens-file t.csv");
    assert!(
        ended.err.contains("line 2: owner alice would have 12 keys"),
        "{ended:?}"
    );
    assert!(!account.dir().join("t.csv").exists());
}

#[test]
fn a_table_that_breaks_the_rules_of_expiry_is_refused_before_anything_is_sent() {
    let place = Place::bootstrapped();
    let free = "api_keys: {min_expiry_days: 0, max_expiry_days: 0}";
    let strict = "api_keys: {enforce_expiry: true, min_expiry_days: 1, max_expiry_days: 365}";
    place.edit_config(free, strict);
    let _running = place.serve();
    let account = Account::new()
        .with("KEYSTILE_ADDR", &format!("127.0.0.1:{}", place.admin))
        .with("KEYSTILE_API_KEY", &place.admin_token);
    account.done("tenant create rules");
    account.file(
        "keys.csv",
        "name,token,expires_at\n\
         a,expiry-token-0000001,\n\
         b,expiry-token-0000002,2999-01-01T00:00:00Z\n",
    );
    let ended = account.run("key import rules --csv keys.csv");
    for told in [
        "2 mistakes; nothing was sent",
        "line 2: expires_at: must be set, because every key must expire",
        "line 3: expires_at: is ",
        "at most 365 days from now",
    ] {
        assert!(ended.err.contains(told), "{ended:?}");
    }
    account.file("tenants.csv", "tenant\nrules-a\nrules-b\n");
    let ended = account.run("tenant import --csv tenants.csv --key first -o json");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("line 2: key_expires_at: must be set"),
        "{ended:?}"
    );
    assert!(
        account
            .run("tenant get rules-a")
            .err
            .contains("tenant not found")
    );
}

#[test]
fn a_key_for_a_network_of_ipv4_written_as_ipv6_works_there() {
    let account = Account::admin();
    account.done("tenant create mapped");
    let made = account.run("key create mapped --name a --allow-cidr ::ffff:10.0.0.0/104 --allow-cidr ::ffff:192.0.2.7 -o json");
    assert_eq!(
        made.json()["key"]["allow_cidrs"],
        serde_json::json!(["10.0.0.0/8", "192.0.2.7/32"])
    );
    account.file("token", made.json()["plaintext"].as_str().unwrap());
    for source in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7"] {
        account.done(&format!(
            "key verify --token-file token --source-ip {source}"
        ));
    }
    assert_eq!(
        account
            .run("key verify --token-file token --source-ip 192.0.2.8")
            .code,
        Some(1)
    );
    account.file("keys.csv", "name,token,networks\na,mapped-token-000001,::ffff:10.0.0.0/104\nb,mapped-token-000002,::fffe:0:0/95\n");
    let ended = account.run("key import mapped --csv keys.csv");
    assert!(
        ended.err.contains("1 mistake;") && ended.err.contains("line 3: networks takes in IPv4"),
        "{ended:?}"
    );
}

#[test]
fn a_check_says_how_long_a_limit_lasts_as_people_do() {
    let account = Account::admin();
    account.done("tenant create patient --quota 5/month");
    let made = account.run("key create patient --name a -o json");
    account.file("token", made.json()["plaintext"].as_str().unwrap());
    let line = format!("check --token-file token --addr {}", super::world::authz());
    let ended = account.run(&line);
    let told = ended
        .out
        .lines()
        .find(|line| line.contains("all of them in"));
    let told = told.unwrap_or_else(|| panic!("{ended:?}"));
    assert!(!told.trim_end().ends_with(" s"), "{told}");
}
