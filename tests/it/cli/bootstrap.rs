//! `keystile bootstrap --token-file`: the first key, where nobody reads along.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::world::Account;

const LINE: &str = "bootstrap -c k.yaml --token-file admin.key";

fn account() -> Account {
    let account = Account::new();
    account.done("keyring init --dir keys");
    let config = "{authz: {}, store: {kind: embedded, embedded: {path: s.redb}},
      keyring: {data: {file: keys/data.keyring}, vault: {file: keys/vault.keyring}}}";
    fs::write(account.dir().join("k.yaml"), config).unwrap();
    account
}

#[test]
fn the_key_is_in_the_file_and_in_no_output() {
    let account = account();
    let ended = account.run(&format!("{LINE} -o json"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let file = account.dir().join("admin.key");
    let token = fs::read_to_string(&file).unwrap();
    assert!(
        token.starts_with("ks_live_") && !token.contains('\n'),
        "{token}"
    );
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(ended.json()["role"], "ROLE_GLOBAL_ADMIN", "{ended:?}");
    assert!(!ended.out.contains(&token) && !ended.err.contains(&token));
    // The first key is made once, and its file is not taken away by the next run.
    let again = account.run(LINE);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("admin.key exists already"), "{again:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), token);
    let elsewhere = account.run("bootstrap -c k.yaml --token-file other.key");
    assert!(
        elsewhere.err.contains("already bootstrapped"),
        "{elsewhere:?}"
    );
    assert!(!account.dir().join("other.key").exists());
}

#[test]
fn without_a_place_for_the_key_none_is_made() {
    let account = account();
    let refused = account.run("bootstrap -c k.yaml --token-file none/admin.key");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("cannot make none/admin.key"),
        "{refused:?}"
    );
    assert!(!account.dir().join("s.redb").exists());
    account.done(LINE);
}
