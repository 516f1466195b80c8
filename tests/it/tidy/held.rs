//! Every row of every table in docs/SECURITY.md names, in its last cell, tests that hold it and that are there.

use std::collections::HashSet;

use super::tree::{self, Source, is_name};
use super::{Finding, bad, hold};

/// The tests of a file as the document names them, without modules that are called `tests`.
fn tests_of(source: &Source) -> Vec<String> {
    let inside = ["tests/it/", "src/"]
        .iter()
        .find_map(|root| source.path.strip_prefix(root)?.strip_suffix(".rs"));
    let Some(file) = inside else {
        return Vec::new();
    };
    let modules: Vec<&str> = file.split('/').filter(|part| *part != "tests").collect();
    let module = modules.join("::");
    let mut is_test = false;
    let mut names = Vec::new();
    for line in source.text.lines().map(str::trim) {
        is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        let function = line.split_once("fn ").filter(|_| !line.starts_with("//"));
        if let Some((_, rest)) = function
            && std::mem::take(&mut is_test)
        {
            let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
            names.push(format!("{module}::{name}"));
        }
    }
    names
}

/// The last cells of the rows of tables, without their headers, and their lines.
fn last_cells(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut cells = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if !line.starts_with('|') {
            inside = false;
        } else if line.starts_with("|--") {
            inside = true;
        } else if inside {
            let cell = line.trim_end_matches(['|', ' ']).rsplit(" | ").next();
            cells.push((at + 1, cell.unwrap_or_default()));
        }
    }
    cells
}

fn not_held(text: &str, tests: &HashSet<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (line, cell) in last_cells(text) {
        let words = cell.split('`').skip(1).step_by(2);
        let named: Vec<&str> = words.filter(|word| word.contains("::")).collect();
        if named.is_empty() {
            found.push((line, "no test".to_owned()));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(*name));
        found.extend(missing.map(|name| (line, format!("there is no `{name}`"))));
    }
    found
}

#[test]
fn every_row_about_security_names_tests_that_are_there() {
    let tests: HashSet<String> = tree::read().iter().flat_map(tests_of).collect();
    let table = |cell: &str| format!("| who | held by |\n|---|---|\n| a thief | {cell} |");
    let right = table("`tidy::the_readme_is_short`, `crypto::secret::secrets_print_a_fixed_word`");
    let document = "docs/SECURITY.md";
    hold(
        "each row of docs/SECURITY.md names the tests that hold it",
        |source| match source.path.as_str() {
            path if path == document => not_held(&source.text, &tests),
            _ => Vec::new(),
        },
        &[
            bad(document, table("")),
            bad(document, table("a good lock")),
            bad(document, table("`the_readme_is_short`")),
            bad(document, table("`tidy::nobody_wrote_this`")),
            bad(document, table("`tidy::held::not_held`")),
            bad(
                document,
                table("`tidy::the_readme_is_short`, `tidy::the_readme_is_long`"),
            ),
        ],
        &[
            (document, &right),
            (document, "Text | without\na table."),
            ("docs/OTHER.md", &table("")),
        ],
    );
}
