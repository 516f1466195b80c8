//! What docs/KUBERNETES.md has a reader type.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::{root, template};
use crate::harness::keystile;
use crate::harness::process::without_our_environment;

fn guide() -> String {
    fs::read_to_string(root().join("docs/KUBERNETES.md")).unwrap()
}

/// Words behind a flag, up to a blank or the end of a code span.
fn behind<'a>(text: &'a str, flag: &str) -> BTreeSet<&'a str> {
    let ends = |c: char| c.is_whitespace() || c == '`' || c == ',';
    let all = text.split(flag).skip(1);
    // A list of values is cut at its commas.
    let values = all.map(|rest| {
        rest.trim_start()
            .split(|c: char| c.is_whitespace() || c == '`')
    });
    let lists = values.filter_map(|mut words| words.next());
    lists.flat_map(|list| list.split(ends)).collect()
}

#[test]
fn every_value_that_the_guide_sets_is_one_of_the_chart() {
    let text = guide();
    let set = behind(&text, "--set ");
    assert!(set.len() >= 6, "{set:?}");
    for value in set {
        let name = value.split('=').next().unwrap();
        // Some contradict the file's other values; here it is about names and types.
        for values in ["values.yaml", "values-ha.yaml"] {
            if let Err(said) = template(values, &["--set", value]) {
                assert!(
                    !said.contains("specifications of the schema"),
                    "{name}: {said}"
                );
            }
        }
    }
    let unknown = template("values.yaml", &["--set", "bootstrap.make=true"]).unwrap_err();
    assert!(
        unknown.contains("specifications of the schema"),
        "{unknown}"
    );
}

/// `keystile COMMAND …` as typed, with what a shell puts in; nothing is done, since each asks for help.
#[test]
fn every_command_of_the_guide_is_one_of_the_program() {
    let text = guide();
    let mut seen = 0;
    for line in text.lines().filter(|line| line.contains("keystile ")) {
        for typed in line.split("keystile ").skip(1) {
            let words: Vec<&str> = typed
                .split_whitespace()
                .take_while(|word| !word.starts_with('-'))
                .take_while(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
                .take(2)
                .collect();
            let commands = [
                "bootstrap",
                "check",
                "health",
                "keyring",
                "redis-acl",
                "store",
            ];
            if !words.first().is_some_and(|word| commands.contains(word)) {
                continue;
            }
            let mut command = Command::new(keystile::binary());
            without_our_environment(&mut command);
            let help = command.args(&words).arg("--help").output().unwrap();
            assert!(help.status.success(), "keystile {words:?}: {line}");
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen} commands");
}
