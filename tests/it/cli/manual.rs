//! Completions and manual pages.

use super::world::Account;

#[test]
fn each_shell_gets_a_script_that_knows_the_commands() {
    let account = Account::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = account.done(&format!("completions {shell}"));
        for word in ["revoke-all", "allow-cidr", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let script = account.done("completions bash");
    account.file("keystile.bash", &script);
    let mut bash = std::process::Command::new("bash");
    bash.args(["-n", "keystile.bash"])
        .current_dir(account.dir());
    assert!(bash.status().unwrap().success());
}

#[test]
fn each_command_gets_a_manual_page() {
    let account = Account::new();
    assert!(account.done("man").contains(".TH keystile"));
    account.done("man --dir pages");
    let page = |name: &str| std::fs::read_to_string(account.dir().join("pages").join(name));
    assert!(page("keystile.1").unwrap().contains("keystile\\-tenant"));
    assert!(page("keystile-key-revoke-all.1").unwrap().contains("owner"));
}
