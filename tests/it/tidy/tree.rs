//! The files of the repository, and the code in them without comments and tests.

use std::fs;
use std::path::Path;

/// One text file.
#[derive(Debug)]
pub(super) struct Source {
    /// From the root of the repository, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// Compiled for tests alone.
    for_tests: bool,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            for_tests: is_test_path(path),
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The module of the crate that the file is, or is part of: `store` for `src/store/redb.rs`.
    pub(super) fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let module = inside.split('/').next()?;
        (!["lib", "main"].contains(&module)).then_some(module)
    }

    /// The product's code, each line where it is in the file: comments and what is compiled for tests are blank.
    pub(super) fn code(&self) -> String {
        if self.for_tests || !self.path.starts_with("src/") || !self.is_rust() {
            return String::new();
        }
        let mut skipped: Option<usize> = None;
        let mut code = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            let indent = line.len() - line.trim_start().len();
            let trimmed = line.trim();
            if let Some(item) = skipped {
                // rustfmt puts the end of an item where the item began.
                if indent == item && trimmed.ends_with([';', '}']) {
                    skipped = None;
                }
            } else if trimmed == "#[cfg(test)]" {
                skipped = Some(indent);
            } else if !trimmed.starts_with("//") {
                code.push_str(line.split(" // ").next().unwrap_or_default());
            }
            code.push('\n');
        }
        code
    }

    /// What is compiled for tests alone, each line where it is in the file.
    pub(super) fn test_code(&self) -> String {
        if !self.is_rust() || !(self.path.starts_with("src/") || self.path.starts_with("tests/")) {
            return String::new();
        }
        let product = self.code();
        let mut product = product.lines();
        let mut code = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            let is_product = product.next().is_some_and(|line| !line.is_empty());
            if !is_product && !line.trim_start().starts_with("//") {
                code.push_str(line);
            }
            code.push('\n');
        }
        code
    }
}

fn is_test_path(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Every text file of the repository.
pub(super) fn read() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(root, "", &mut sources);
    let for_tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let stem = source.path.trim_end_matches(".rs");
        source.for_tests |= for_tests
            .iter()
            .any(|module| stem == module || stem.starts_with(&format!("{module}/")));
    }
    assert!(
        sources.iter().any(|source| source.path == "src/lib.rs"),
        "the tree is read from {}",
        root.display()
    );
    sources
}

fn collect(folder: &Path, prefix: &str, sources: &mut Vec<Source>) {
    // What cargo builds is marked with this file, wherever it is put.
    if folder.join("CACHEDIR.TAG").exists() {
        return;
    }
    for entry in fs::read_dir(folder).expect("read a folder") {
        let entry = entry.expect("read a folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            if ![
                ".git",
                ".venv",
                ".run",
                ".keystile",
                "target",
                "__pycache__",
            ]
            .contains(&name.as_str())
            {
                collect(&entry.path(), &format!("{path}/"), sources);
            }
        } else if path != ".git"
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            sources.push(Source::new(&path, &text));
        }
    }
}

/// Paths, without `.rs`, of the modules that a file declares for tests alone.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = match source.path.as_str() {
        "src/lib.rs" | "src/main.rs" => "src",
        path => path.trim_end_matches(".rs"),
    };
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "#[cfg(test)]")
        .filter_map(|pair| pair[1].split_once("mod ")?.1.strip_suffix(';'))
        .map(|module| format!("{folder}/{module}"))
        .collect()
}

/// The line, from 1, of a place in a text.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where `word` begins, unless it is the end of a longer name or path.
pub(super) fn find_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| !text[..*at].ends_with(|c: char| is_name(c) || c == ':' || c == '$'))
}

pub(super) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
