//! `keystile key update`, `revoke-all` and `verify`, and the forms of output.

use super::world::Account;

#[test]
fn a_key_is_changed_verified_and_revoked_with_its_owners_others() {
    let account = Account::admin();
    account.done("tenant create shop --feature images");
    let make = |owner: &str| {
        let line = format!("key create shop --name k --owner {owner} --scope read -o json");
        account.run(&line).json()
    };
    let key = make("alice");
    let id = key["key"]["key_id"].as_str().unwrap();
    make("alice");
    make("bob");
    let line = format!(
        "key update shop {id} --scope write --remove-scope read --name renamed --feature images -o json"
    );
    let changed = account.run(&line).json();
    assert_eq!(changed["scopes"], serde_json::json!(["write"]));
    assert_eq!(changed["display_name"], "renamed");
    assert_eq!(changed["features"]["names"], serde_json::json!(["images"]));

    let token = key["plaintext"].as_str().unwrap();
    let verified = account.run_with("key verify --token-file - -o json", token);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert_eq!(verified.json()["key"]["key_id"], id);
    assert!(
        !verified.out.contains(token),
        "a token is never shown again"
    );

    let counted = account.done("key revoke-all shop --owner alice --dry-run");
    assert_eq!(counted, "2 keys would be revoked for good\n");
    let gone = account.done("key revoke-all shop --owner alice --reason left --yes");
    assert_eq!(gone, "2 keys revoked for good\n");
    let revoked = account.run_with("key verify --token-file - -o json", token);
    assert_eq!(revoked.code, Some(1));
    assert_eq!(revoked.json()["reason"], "invalid_api_key");
    let left = "key list shop --filter 'state = ACTIVE' -o json";
    assert_eq!(account.run(left).json()["keys"][0]["owner"], "bob");
    let all = account.run("key revoke-all shop --yes -o json").json();
    assert_eq!(all["revoked_count"], 1);
}

#[test]
fn a_key_is_paused_shown_explained_resumed_and_revokes_itself() {
    let account = Account::admin();
    account.done("tenant create naps");
    let made = account.run("key create naps --name k --owner alice --admin-access none -o json");
    let made = made.json();
    let id = made["key"]["key_id"].as_str().unwrap();
    let token = made["plaintext"].as_str().unwrap();
    let line = format!("key pause naps {id} --for 1h --reason 'on leave' -o json");
    let paused = account.run(&line).json();
    assert_eq!(paused["state"], "KEY_STATE_PAUSED");
    assert!(paused["pause_end_time"].is_string(), "{paused}");
    let listed = account.done("key list naps");
    assert!(listed.contains("paused"), "{listed}");
    let shown = account.done(&format!("key get naps {id}"));
    assert!(
        shown.contains("paused until") && shown.contains("on leave"),
        "{shown}"
    );
    account.file("token.txt", token);
    let check = format!(
        "check --addr {} --token-file token.txt --path /",
        super::world::authz()
    );
    let explained = account.run(&check);
    for word in ["api_key_paused", "paused until"] {
        assert!(explained.out.contains(word), "{word}: {explained:?}");
    }
    account.done(&format!("key resume naps {id}"));
    let verified = account.run_with("key verify --token-file -", token);
    assert_eq!(verified.code, Some(0), "{verified:?}");

    let holder = Account::new()
        .with("KEYSTILE_ADDR", &super::world::admin())
        .with("KEYSTILE_API_KEY", token);
    let revoked = holder.done("key revoke --self --reason found");
    assert!(revoked.contains("revoked for good"), "{revoked}");
    let verified = account.run_with("key verify --token-file - -o json", token);
    assert_eq!(verified.json()["reason"], "invalid_api_key");
}

#[test]
fn lists_have_a_limit_pages_and_a_filter() {
    let account = Account::admin();
    for at in 0..5 {
        account.done(&format!("tenant create paged-{at} --plan paged"));
    }
    let list = "tenant list --filter 'plan = paged' -o name --page-size 2";
    assert_eq!(account.done(list).lines().count(), 5);
    let some = account.done(&format!("{list} --limit 3"));
    assert_eq!(some, "tenants/paged-0\ntenants/paged-1\ntenants/paged-2\n");
}

#[test]
fn yaml_says_what_json_says() {
    let account = Account::admin();
    account.done("tenant create forms --display-name 'a: \"b\" # c' --metadata on=yes");
    let json = account.run("tenant get forms -o json").json();
    let yaml = account.done("tenant get forms -o yaml");
    let parsed: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(parsed, json);
    let made = account.done("key create forms --name k -o yaml");
    let made: serde_json::Value = serde_saphyr::from_str(&made).unwrap();
    assert!(made["plaintext"].as_str().unwrap().starts_with("ks_live_"));
}

#[test]
fn a_key_is_rotated_and_renewed() {
    let account = Account::admin();
    account.done("tenant create rotating");
    let made = account
        .run("key create rotating --name k --expires-in 30d -o json")
        .json();
    let id = made["key"]["key_id"].as_str().unwrap();
    let old = made["plaintext"].as_str().unwrap();

    let rotated = account.run(&format!("key rotate --grace 1h rotating {id} -o json"));
    let rotated = rotated.json();
    let new = rotated["plaintext"].as_str().unwrap();
    assert_ne!(new, old);
    assert_eq!(rotated["key"]["generation"], 2);
    assert_eq!(rotated["key"]["expire_time"], made["key"]["expire_time"]);
    assert_eq!(rotated["key"]["retiring"]["generation"], 1);
    let verified = |token: &str| account.run_with("key verify --token-file - -o json", token);
    assert_eq!(verified(old).code, Some(0));
    assert_eq!(verified(new).code, Some(0));
    let shown = account.done(&format!("key get rotating {id}"));
    assert!(shown.contains("works until 20"), "{shown}");
    assert!(!shown.contains(new), "{shown}");

    let text = account.done(&format!("key rotate rotating {id}"));
    assert!(text.contains("It is shown this once"), "{text}");
    assert!(text.contains("has stopped working"), "{text}");
    assert_eq!(verified(new).json()["reason"], "api_key_expired");

    let renewed = account.run(&format!("key renew --expires-in 90d rotating {id} -o json"));
    let renewed = renewed.json();
    assert_eq!(renewed["generation"], 3);
    assert_ne!(renewed["expire_time"], made["key"]["expire_time"]);

    for (line, code, words) in [
        ("rotate --grace 31d", 1, "grace: must be 0 to 30 days"),
        ("rotate --grace soon", 2, "soon"),
        (
            "renew --expires-in 1d",
            1,
            "must not be before the present end",
        ),
        ("renew", 2, "--expires-in"),
    ] {
        let ended = account.run(&format!("key {line} rotating {id}"));
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
        assert!(ended.err.contains(words), "{line}: {ended:?}");
    }
    let revealed = account.run(&format!("key reveal rotating {id} -o json"));
    let revealed = revealed.json();
    assert_eq!(revealed["key"], renewed);
    let present = revealed["plaintext"].as_str().unwrap();
    assert!(text.contains(present), "the last one that was made");
    let shown = account.done(&format!("key reveal rotating {id}"));
    assert!(
        shown.contains(present) && shown.contains("in the audit"),
        "{shown}"
    );
    account.done(&format!("key revoke rotating {id}"));
    let refused = account.run(&format!("key rotate rotating {id}"));
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("revoked"), "{refused:?}");
}
