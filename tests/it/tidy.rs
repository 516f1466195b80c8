//! Holds the house in order: what may depend on what, who may touch the world, what no file may contain.
//!
//! Every rule is first shown small examples that it must find and some that it must not, then the real tree, in
//! which it must find nothing. A finding is `file:line: what`, under the rule's own words.

mod circles;
mod functions;
mod held;
mod layers;
mod tree;
mod waits;

use std::path::{Component, Path, PathBuf};

use tree::Source;

const FILE_LINES_MAX: usize = 500;
const README_LINES_MAX: usize = 150;

/// A line, from 1, and what is wrong with it.
type Finding = (usize, String);

/// An example whose last line breaks a rule.
struct Bad {
    path: &'static str,
    text: String,
}

fn bad(path: &'static str, text: impl Into<String>) -> Bad {
    Bad {
        path,
        text: text.into(),
    }
}

/// Holds a rule against its examples and then against the tree.
#[track_caller]
fn hold(says: &str, rule: impl Fn(&Source) -> Vec<Finding>, bad: &[Bad], good: &[(&str, &str)]) {
    assert!(
        !bad.is_empty(),
        "{says}: a rule that nothing breaks is no rule"
    );
    for Bad { path, text } in bad {
        let found = rule(&Source::new(path, text));
        let last = text.lines().count();
        assert!(
            found.iter().any(|(line, _)| *line == last),
            "{says}: found {found:?} in {path}, and its last line breaks the rule:\n{text}"
        );
    }
    for (path, text) in good {
        let found = rule(&Source::new(path, text));
        assert!(
            found.is_empty(),
            "{says}: {found:?} in {path}, which is right:\n{text}"
        );
    }
    let tree = tree::read();
    let found: Vec<String> = tree
        .iter()
        .flat_map(|source| {
            let found = rule(source);
            found
                .into_iter()
                .map(move |(line, what)| format!("{}:{line}: {what}", source.path))
        })
        .collect();
    assert!(found.is_empty(), "{says}\n{}", found.join("\n"));
}

/// Every place of a word in a text.
fn places(text: &str, words: &[&str]) -> Vec<Finding> {
    text.lines()
        .enumerate()
        .flat_map(|(at, line)| {
            words
                .iter()
                .filter(move |word| line.contains(*word))
                .map(move |word| (at + 1, format!("`{word}`")))
        })
        .collect()
}

/// The product's code may say `words` only in files that begin with one of `homes`.
fn only_in(
    homes: &'static [&'static str],
    words: &'static [&'static str],
) -> impl Fn(&Source) -> Vec<Finding> {
    move |source| {
        if homes.iter().any(|home| source.path.starts_with(home)) {
            return Vec::new();
        }
        places(&source.code(), words)
    }
}

#[test]
fn only_config_reads_the_environment() {
    hold(
        "the environment is read by `config`, the arguments by `main`",
        // Client addresses and keys are read by clap and `config::variable`; `env!` is the compiler's.
        only_in(
            &["src/config", "src/main.rs"],
            &["std::env", "env::var", "env::args"],
        ),
        &[
            bad("src/store/redb.rs", "let path = std::env::var(\"STORE\");"),
            bad("src/cli/key.rs", "//! Keys.\nuse std::env;"),
        ],
        &[
            ("src/config/env.rs", "use std::env;"),
            (
                "src/telemetry.rs",
                "const VERSION: &str = env!(\"CARGO_PKG_VERSION\");",
            ),
        ],
    );
}

#[test]
fn only_clock_reads_the_time_of_day() {
    hold(
        "the time of day is read by `clock`; elsewhere it is an argument",
        only_in(
            &["src/clock.rs"],
            &[
                "SystemTime",
                "Timestamp::now()",
                "Zoned::now()",
                "std::time::Instant",
            ],
        ),
        &[
            bad(
                "src/registry/keys.rs",
                "let now = std::time::SystemTime::now();",
            ),
            bad("src/domain/key.rs", "use std::time::SystemTime;"),
            bad("src/cache.rs", "let now = jiff::Timestamp::now();"),
        ],
        &[("src/cache.rs", "let now = self.clock.now();")],
    );
}

#[test]
fn only_server_and_cli_start_tasks_and_threads() {
    hold(
        "tasks and threads are started by `server` and `cli`, by the embedded store for its own file, by a batch for its items, and by logs for their writer",
        // The store's writer is joined when the store is dropped; its scans are awaited by who asked. A batch's
        // tasks end with the call that it serves. Logs are written to the end of the process.
        only_in(
            &[
                "src/server",
                "src/cli",
                "src/store/redb/writer.rs",
                "src/admin/batch.rs",
                "src/store/redb.rs",
                "src/telemetry/log_queue.rs",
            ],
            &[
                "spawn(",
                "spawn_blocking(",
                "spawn_local(",
                "thread::Builder",
                "JoinSet",
            ],
        ),
        &[
            bad("src/cache/load.rs", "tokio::spawn(async {});"),
            bad("src/store/codec.rs", "std::thread::spawn(|| ());"),
            bad("src/authorizer.rs", "tasks.spawn(work());"),
        ],
        &[("src/server/ops.rs", "tasks.spawn(work());")],
    );
}

#[test]
fn only_the_registry_writes_records() {
    hold(
        "records are written by `registry` and copied by `migrate`, through `store`",
        only_in(
            &["src/registry", "src/migrate", "src/store"],
            &["KeyCommit", "TenantCommit", "commit_key(", "commit_tenant("],
        ),
        &[bad(
            "src/authorizer.rs",
            "self.store.commit_key(commit).await?;",
        )],
        &[(
            "src/registry/keys.rs",
            "self.store.commit_key(commit).await?;",
        )],
    );
}

#[test]
fn domain_has_no_stored_or_wire_form_and_does_no_io() {
    hold(
        "`domain`, `clock` and `crypto` are plain values: no stored form, no files, no sockets, no threads, no logs",
        |source| match source.module() {
            Some("domain" | "clock" | "crypto") => places(
                &source.code(),
                &[
                    "Serialize",
                    "serde",
                    "std::fs",
                    "std::io",
                    "std::process",
                    "std::thread",
                    "async fn",
                    ".await",
                    "println!",
                ],
            ),
            Some(_) | None => Vec::new(),
        },
        &[
            bad("src/domain/key.rs", "#[derive(Debug, Serialize)]"),
            bad("src/crypto/keyring.rs", "use std::fs;"),
            bad(
                "src/domain/tenant.rs",
                "//! A tenant.\npub async fn load() {}",
            ),
        ],
        &[("src/store/codec.rs", "use std::io;")],
    );
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    hold(
        "no placeholder, no debugging aid, no test that is switched off",
        |source| match source.is_rust() {
            true => places(
                &source.text,
                &[
                    concat!("todo", "!("),
                    concat!("unimplemented", "!("),
                    concat!("dbg", "!("),
                    concat!("#[", "ignore"),
                ],
            ),
            false => Vec::new(),
        },
        &[
            bad("src/cache.rs", concat!("fn f() { todo", "!() }")),
            bad("tests/it/x.rs", concat!("#[test]\n#[", "ignore]")),
            bad("benches/x.rs", concat!("dbg", "!(1);")),
        ],
        &[("docs/x.md", "ignore this")],
    );
    hold(
        "what is to be done is an issue, not a comment",
        |source| places(&source.text, &[concat!("TO", "DO"), concat!("FIX", "ME")]),
        &[
            bad("src/cache.rs", concat!("// TO", "DO: later")),
            bad("Makefile", concat!("# FIX", "ME")),
        ],
        &[],
    );
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    hold(
        "paths are relative, or those of a plain installation",
        |source| {
            places(
                &source.text,
                &[
                    concat!("/ro", "ot/"),
                    concat!("/wo", "rk/"),
                    concat!("/ho", "me/"),
                    concat!("/tm", "p/w/"),
                ],
            )
        },
        &[
            bad("docs/x.md", concat!("cd /ro", "ot/keystile")),
            bad("Makefile", concat!("run:\n\tcd /wo", "rk/main")),
        ],
        &[("docs/x.md", "path: /var/lib/keystile/keystile.redb")],
    );
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    hold(
        "a Rust file has at most 500 lines",
        |source| match source.text.lines().count() {
            lines if source.is_rust() && lines > FILE_LINES_MAX => {
                vec![(FILE_LINES_MAX + 1, format!("{lines} lines"))]
            }
            _ => Vec::new(),
        },
        &[bad("src/cache.rs", "\n".repeat(FILE_LINES_MAX + 1))],
        &[("src/cache.rs", &"\n".repeat(FILE_LINES_MAX))],
    );
    hold(
        "a module begins with `//!`, unless it is the `tests.rs` of one that does",
        |source| {
            let module = source.path.starts_with("src/") || source.path.starts_with("tests/");
            let wanted = module && source.is_rust() && !source.path.ends_with("/tests.rs");
            if wanted && !source.text.starts_with("//! ") {
                vec![(1, "does not begin with `//!`".to_owned())]
            } else {
                Vec::new()
            }
        },
        &[bad("src/cache.rs", "use std::fmt;")],
        &[("src/cache/tests.rs", "use super::*;")],
    );
    hold(
        "a module is `foo.rs` and `foo/`",
        |source| {
            let is_mod = source.path.ends_with("/mod.rs");
            is_mod
                .then(|| (1, "mod.rs".to_owned()))
                .into_iter()
                .collect()
        },
        &[bad("src/cache/mod.rs", "//! The cache.")],
        &[],
    );
}

/// The relative targets of a document's links, with their lines.
fn links(source: &Source) -> Vec<(usize, PathBuf)> {
    let mut links = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        for (before, _) in line.match_indices("](") {
            let target = line[before + 2..].split(')').next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                let folder = Path::new(&source.path)
                    .parent()
                    .unwrap_or_else(|| Path::new(""));
                links.push((at + 1, normal(&folder.join(target))));
            }
        }
    }
    links
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

fn is_document(source: &Source) -> bool {
    source.path.ends_with(".md")
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    hold(
        "a relative link names a file or folder of the repository",
        |source| match is_document(source) {
            true => links(source)
                .into_iter()
                .filter(|(_, target)| !root().join(target).exists())
                .map(|(line, target)| (line, format!("{} is not there", target.display())))
                .collect(),
            false => Vec::new(),
        },
        &[
            bad("docs/x.md", "# X\nsee [y](NOWHERE.md#part)"),
            bad("README.md", "see [y](docs/../NOWHERE.md)"),
        ],
        &[(
            "docs/x.md",
            "[a](../README.md) [b](https://example.com/nowhere) [c](#here)",
        )],
    );
}

#[test]
fn every_document_is_linked_from_another() {
    let tree = tree::read();
    let linked: Vec<PathBuf> = tree
        .iter()
        .filter(|source| is_document(source))
        .flat_map(links)
        .map(|(_, target)| target)
        .collect();
    hold(
        "a document in docs/ is linked from the README or another document",
        |source| {
            let orphan = is_document(source)
                && source.path.starts_with("docs/")
                && !linked.contains(&PathBuf::from(&source.path));
            orphan
                .then(|| (1, "nothing links here".to_owned()))
                .into_iter()
                .collect()
        },
        &[bad("docs/ORPHAN.md", "# Nobody knows me")],
        &[("docs/CONFIGURATION.md", "# Configuration")],
    );
}

#[test]
fn the_readme_is_short() {
    hold(
        "the README has at most 150 lines; depth is in docs/",
        |source| match source.text.lines().count() {
            lines if source.path == "README.md" && lines > README_LINES_MAX => {
                vec![(README_LINES_MAX + 1, format!("{lines} lines"))]
            }
            _ => Vec::new(),
        },
        &[bad("README.md", "\n".repeat(README_LINES_MAX + 1))],
        &[("README.md", &"\n".repeat(README_LINES_MAX))],
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The names under `[dependencies]`, `[dev-dependencies]` and `[build-dependencies]`, with their lines.
fn direct_dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut names = Vec::new();
    for (at, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            names.push((at + 1, name));
        }
    }
    names
}

#[test]
fn every_direct_dependency_has_its_reason_in_the_list() {
    let list = std::fs::read_to_string(root().join("docs/DEPENDENCIES.md")).unwrap();
    hold(
        "a direct dependency has a row in docs/DEPENDENCIES.md",
        |source| match source.path.as_str() {
            "Cargo.toml" => direct_dependencies(&source.text)
                .into_iter()
                .filter(|(_, name)| !list.contains(&format!("\n| `{name}` | ")))
                .map(|(line, name)| (line, format!("`{name}`")))
                .collect(),
            _ => Vec::new(),
        },
        &[bad("Cargo.toml", "[dependencies]\nnobody-knows-it = \"1\"")],
        &[(
            "Cargo.toml",
            "[package]\nname = \"x\"\n[dependencies]\nserde = \"1\"",
        )],
    );
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let direct = direct_dependencies(&manifest);
    let rows = list.lines().filter_map(|line| {
        let name = line.strip_prefix("| `")?.split('`').next()?;
        Some(name)
    });
    for row in rows {
        assert!(
            direct.iter().any(|(_, name)| *name == row),
            "`{row}` is listed and not used"
        );
    }
}
