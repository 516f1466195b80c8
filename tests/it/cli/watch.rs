//! `--watch`.

use std::io::{BufRead as _, BufReader};

use super::world::Account;

#[test]
fn a_watch_shows_what_changes_and_ends_well_on_ctrl_c() {
    let account = Account::admin();
    account.done("tenant create watched-1 --plan watched");
    let args = [
        "tenant",
        "list",
        "--filter",
        "plan = watched",
        "--watch",
        "-o",
        "name",
    ];
    let mut child = account.command(&args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "tenants/watched-1");
    account.done("tenant create watched-2 --plan watched");
    // The first is not shown again: it has not changed.
    assert_eq!(lines.next().unwrap().unwrap(), "tenants/watched-2");
    let pid = child.id().to_string();
    let interrupt = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(interrupt.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
