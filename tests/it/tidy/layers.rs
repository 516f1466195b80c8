//! What may depend on what.

use super::tree::{Source, find_word, is_name, line_of};
use super::{Finding, bad, hold};

/// Which external crates a module may name.
enum Crates {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}
use Crates::{AllBut, Only};

const PROTOCOLS: &[&str] = &["axum", "http", "hyper", "hyper_util", "prost", "tonic"];
const STORES: &[&str] = &[
    "axum",
    "http",
    "hyper",
    "hyper_util",
    "prost",
    "redb",
    "tonic",
];
const CRYPTO: &[&str] = &[
    "aes_gcm",
    "crc32fast",
    "data_encoding",
    "ed25519_dalek",
    "hkdf",
    "hmac",
    "rand",
    "sha2",
    "subtle",
    "thiserror",
    "zeroize",
];
const ANY: Crates = AllBut(&[]);

/// Each module, which modules of ours it may use, and which crates. A row uses rows above it alone.
const LAYERS: &[(&str, &[&str], Crates)] = &[
    // vocabulary
    ("clock", &[], Only(&["jiff", "thiserror"])),
    (
        "domain",
        &["clock"],
        Only(&["ipnet", "thiserror", "icu_properties"]),
    ),
    // mechanisms
    ("crypto", &["clock", "domain"], Only(CRYPTO)),
    (
        "oidc",
        &["clock", "domain"],
        Only(&[
            "data_encoding",
            "jsonwebtoken",
            "ring",
            "serde",
            "serde_json",
            "thiserror",
        ]),
    ),
    ("file_access", &[], Only(&["nix", "zeroize"])),
    ("sharded", &[], Only(&[])),
    // state
    ("telemetry", &["clock", "domain"], AllBut(PROTOCOLS)),
    // The inside of a stored record is protobuf; no schema of the wire is.
    (
        "store",
        &["clock", "crypto", "domain", "file_access", "telemetry"],
        AllBut(&["axum", "http", "hyper", "hyper_util", "tonic"]),
    ),
    (
        "cache",
        &["clock", "crypto", "domain", "store"],
        AllBut(STORES),
    ),
    (
        "abuse",
        &["clock", "domain", "sharded", "store", "telemetry"],
        AllBut(STORES),
    ),
    (
        "limiter",
        &["clock", "domain", "sharded", "store", "telemetry"],
        AllBut(STORES),
    ),
    // use cases
    (
        "authorizer",
        &["abuse", "cache", "clock", "crypto", "domain", "limiter"],
        AllBut(STORES),
    ),
    (
        "registry",
        &["clock", "crypto", "domain", "store", "telemetry"],
        AllBut(STORES),
    ),
    ("migrate", &["crypto", "domain", "store"], AllBut(STORES)),
    (
        "check",
        &["clock", "crypto", "domain", "registry", "store"],
        AllBut(STORES),
    ),
    // protocols
    ("grpc", &[], Only(&["http", "thiserror"])),
    ("proto", &[], ANY),
    ("status", &["domain", "registry"], AllBut(&["redb"])),
    (
        "ext_authz",
        &[
            "authorizer",
            "clock",
            "crypto",
            "domain",
            "grpc",
            "telemetry",
        ],
        AllBut(&["axum", "redb", "tonic"]),
    ),
    (
        "admin",
        &[
            "abuse",
            "authorizer",
            "clock",
            "domain",
            "grpc",
            "proto",
            "registry",
            "status",
            "telemetry",
        ],
        AllBut(&["redb"]),
    ),
    // wiring
    (
        "config",
        &["domain", "ext_authz", "file_access", "limiter", "store"],
        AllBut(STORES),
    ),
    (
        "injector",
        &["config", "telemetry"],
        AllBut(&["redb", "tonic"]),
    ),
    (
        "keyfile",
        &["clock", "config", "crypto", "file_access"],
        AllBut(STORES),
    ),
    (
        "server",
        &[
            "abuse",
            "admin",
            "authorizer",
            "cache",
            "check",
            "clock",
            "config",
            "crypto",
            "domain",
            "ext_authz",
            "file_access",
            "grpc",
            "injector",
            "keyfile",
            "limiter",
            "oidc",
            "registry",
            "status",
            "store",
            "telemetry",
        ],
        ANY,
    ),
    (
        "cli",
        &[
            "admin",
            "check",
            "clock",
            "config",
            "crypto",
            "domain",
            "ext_authz",
            "file_access",
            "keyfile",
            "migrate",
            "oidc",
            "proto",
            "registry",
            "server",
            "status",
            "store",
            "telemetry",
        ],
        ANY,
    ),
];

/// Single files that use what their module may not, each with the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "src/ext_authz/reserved.rs",
        "cache",
        "the headers of a request are read from the cached key and tenant",
    ),
    (
        "src/ext_authz/response.rs",
        "cache",
        "a grant holds the cached key and tenant, and a tenant's headers are rendered once and kept with it",
    ),
    (
        "src/ext_authz/signed.rs",
        "cache",
        "a grant holds the cached key and tenant, and the token says who they are",
    ),
    (
        "src/status.rs",
        "store",
        "the registry's error carries the store's, and each needs its code",
    ),
];

fn uses(module: &str) -> &'static [&'static str] {
    LAYERS
        .iter()
        .find(|(name, ..)| *name == module)
        .map_or(&[], |(_, uses, _)| uses)
}

/// Every module of ours that a file names, with the line.
fn named_modules(source: &Source) -> Vec<(usize, String)> {
    let code = source.code();
    let mut named = Vec::new();
    for at in find_word(&code, "crate::") {
        let rest = &code[at + "crate::".len()..];
        let names = if rest.starts_with('{') {
            first_names_of_group(rest)
        } else {
            vec![first_name(rest)]
        };
        named.extend(names.into_iter().map(|name| (line_of(&code, at), name)));
    }
    // `super::` from a file so high in the tree that it leaves the module.
    let depth = source.path.matches('/').count();
    let root = "super::".repeat(depth);
    for at in find_word(&code, &root) {
        let name = first_name(&code[at + root.len()..]);
        named.push((line_of(&code, at), name));
    }
    named
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| is_name(*c)).collect()
}

/// `{a::b, c::{d, e}}` -> `a`, `c`.
fn first_names_of_group(text: &str) -> Vec<String> {
    let (mut depth, mut names, mut begins) = (0, Vec::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            '{' => {
                depth += 1;
                begins = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' => begins = depth == 1,
            c if begins && is_name(c) => {
                names.push(first_name(&text[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn is_excepted(source: &Source, module: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(path, named, _)| *path == source.path && *named == module)
}

fn forbidden_modules(source: &Source) -> Vec<Finding> {
    let Some(module) = source.module() else {
        return Vec::new();
    };
    named_modules(source)
        .into_iter()
        .filter(|(_, named)| {
            named != module
                && !uses(module).contains(&named.as_str())
                && !is_excepted(source, named)
        })
        .map(|(line, named)| (line, format!("`{module}` uses `{named}`")))
        .collect()
}

/// The crates that Cargo.toml names, as code spells them.
fn dependencies() -> Vec<String> {
    let manifest = include_str!("../../../Cargo.toml");
    let lines = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| Some(line.split_once(" =")?.0.trim().replace('-', "_")))
        .collect()
}

fn forbidden_crates(source: &Source) -> Vec<Finding> {
    let layer = LAYERS
        .iter()
        .find(|(name, ..)| Some(*name) == source.module());
    let Some((module, _, crates)) = layer else {
        return Vec::new();
    };
    let code = source.code();
    let mut found = Vec::new();
    for name in dependencies() {
        let allowed = match crates {
            Only(names) => names.contains(&name.as_str()),
            AllBut(names) => !names.contains(&name.as_str()),
        };
        if allowed {
            continue;
        }
        for ending in ["::", ";"] {
            let word = format!("{name}{ending}");
            let places = find_word(&code, &word)
                .filter(|at| ending == "::" || code[..*at].ends_with("use "))
                .map(|at| {
                    (
                        line_of(&code, at),
                        format!("`{module}` uses the crate {name}"),
                    )
                });
            found.extend(places);
        }
    }
    found
}

#[test]
fn a_module_uses_only_the_modules_of_its_row() {
    hold(
        "a module uses the modules that its row in LAYERS names",
        forbidden_modules,
        &[
            bad("src/domain/key.rs", "use crate::store::Store;"),
            bad(
                "src/clock.rs",
                "//! Time.\nuse crate::{domain::{key, name}, clock};",
            ),
            bad("src/cache/load.rs", "fn f() { crate::server::run() }"),
            bad(
                "src/authorizer/policy.rs",
                "use super::super::config::Config;",
            ),
            bad(
                "src/registry.rs",
                "#[cfg(test)]\nmod tests {\n    use crate::config::Config;\n}\nuse super::config::Config;",
            ),
        ],
        &[
            (
                "src/domain/key.rs",
                "// crate::store is not for us\nuse crate::clock::Timestamp;",
            ),
            (
                "src/cache/load.rs",
                "use super::Cache;\nuse crate::{cache::Cache, store::Store};",
            ),
            (
                "src/domain/key.rs",
                "#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}",
            ),
            ("src/domain/key/tests.rs", "use crate::store::Store;"),
        ],
    );
}

#[test]
fn a_module_uses_only_the_crates_of_its_row() {
    hold(
        "a module uses the crates that its row in LAYERS allows",
        forbidden_crates,
        &[
            bad("src/domain/key.rs", "use serde::Serialize;"),
            bad(
                "src/crypto/token.rs",
                "async fn f() { tokio::task::yield_now().await }",
            ),
            bad("src/crypto/token.rs", "use tracing;"),
            bad("src/authorizer.rs", "use tonic::Status;"),
            bad("src/registry/keys.rs", "use redb::Database;"),
            bad("src/ext_authz/service.rs", "use redb::Database;"),
        ],
        &[
            (
                "src/registry/keys.rs",
                "use crate::store::redb::EmbeddedStore;",
            ),
            ("src/domain/key.rs", "use ipnet::IpNet;"),
        ],
    );
}

#[test]
fn every_module_has_a_row_and_rows_use_rows_above_them() {
    let lib = include_str!("../../../src/lib.rs");
    let mut modules: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let mut rows: Vec<&str> = LAYERS.iter().map(|(name, ..)| *name).collect();
    for (at, (name, uses, _)) in LAYERS.iter().enumerate() {
        for used in *uses {
            assert!(
                rows[..at].contains(used),
                "`{name}` uses `{used}`, which is not above it"
            );
        }
    }
    modules.sort_unstable();
    rows.sort_unstable();
    assert_eq!(
        modules, rows,
        "the modules in src/lib.rs and the rows of LAYERS"
    );
}

#[test]
fn no_exception_and_no_permission_is_left_over() {
    let tree = super::tree::read();
    let named_by = |is_wanted: &dyn Fn(&Source) -> bool, module: &str| {
        tree.iter()
            .filter(|source| is_wanted(source))
            .any(|source| {
                named_modules(source)
                    .iter()
                    .any(|(_, named)| named == module)
            })
    };
    for (path, module, why) in EXCEPTIONS {
        assert!(
            named_by(&|source| source.path == *path, module),
            "{path} no longer uses `{module}` ({why}): remove the exception"
        );
    }
    // `server` and `cli` build everything and may see everything below them.
    let rows = LAYERS
        .iter()
        .filter(|(name, ..)| !["server", "cli"].contains(name));
    for (name, uses, _) in rows {
        for used in *uses {
            assert!(
                named_by(&|source| source.module() == Some(name), used),
                "`{name}` does not use `{used}`: remove it from its row"
            );
        }
    }
}
