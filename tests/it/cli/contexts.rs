//! `keystile login` and `keystile context`.

use std::os::unix::fs::PermissionsExt;

use super::world::{Account, admin, server};

fn config(account: &Account) -> std::path::PathBuf {
    account.dir().join(".config/keystile/config.yaml")
}

#[test]
fn after_a_login_nothing_has_to_be_said_any_more() {
    let account = Account::new();
    let token = &server().admin_token;
    let login = format!("login --addr {} --context first", admin());
    let ended = account.run_with(&login, &format!("{token}\n"));
    assert_eq!(
        (ended.code, ended.out),
        (
            Some(0),
            format!(
                "Logged in to {} as operator of tenant platform; context `first` is in use.\n",
                admin()
            )
        )
    );
    assert!(
        account
            .done("tenant list -o name")
            .contains("tenants/platform\n")
    );
    let facts = std::fs::metadata(config(&account)).unwrap();
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);
    // The token is in its file and nowhere else.
    account.file("admin.key", token);
    account.done(&format!(
        "login --addr {} --context second --api-key-file admin.key",
        admin()
    ));
    for line in [
        "context list",
        "context list -o json",
        "context list -o yaml",
        "context show",
        "context show first -o json",
    ] {
        let shown = account.run(line);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert!(!format!("{shown:?}").contains(&token[8..]), "{line}");
    }
    assert_eq!(account.done("context list -o name"), "first\nsecond\n");
    assert_eq!(account.run("context show -o json").json()["name"], "second");
    account.done("context use first");
    assert_eq!(account.run("context show -o json").json()["name"], "first");
    account.done("context delete first");
    assert!(!account.run("tenant list").err.is_empty());
    account.done("tenant list --context second");
    account.done("context delete second");
    assert_eq!(account.done("context list"), "no contexts\n");
    let left = std::fs::read_to_string(config(&account)).unwrap();
    assert!(!left.contains(&token[8..]), "{left}");
}

#[test]
fn a_key_that_does_not_open_is_not_kept() {
    let account = Account::new();
    let wrong = account.run_with(
        &format!("login --addr {}", admin()),
        "ks_live_hunter2hunter2\n",
    );
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("the API key is not valid"), "{wrong:?}");
    assert!(!wrong.err.contains("hunter2"), "{wrong:?}");
    let silent = account.run(&format!("login --addr {}", admin()));
    assert!(
        silent.err.contains("does not hold an API key"),
        "{silent:?}"
    );
    assert!(!config(&account).exists());
}

#[test]
fn the_key_of_a_context_goes_to_no_other_address() {
    let account = Account::new();
    let login = format!("login --addr {}", admin());
    account.run_with(&login, &server().admin_token);
    let other = account.run("tenant list --addr 127.0.0.1:1");
    assert_eq!(other.code, Some(1));
    assert!(
        other.err.starts_with(&format!(
            "error: no API key for 127.0.0.1:1; that of context `default` is for {} alone\n",
            admin()
        )),
        "{other:?}"
    );
}

#[test]
fn a_flag_outranks_the_environment_and_that_the_context() {
    let account = Account::new();
    let login = format!("login --addr {}", admin());
    account.run_with(&login, &server().admin_token);
    let account = account
        .with("KEYSTILE_ADDR", &admin())
        .with("KEYSTILE_API_KEY", "ks_live_of_the_environment");
    assert!(account.run("tenant list").err.contains("not valid"));
    account.done("tenant list --context default");
    account.file("admin.key", &server().admin_token);
    account.done("tenant list --api-key-file admin.key");
}

#[test]
fn a_file_of_contexts_that_cannot_be_trusted_is_refused_and_left_as_it_is() {
    let account = Account::new();
    let login = format!("login --addr {}", admin());
    account.run_with(&login, &server().admin_token);
    let path = config(&account);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let open = account.run("tenant list");
    assert_eq!(open.code, Some(78));
    assert!(
        open.err.contains("has mode 0644") && open.err.contains("run `chmod 600 "),
        "{open:?}"
    );
    let damaged = "contexts: {a: {addr: x, api_key: [ks_live_hunter2]}}\n";
    std::fs::write(&path, damaged).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    for line in ["tenant list", "context list", "login"] {
        let ended = account.run_with(line, &server().admin_token);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.err.contains("is not a file of contexts"), "{ended:?}");
        assert!(!ended.err.contains("hunter2"), "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    // Who needs no context is not held up by it.
    let account = account
        .with("KEYSTILE_ADDR", &admin())
        .with("KEYSTILE_API_KEY", &server().admin_token);
    account.done("tenant list");
}
