//! `keystile limits explain`: what holds, and who says so.

use serde_json::json;

use super::world::Account;

#[test]
fn what_holds_for_a_tenant_and_a_key_is_shown_with_its_source() {
    let account = Account::admin();
    account.done(
        "tenant create metered --plan metered --quota 100/month --feature audio --deny-feature export",
    );
    let line =
        "key create metered --name k --rate '10/s burst 20' --feature images --scope read -o json";
    let made = account.run(line).json();
    let id = made["key"]["key_id"].as_str().unwrap();

    let shown = account.done("limits explain metered");
    let requests = shown.split_once("Requests\n").expect("a section").1;
    let expected = "  tenant rate: 100/s burst 200 (plan metered)\n  \
        tenant quota: 100/month (tenant)\n  \
        feature audio: yes (tenant)\n  \
        feature export: no (tenant)\n  \
        feature images: yes (plan metered)\n";
    assert_eq!(requests, expected);

    let explained = account
        .run(&format!("limits explain metered {id} -o json"))
        .json();
    let limit = |of: &str, name: &str, value: &str, source: &str| json!({"of": of, "name": name, "value": value, "source": source});
    let feature =
        |name: &str, has: bool, source: &str| json!({"name": name, "has": has, "source": source});
    let expected = json!({
        "tenant": "metered",
        "plan": "metered",
        "key": id,
        "limits": [
            limit("tenant", "rate", "100/s burst 200", "plan"),
            limit("tenant", "quota", "100/month", "tenant"),
            limit("key", "rate", "10/s burst 20", "key"),
        ],
        "features": [
            feature("audio", false, "key"),
            feature("export", false, "tenant"),
            feature("images", true, "plan"),
        ],
        "scopes": ["read"],
    });
    assert_eq!(explained["requests"], expected);
    assert_eq!(explained["tenant_id"], "metered");

    let shown = account.done(&format!("key get metered {id}"));
    let against = "rate 100/s burst 200 (plan), quota 100/month (tenant), rate 10/s burst 20 (key)";
    assert!(shown.contains(against), "{shown}");
    let shown = account.done("tenant get metered");
    for part in [
        "100/s burst 200 (plan)",
        "100/month (tenant)",
        "audio, images",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let missing = account.run("limits explain nobody");
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("tenant not found"), "{missing:?}");
}

#[test]
fn a_user_sees_what_its_own_key_is_held_against() {
    let account = Account::admin();
    account.done("tenant create sharing --rate 5/s");
    let made = account
        .run("key create sharing --name k --owner alice --rate 1/s -o json")
        .json();
    let id = made["key"]["key_id"].as_str().unwrap();
    let token = made["plaintext"].as_str().unwrap();
    let user = Account::admin().with("KEYSTILE_API_KEY", token);
    let shown = user.done(&format!("key get sharing {id}"));
    assert!(
        shown.contains("rate 5/s (tenant), rate 1/s (key)"),
        "{shown}"
    );
    let explained = user.done(&format!("limits explain sharing {id}"));
    for line in ["  tenant rate: 5/s (tenant)", "  key rate: 1/s (key)"] {
        assert!(explained.contains(line), "{explained}");
    }
    let alone = user.done("limits explain sharing");
    assert!(
        alone.contains("Keys that an owner may have") && !alone.contains("Requests"),
        "{alone}"
    );
}
