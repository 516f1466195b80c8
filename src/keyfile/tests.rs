use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn chain(error: &KeyfileError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A folder with both keyrings.
fn keys() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &[Ring::Data, Ring::Vault], NOW).unwrap();
    dir
}

#[test]
fn what_is_made_is_private_and_loads() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/keys");
    let made = init(&dir, &[Ring::Data, Ring::Vault], NOW).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    for (path, keyring) in &made {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        let read = load_file(path, keyring.ring()).unwrap();
        assert_eq!(read.id(), keyring.id());
    }
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["data.keyring", "vault.keyring"],
        "nothing else is left behind"
    );
}

#[test]
fn an_existing_keyring_is_never_overwritten() {
    let dir = keys();
    let path = dir.path().join("vault.keyring");
    let before = fs::read(&path).unwrap();
    fs::remove_file(dir.path().join("data.keyring")).unwrap();
    let refused = init(dir.path(), &[Ring::Data, Ring::Vault], NOW).unwrap_err();
    assert!(
        matches!(refused, KeyfileError::Exists { path: ref found } if *found == path),
        "{refused}"
    );
    assert!(
        !dir.path().join("data.keyring").exists(),
        "when one exists, none is made"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    let late = write(&path, "other", Place::MustBeFree).unwrap_err();
    assert!(matches!(late, KeyfileError::Exists { .. }), "{late}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_dangling_link_is_not_followed_when_a_keyring_is_made() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.path().join("data.keyring")).unwrap();
    let refused = init(dir.path(), &[Ring::Data], NOW).unwrap_err();
    assert!(matches!(refused, KeyfileError::Exists { .. }), "{refused}");
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn each_kind_of_bad_file_has_its_own_message_and_stays_as_it_is() {
    let dir = keys();
    let good = fs::read_to_string(dir.path().join("data.keyring")).unwrap();
    let vault = fs::read_to_string(dir.path().join("vault.keyring")).unwrap();
    let flipped = good.replace("kek 1", "kek 2");
    for (name, content, message) in [
        ("empty", &b""[..], "not a keyring file"),
        (
            "foreign",
            b"-----BEGIN PRIVATE KEY-----\n",
            "not a keyring file",
        ),
        ("later", b"keystile-keyring v9\n", "not a keyring file"),
        ("cut", &good.as_bytes()[..good.len() - 20], "cut short"),
        ("damaged", flipped.as_bytes(), "restore it from its backup"),
        (
            "swapped",
            vault.as_bytes(),
            "this is the `vault` keyring, but the `data` keyring is needed",
        ),
        ("binary", b"keystile-keyring v1\n\xff\xfe", "is not text"),
        ("huge", &vec![b'x'; FILE_LEN_MAX + 1], "larger than"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        chmod(&path, 0o600);
        let error = load_file(&path, Ring::Data).unwrap_err();
        let shown = chain(&error);
        assert!(
            shown.contains(message) && shown.contains(name),
            "{name}: {shown}"
        );
        assert_eq!(fs::read(&path).unwrap(), content, "{name}");
    }
}

#[test]
fn a_file_that_others_can_reach_is_refused_with_the_way_out() {
    let dir = keys();
    let path = dir.path().join("data.keyring");
    for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o777] {
        chmod(&path, mode);
        let shown = load_file(&path, Ring::Data).unwrap_err().to_string();
        assert!(
            shown.contains(&format!("mode {mode:04o}")) && shown.contains("chmod 600"),
            "{shown}"
        );
    }
    for mode in [0o600, 0o400] {
        chmod(&path, mode);
        assert!(load_file(&path, Ring::Data).is_ok(), "{mode:o}");
    }
}

#[test]
fn what_is_not_a_file_is_named() {
    let dir = keys();
    let missing = dir.path().join("no.keyring");
    let shown = load_file(&missing, Ring::Data).unwrap_err().to_string();
    assert!(shown.contains("keystile keyring init --dir"), "{shown}");
    let shown = load_file(dir.path(), Ring::Data).unwrap_err().to_string();
    assert!(shown.contains("is a folder"), "{shown}");
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let shown = load_file(&pipe, Ring::Data).unwrap_err().to_string();
    assert!(shown.contains("a device or a pipe"), "{shown}");
    let shown = load_file(&dir.path().join("data.keyring/x"), Ring::Data).unwrap_err();
    assert!(matches!(shown, KeyfileError::Unreadable { .. }), "{shown}");
}

#[test]
fn a_variable_holds_one_key_and_its_content_is_never_shown() {
    let key = |text: &str| Zeroizing::new(text.to_owned());
    let load = |content| from_variable("KEK", content, Ring::Vault);
    let good = key(&data_encoding::BASE64.encode(&[5; 32]));
    assert!(load(Some(&good)).is_ok());
    assert_eq!(
        load(None).unwrap_err().to_string(),
        "the environment variable KEK is not set, but `keyring` in the config names it"
    );
    let error = load(Some(&key("hunter2"))).unwrap_err();
    let shown = format!("{} {error:?}", chain(&error));
    assert!(
        shown.contains("KEK") && shown.contains("32 bytes in base64"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn rotations_at_the_same_time_lose_no_version() {
    let dir = keys();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| rotate(dir.path(), Ring::Data, NOW).unwrap());
        }
    });
    let path = dir.path().join("data.keyring");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let versions = load_file(&path, Ring::Data).unwrap().versions();
    assert_eq!(versions.len(), 9);
    assert!(versions.last().unwrap().active);
}

#[test]
fn rotating_what_is_not_there_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for folder in [dir.path().to_owned(), dir.path().join("none")] {
        let refused = rotate(&folder, Ring::Data, NOW).unwrap_err();
        assert!(matches!(refused, KeyfileError::Missing { .. }), "{refused}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
