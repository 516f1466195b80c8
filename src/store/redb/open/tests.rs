use std::os::unix::fs::PermissionsExt;

use redb::ReadableTable;
use tempfile::TempDir;

use super::*;
use crate::store::redb::EmbeddedStore;
use crate::store::redb::tables::{META, META_FORMAT};

/// A folder with a store that has been closed.
fn folder_with_store() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keystile.redb");
    drop(EmbeddedStore::open(&path).unwrap());
    (folder, path)
}

fn refusal(path: &Path) -> OpenError {
    EmbeddedStore::open(path).expect_err("the store must be refused")
}

/// The file is refused with this message, and is afterwards what it was before.
#[track_caller]
fn check_refused_untouched(path: &Path, message: &str) {
    let before = fs::read(path).unwrap();
    let refused = refusal(path).to_string();
    assert!(refused.contains(message), "{refused}");
    assert!(refused.contains(&path.display().to_string()), "{refused}");
    assert!(
        fs::read(path).unwrap() == before,
        "{message}: the file was changed"
    );
}

fn write_meta(path: &Path, change: impl FnOnce(&mut redb::Table<'_, &'static str, &'static str>)) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    change(&mut txn.open_table(META).unwrap());
    txn.commit().unwrap();
}

#[test]
fn a_new_store_is_for_its_owner_only_and_alone_in_its_folder() {
    let (folder, path) = folder_with_store();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_folder_is_named_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/keystile.redb");
    let refused = refusal(&path);
    assert!(
        matches!(refused, OpenError::ParentMissing { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("folder does not exist"));
    assert!(!folder.path().join("no").exists());
}

#[test]
fn a_folder_that_may_not_be_written_is_no_permission() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // Nothing holds root back but the kernel's own file systems.
    let closed = if nix::unistd::geteuid().is_root() {
        Path::new("/sys")
    } else {
        folder.path()
    };
    let refused = refusal(&closed.join("keystile.redb"));
    assert!(
        matches!(refused, OpenError::NoPermission { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("no permission"));
}

#[test]
fn a_store_that_is_open_elsewhere_is_in_use_and_free_again_once_dropped() {
    let (_folder, path) = folder_with_store();
    let first = EmbeddedStore::open(&path).unwrap();
    let refused = refusal(&path);
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused:?}");
    assert!(refused.to_string().contains("in use by another keystile"));
    drop(first);
    EmbeddedStore::open(&path).unwrap();
}

#[test]
fn a_store_of_another_version_names_both_versions_and_stays_as_it_is() {
    let (_folder, path) = folder_with_store();
    write_meta(&path, |meta| drop(meta.insert(META_FORMAT, "2").unwrap()));
    assert!(matches!(
        refusal(&path),
        OpenError::OtherVersion { supported: 1, .. }
    ));
    check_refused_untouched(&path, "has format 2, and this keystile reads format 1");
}

#[test]
fn what_is_not_a_whole_store_is_damaged_and_stays_as_it_is() {
    type Harm = fn(&Path);
    let table: &[(Harm, &str)] = &[
        (|path| fs::write(path, "").unwrap(), "the file is empty"),
        (
            |path| fs::write(path, "hello").unwrap(),
            "Not a redb database",
        ),
        (
            |path| {
                let whole = fs::read(path).unwrap();
                fs::write(path, &whole[..whole.len() / 2]).unwrap();
            },
            "is damaged",
        ),
        (
            |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[64..320].fill(0xFF);
                fs::write(path, bytes).unwrap();
            },
            "is damaged",
        ),
        (
            |path| write_meta(path, |meta| drop(meta.remove(META_FORMAT).unwrap())),
            "it has no format version",
        ),
        (
            |path| {
                fs::remove_file(path).unwrap();
                drop(Database::create(path).unwrap());
            },
            "Table 'meta' does not exist",
        ),
    ];
    for (harm, message) in table {
        let (_folder, path) = folder_with_store();
        harm(&path);
        assert!(
            matches!(refusal(&path), OpenError::Damaged { .. }),
            "{message}"
        );
        check_refused_untouched(&path, message);
    }
}

#[test]
fn a_changed_byte_in_any_page_in_use_is_found_before_the_store_is_used() {
    let (_folder, path) = folder_with_store();
    write_meta(&path, |meta| {
        drop(meta.insert("padding", "x".repeat(40_000).as_str()).unwrap());
    });
    let whole = fs::read(&path).unwrap();
    let text = whole
        .windows(64)
        .position(|bytes| bytes == [b'x'; 64])
        .unwrap();
    let mut bytes = whole.clone();
    bytes[text + 20_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    check_refused_untouched(&path, "is damaged");

    fs::write(&path, whole).unwrap();
    EmbeddedStore::open(&path).unwrap();
}

#[test]
fn a_path_that_is_a_folder_gives_the_reason_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let refused = refusal(folder.path());
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
}

#[test]
fn processes_that_start_together_share_the_store_of_whoever_was_first() {
    let (folder, path) = folder_with_store();
    write_meta(&path, |meta| drop(meta.insert("mark", "first").unwrap()));
    create(&path).unwrap();
    let database = Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let meta = txn.open_table(META).unwrap();
    assert_eq!(meta.get("mark").unwrap().unwrap().value(), "first");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
