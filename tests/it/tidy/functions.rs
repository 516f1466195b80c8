//! No function of the product is long, but tables: one arm a row, to be read like a list.

use super::tree::{self, Source};
use super::{Finding, bad, hold};

const LINES_MAX: usize = 60;

/// Functions that are tables, and why each is one.
const TABLES: &[(&str, &str, &str)] = &[
    (
        "src/ext_authz/response/denied.rs",
        "words",
        "the status, title and advice of each reason",
    ),
    (
        "src/status.rs",
        "status_of",
        "the code, reason and message of each error of the registry",
    ),
];

/// A function of the product: its name, and its first and last line from 1.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let code = source.code();
    let lines: Vec<&str> = code.lines().collect();
    let name_of = |line: &str| {
        let (before, rest) = line.trim_start().split_once("fn ")?;
        let modifiers = ["pub", "const", "async", "unsafe", "extern"];
        let is_modifier = |word: &str| modifiers.iter().any(|known| word.starts_with(known));
        let is_item = before.split_whitespace().all(is_modifier);
        let name = rest.split(|c| !tree::is_name(c)).next()?;
        (is_item && !name.is_empty()).then(|| name.to_owned())
    };
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some(name) = name_of(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        // rustfmt puts the end of an item where the item began.
        let is_last = |line: &&str| {
            line.strip_prefix(indent).is_some_and(|rest| {
                rest == "}" || (!rest.starts_with(' ') && rest.ends_with(['}', ';']))
            })
        };
        if let Some(len) = lines[first..].iter().position(is_last) {
            found.push((name, first + 1, first + len + 1));
        }
    }
    found
}

fn too_long(source: &Source) -> Vec<Finding> {
    let is_table = |name: &str| {
        TABLES
            .iter()
            .any(|(path, table, _)| *path == source.path && *table == name)
    };
    functions(source)
        .into_iter()
        .filter(|(name, first, last)| last - first + 1 > LINES_MAX && !is_table(name))
        .map(|(name, first, last)| (last, format!("`{name}` has {} lines", last - first + 1)))
        .collect()
}

#[test]
fn functions_are_short_but_tables() {
    let function = |head: &str, lines: usize| {
        format!("//! X.\n{head} {{\n{}}}", "    f();\n".repeat(lines - 2))
    };
    let method = |lines: usize| {
        let body = "        f();\n".repeat(lines - 2);
        format!("impl X {{\n    pub(super) async fn run(\n{body}    }}")
    };
    let right = function("fn f()", LINES_MAX);
    let short = function("fn g()", 3);
    let two = format!("trait X {{\n    fn f();\n}}\n{right}\n{short}");
    hold(
        "a function has at most 60 lines, unless it is a table that is named here",
        too_long,
        &[
            bad("src/x.rs", function("fn f()", LINES_MAX + 1)),
            bad("src/x.rs", function("pub async fn f<'a>()", LINES_MAX + 1)),
            bad(
                "src/x.rs",
                function("pub(super) const fn f()", LINES_MAX + 1),
            ),
            bad("src/x.rs", method(LINES_MAX + 1)),
            bad("src/status.rs", function("fn f()", LINES_MAX + 1)),
        ],
        &[
            ("src/x.rs", &two),
            ("src/x.rs", &format!("{}\n}}", method(LINES_MAX))),
            ("src/x/tests.rs", &function("fn f()", LINES_MAX + 1)),
            ("src/status.rs", &function("fn status_of()", LINES_MAX + 1)),
        ],
    );
}

#[test]
fn every_table_that_is_named_is_there_and_long() {
    let tree = tree::read();
    for (path, name, why) in TABLES {
        let is_long = |(found, first, last): &(String, usize, usize)| {
            found == name && last - first + 1 > LINES_MAX
        };
        let source = tree.iter().find(|source| source.path == *path);
        assert!(
            source.is_some_and(|source| functions(source).iter().any(is_long)),
            "{path}: {name} is no longer a long table ({why})"
        );
    }
}
