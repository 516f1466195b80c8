//! Everything that can be wrong at the start: its own words, its exit code, and every file left as it was.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use redb::{Database, TableDefinition};

use crate::support::program::{Ended, Place};

const CONFIG: i32 = 78;
const FAILED: i32 = 1;

struct Row {
    what: &'static str,
    harm: fn(&Place),
    code: i32,
    /// All of them are on stderr.
    words: &'static [&'static str],
}

const fn row(
    what: &'static str,
    harm: fn(&Place),
    code: i32,
    words: &'static [&'static str],
) -> Row {
    Row {
        what,
        harm,
        code,
        words,
    }
}

fn write(place: &Place, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(place.path(name), bytes).unwrap();
}

fn cut(place: &Place, name: &str) {
    let whole = fs::read(place.path(name)).unwrap();
    write(place, name, &whole[..whole.len() / 2]);
}

fn remove(place: &Place, name: &str) {
    fs::remove_file(place.path(name)).unwrap();
}

fn folder_instead(place: &Place, name: &str) {
    remove(place, name);
    fs::create_dir(place.path(name)).unwrap();
}

fn chmod(place: &Place, name: &str, mode: u32) {
    fs::set_permissions(place.path(name), Permissions::from_mode(mode)).unwrap();
}

/// Brings a keyring of another installation.
fn foreign(place: &Place, name: &str) {
    let other = Place::with_keyrings();
    fs::copy(other.path(name), place.path(name)).unwrap();
}

const DATA: &str = "keys/data.keyring";
const VAULT: &str = "keys/vault.keyring";
const STORE: &str = "keystile.redb";
const FILE: &str = "keystile.yaml";

/// `config check`, `serve` and `bootstrap` all refuse these.
const BAD_CONFIGS: &[Row] = &[
    row(
        "unknown section",
        |p| p.add_config("authzz: {}"),
        CONFIG,
        &["authzz", "authz", FILE],
    ),
    row(
        "unknown field",
        |p| p.edit_config("workers", "wrokers"),
        CONFIG,
        &["authz.wrokers", "workers"],
    ),
    row(
        "two mistakes",
        |p| {
            p.edit_config("10s", "5 parsecs");
            p.edit_config("min_expiry_days: 0", "min_expiry_days: -1");
        },
        CONFIG,
        &[
            "authz.store_timeout",
            "5 parsecs",
            "api_keys.min_expiry_days",
        ],
    ),
    row(
        "a field twice",
        |p| p.add_config("api_keys: {}"),
        CONFIG,
        &[FILE, "api_keys", "duplicate"],
    ),
    row("no YAML", |p| write(p, FILE, "authz: [\n"), CONFIG, &[FILE]),
    row(
        "a list instead of sections",
        |p| write(p, FILE, "- 1\n"),
        CONFIG,
        &[FILE],
    ),
    row(
        "no text",
        |p| write(p, FILE, [0xff, 0xfe, 0]),
        CONFIG,
        &[FILE, "UTF-8"],
    ),
    row(
        "no keyring named",
        |p| p.edit_config("keyring:", "plans: {} #"),
        CONFIG,
        &["keyring.data"],
    ),
    row(
        "a bad address",
        |p| p.edit_config("127.0.0.1:", "localhost_"),
        CONFIG,
        &["authz.listen", "localhost_"],
    ),
    row(
        "too large",
        |p| p.add_config(&"#".repeat(8 << 20)),
        CONFIG,
        &[FILE, "larger than"],
    ),
    row("no file", |p| remove(p, FILE), CONFIG, &[FILE]),
    row(
        "a folder",
        |p| folder_instead(p, FILE),
        CONFIG,
        &[FILE, "directory"],
    ),
];

/// `serve` and `bootstrap` refuse these.
const BAD_KEYRINGS: &[Row] = &[
    row(
        "missing",
        |p| remove(p, DATA),
        CONFIG,
        &["there is no keyring", DATA, "keyring init"],
    ),
    row(
        "vault missing",
        |p| remove(p, VAULT),
        CONFIG,
        &["there is no keyring", VAULT],
    ),
    row(
        "folder missing",
        |p| fs::remove_dir_all(p.path("keys")).unwrap(),
        CONFIG,
        &["there is no keyring"],
    ),
    row(
        "a link to nothing",
        |p| {
            remove(p, DATA);
            symlink("/nowhere/at/all", p.path(DATA)).unwrap();
        },
        CONFIG,
        &["there is no keyring", DATA],
    ),
    row(
        "cut short",
        |p| cut(p, DATA),
        CONFIG,
        &[DATA, "cut short", "backup"],
    ),
    row(
        "vault cut short",
        |p| cut(p, VAULT),
        CONFIG,
        &[VAULT, "cut short", "backup"],
    ),
    row(
        "empty",
        |p| write(p, DATA, ""),
        CONFIG,
        &[DATA, "not a keyring"],
    ),
    row(
        "changed",
        |p| {
            let text = fs::read_to_string(p.path(DATA)).unwrap();
            let at = text.len() / 2;
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            write(
                p,
                DATA,
                format!("{}{other}{}", &text[..at], &text[at + 1..]),
            );
        },
        CONFIG,
        &[DATA, "damaged", "checksum", "backup"],
    ),
    row(
        "something else",
        |p| write(p, DATA, "hello\n"),
        CONFIG,
        &[DATA, "not a keyring file"],
    ),
    row(
        "no text",
        |p| write(p, DATA, [0xff; 64]),
        CONFIG,
        &[DATA, "not text"],
    ),
    row(
        "too large",
        |p| write(p, DATA, vec![b'a'; 4 << 20]),
        CONFIG,
        &[DATA, "larger than"],
    ),
    row(
        "the other ring",
        |p| {
            fs::copy(p.path(VAULT), p.path(DATA)).unwrap();
        },
        CONFIG,
        &[DATA, "`vault` keyring", "`data` keyring", "swapped"],
    ),
    row(
        "readable by all",
        |p| chmod(p, DATA, 0o644),
        CONFIG,
        &[DATA, "0644", "chmod 600"],
    ),
    row(
        "readable by the group",
        |p| chmod(p, VAULT, 0o640),
        CONFIG,
        &[VAULT, "0640", "chmod 600"],
    ),
    row(
        "a folder",
        |p| folder_instead(p, DATA),
        CONFIG,
        &[DATA, "is a folder"],
    ),
    row(
        "of another installation",
        |p| foreign(p, DATA),
        CONFIG,
        &[STORE, "was made with keyring", "nothing was changed"],
    ),
    row(
        "vault of another installation",
        |p| foreign(p, VAULT),
        CONFIG,
        &[STORE, "vault keyring", "nothing was changed"],
    ),
];

/// `serve` and `bootstrap` refuse these.
const BAD_STORES: &[Row] = &[
    row(
        "empty",
        |p| write(p, STORE, ""),
        FAILED,
        &[STORE, "damaged", "empty", "backup"],
    ),
    row(
        "something else",
        |p| write(p, STORE, "hello"),
        FAILED,
        &[STORE, "damaged or no store"],
    ),
    row(
        "cut short",
        |p| cut(p, STORE),
        FAILED,
        &[STORE, "damaged", "backup"],
    ),
    row(
        "zeroed in the middle",
        |p| {
            let mut bytes = fs::read(p.path(STORE)).unwrap();
            bytes[64..320].fill(0);
            write(p, STORE, bytes);
        },
        FAILED,
        &[STORE, "damaged", "backup"],
    ),
    row(
        "of another version",
        |p| {
            const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
            let database = Database::open(p.path(STORE)).unwrap();
            let txn = database.begin_write().unwrap();
            txn.open_table(META).unwrap().insert("format", "2").unwrap();
            txn.commit().unwrap();
        },
        FAILED,
        &[STORE, "has format 2", "reads format 1"],
    ),
    row(
        "a folder",
        |p| folder_instead(p, STORE),
        FAILED,
        &[STORE, "cannot open the store"],
    ),
    row(
        "in a folder that is not there",
        |p| p.edit_config(STORE, "no/where.redb"),
        FAILED,
        &["no/where.redb", "folder does not exist"],
    ),
];

/// Every file but our own logs: its bytes and mode.
fn files(place: &Place) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![place.dir().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            let ours = path
                .extension()
                .is_some_and(|end| end == "log" || end == "pid");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                found.insert(path, (Vec::new(), 0));
            } else if !ours {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, (bytes, kind.mode()));
            }
        }
    }
    found
}

fn check(rows: &[Row], commands: &[fn(&Place) -> Ended]) {
    for Row {
        what,
        harm,
        code,
        words,
    } in rows
    {
        let place = Place::bootstrapped();
        harm(&place);
        let before = files(&place);
        for command in commands {
            let ended = command(&place);
            let stderr = &ended.stderr;
            assert_eq!(ended.code, *code, "{what}: {stderr}");
            for words in *words {
                assert!(stderr.contains(words), "{what}: no {words:?} in: {stderr}");
            }
            assert!(!stderr.contains("panicked"), "{what}: {stderr}");
            assert!(files(&place) == before, "{what}: a file was changed");
        }
    }
}

fn bootstrap(place: &Place) -> Ended {
    place.run(&["bootstrap", "-c", FILE])
}

fn config_check(place: &Place) -> Ended {
    place.run(&["config", "check", "-c", FILE])
}

#[test]
fn a_bad_config_is_refused_with_78_and_nothing_is_touched() {
    check(
        BAD_CONFIGS,
        &[config_check, bootstrap, Place::serve_refused],
    );
}

#[test]
fn a_bad_keyring_is_refused_and_nothing_is_touched() {
    check(BAD_KEYRINGS, &[bootstrap, Place::serve_refused]);
}

#[test]
fn a_bad_store_is_refused_and_nothing_is_touched() {
    check(BAD_STORES, &[bootstrap, Place::serve_refused]);
}

#[test]
fn a_store_in_use_is_refused_to_a_bootstrap_with_advice() {
    let place = Place::bootstrapped();
    let _running = place.serve();
    let refused = bootstrap(&place);
    assert_eq!(refused.code, FAILED);
    for words in [STORE, "in use by another keystile", "stop `keystile serve`"] {
        assert!(
            refused.stderr.contains(words),
            "{words}: {}",
            refused.stderr
        );
    }
}

#[test]
fn a_second_bootstrap_and_a_second_keyring_are_refused() {
    let place = Place::bootstrapped();
    let before = files(&place).remove(&place.path(DATA)).unwrap();
    let again = bootstrap(&place);
    assert_eq!(again.code, FAILED);
    assert!(
        again.stderr.contains("already bootstrapped"),
        "{}",
        again.stderr
    );
    let rings = place.run(&["keyring", "init", "--dir", "keys"]);
    assert_ne!(rings.code, 0);
    assert!(
        rings.stderr.contains("never overwritten"),
        "{}",
        rings.stderr
    );
    assert!(files(&place).remove(&place.path(DATA)).unwrap() == before);
}

#[test]
fn what_was_refused_works_again_once_it_is_put_right() {
    let place = Place::bootstrapped();
    let keyring = fs::read(place.path(DATA)).unwrap();
    cut(&place, DATA);
    assert_eq!(place.serve_refused().code, CONFIG);
    write(&place, DATA, keyring);
    let running = place.serve();
    assert_eq!(running.stop("TERM").0, Some(0));
}
