//! `keystile check` against a real sidecar.

use serde_json::json;

use super::world::{Account, authz, server};

fn rules(report: &serde_json::Value) -> Vec<(String, String, String)> {
    let text = |rule: &serde_json::Value, name: &str| rule[name].as_str().unwrap().to_owned();
    let rules = report["rules"].as_array().unwrap().iter();
    rules
        .map(|rule| {
            (
                text(rule, "rule"),
                text(rule, "verdict"),
                text(rule, "detail"),
            )
        })
        .collect()
}

fn verdicts(report: &serde_json::Value) -> Vec<String> {
    let rules = rules(report).into_iter();
    rules
        .map(|(rule, verdict, _)| format!("{rule}: {verdict}"))
        .collect()
}

#[test]
fn an_answer_is_explained_rule_by_rule_and_counts_for_nothing() {
    let account = Account::admin();
    account.done("tenant create checked --display-name Checked --plan pro");
    let line =
        "key create checked --name k --owner alice --scope read --allow-cidr 192.0.2.0/24 -o json";
    let made = account.run(line).json();
    let token = made["plaintext"].as_str().unwrap();
    account.file("token", token);
    let before = decisions();
    let check = |more: &str| {
        let line = format!("check --addr {} --token-file token -o json {more}", authz());
        let ended = account.run(&line);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.out.contains(token), "{ended:?}");
        ended.json()
    };

    let allowed =
        check("--source 192.0.2.7 --features images --scopes read --header x-tenant-id:forged");
    assert_eq!(allowed["decision"], "allow");
    assert_eq!(allowed["tenant_id"], "checked");
    assert_eq!(allowed["key_id"], made["key"]["key_id"]);
    assert_eq!(allowed["credential"], "header x-api-key");
    assert_eq!(allowed["headers_set"]["x-tenant-id"], "checked");
    let removed = allowed["headers_removed"].as_array().unwrap();
    assert!(removed.contains(&json!("x-api-key")), "{removed:?}");
    assert!(
        rules(&allowed)
            .iter()
            .all(|(_, verdict, _)| verdict == "pass"),
        "{allowed}"
    );

    let denied = check("--source 198.51.100.1 --features export,images --scopes write");
    assert_eq!(
        (
            &denied["decision"],
            &denied["reason"],
            &denied["http_status"]
        ),
        (&json!("deny"), &json!("network_not_allowed"), &json!(403))
    );
    assert_eq!(
        verdicts(&denied),
        [
            "request: pass",
            "mode: pass",
            "credential: pass",
            "key: pass",
            "tenant: pass",
            "expiry: pass",
            "pause: pass",
            "network: network_not_allowed",
            "feature: feature_not_enabled",
            "feature: pass",
            "scope: scope_not_granted",
        ]
    );
    assert!(
        denied["body"]
            .as_str()
            .unwrap()
            .contains("network_not_allowed")
    );

    let twice = check("--source 192.0.2.7 --header x-api-key:another-one");
    assert_eq!(twice["reason"], "ambiguous_request");
    let off = check("--mode off");
    assert_eq!(
        (&off["decision"], &off["reason"]),
        (&json!("allow"), &json!("exempt"))
    );
    assert_eq!(
        check("--as bearer --source 192.0.2.7")["credential"],
        "bearer token in authorization"
    );
    let unknown = check("--mode sometimes");
    assert_eq!(unknown["reason"], "authorization_unavailable");
    // The last one was no dry run to the sidecar: it could not be understood.
    assert_eq!(decisions() - before, 1);
}

/// How many decisions the sidecar has counted.
fn decisions() -> u64 {
    let ask = b"GET /metrics HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n";
    let reply = crate::harness::http1::send(server().ops_port, ask, false).unwrap();
    let text = String::from_utf8(reply.body).unwrap();
    let counters = text
        .lines()
        .filter(|line| line.starts_with("keystile_decisions_total{"));
    counters
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn people_get_it_as_text_and_scripts_an_exit_code() {
    let account = Account::new();
    let socket = server().authz_socket();
    let line = format!("check --addr unix:{} --path /x", socket.display());
    let text = account.done(&line);
    for shown in [
        "decision",
        "missing_api_key",
        "401",
        "RULE",
        "www-authenticate",
        "body:",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    let failed = account.run(&format!("{line} --fail -o name"));
    assert_eq!(failed.code, Some(1));
    assert_eq!(failed.out, "deny\n");
    assert_eq!(failed.err, "error: the request would be refused\n");
    let visible = account.run(&format!("{line} --token ks_live_hunter2 -o name"));
    assert_eq!(visible.code, Some(0));
    assert!(
        visible
            .err
            .starts_with("warning: others on this machine can see"),
        "{visible:?}"
    );
    assert!(!visible.err.contains("hunter2"));
}
