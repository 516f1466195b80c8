//! No file uses another that uses it, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Source, find_word, is_name};

/// Which files each file uses, by their paths in `src` without `.rs`. A file uses the modules that it declares; that
/// these use what it holds for all of them is no circle.
type Uses = BTreeMap<String, BTreeSet<String>>;

fn uses(tree: &[Source]) -> Uses {
    let name = |source: &Source| {
        let inside = source.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        (!["lib", "main"].contains(&inside) && !source.code().is_empty()).then(|| inside.to_owned())
    };
    let codes: BTreeMap<String, String> = tree
        .iter()
        .filter_map(|source| Some((name(source)?, source.code())))
        .collect();
    let file_of = |path: &[String]| {
        let prefixes = (1..=path.len()).rev().map(|len| path[..len].join("/"));
        prefixes
            .into_iter()
            .find(|prefix| codes.contains_key(prefix))
    };
    let used_by = |file: &str, code: &str| {
        let named = paths_in(file, code);
        let used = named.iter().filter_map(|path| file_of(path));
        let is_inside = |other: &String| {
            file == other
                || file
                    .strip_prefix(other.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let mut used: BTreeSet<String> = used.filter(|other| !is_inside(other)).collect();
        let children = codes.keys().filter(|other| {
            other
                .rsplit_once('/')
                .is_some_and(|(parent, _)| parent == file)
        });
        used.extend(children.cloned());
        used
    };
    codes
        .iter()
        .map(|(file, code)| (file.clone(), used_by(file, code)))
        .collect()
}

/// Every path of ours that a file names, from the root of the crate.
fn paths_in(file: &str, code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for root in ["crate::", "super::"] {
        for at in find_word(code, root) {
            let mut base: Vec<String> = match root {
                "super::" => file.split('/').map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            let mut rest = &code[at..];
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            expand(
                rest.strip_prefix("crate::").unwrap_or(rest),
                &base,
                &mut paths,
            );
        }
    }
    paths
}

/// `a::{b, c::d}` -> `a::b` and `a::c::d`. Returns what stands behind it.
fn expand<'a>(text: &'a str, base: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    let mut path = base.to_vec();
    if !first.is_empty() && first != "self" {
        path.push(first.to_owned());
    }
    let rest = match rest.strip_prefix("::") {
        Some(rest) => rest,
        None if first.is_empty() => rest,
        None => {
            paths.push(path);
            return rest;
        }
    };
    let Some(mut rest) = rest.strip_prefix('{') else {
        return expand(rest, &path, paths);
    };
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            return rest;
        }
        if let Some(rest) = rest.strip_prefix('}') {
            return rest;
        }
        let before = rest.len();
        rest = expand(rest, &path, paths);
        rest = rest.trim_start();
        if let Some(renamed) = rest.strip_prefix("as ") {
            rest = renamed.trim_start_matches(is_name);
        }
        if rest.len() == before {
            return rest;
        }
    }
}

/// The files of each circle.
fn circles(uses: &Uses) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = uses
        .keys()
        .map(|file| (file, reached_from(file, uses)))
        .collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, others) in &reached {
        let back = others
            .iter()
            .filter(|other| reached[**other].contains(*file));
        let circle: Vec<String> = back.map(|other| (*other).clone()).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached_from<'a>(file: &str, uses: &'a Uses) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = uses[file].iter().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(&uses[file]);
        }
    }
    reached
}

#[test]
fn a_circle_of_files_is_found() {
    let tree = |files: &[(&str, &str)]| -> Vec<Source> {
        files
            .iter()
            .map(|(path, text)| Source::new(path, text))
            .collect()
    };
    let one = [
        ("src/a.rs", "mod b;\nmod c;"),
        (
            "src/a/b.rs",
            "use std::fmt;\nuse crate::a::c::{self, d::{X as Z, Y}};",
        ),
        ("src/a/c.rs", "mod d;"),
        ("src/a/c/d.rs", "fn f() { super::super::b::g() }"),
    ];
    assert_eq!(
        circles(&uses(&tree(&one))),
        [["a/b", "a/c", "a/c/d"].map(str::to_owned)]
    );
    // What a module's own file holds for its parts, and what only tests use, is no circle.
    let none = [
        ("src/a.rs", "mod b;\npub struct X;"),
        ("src/a/b.rs", "use crate::a::X;\nuse super::super::c::Y;"),
        (
            "src/c.rs",
            "pub struct Y;\n#[cfg(test)]\nmod tests {\n    use crate::a::b;\n}",
        ),
    ];
    assert_eq!(circles(&uses(&tree(&none))), Vec::<Vec<String>>::new());
}

#[test]
fn no_files_use_each_other() {
    let found = circles(&uses(&super::tree::read()));
    assert!(found.is_empty(), "files that use each other: {found:#?}");
}
