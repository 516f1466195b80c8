//! Files that others than the operator can read or write, as the program finds them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, geteuid};

use crate::harness::ca::Ca;
use crate::harness::keystile::binary;
use crate::support::program::Place;

const CONFIG: &str = "keystile.yaml";
/// As whom pods run, and the group that `fsGroup` gives them.
const POD: u32 = 10_001;
const FS_GROUP: u32 = 20_002;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_configuration_that_everybody_may_write_is_refused_and_one_of_a_group_is_warned_of() {
    let place = Place::bootstrapped();
    let path = place.path(CONFIG);
    for mode in [0o666, 0o646, 0o602, 0o777] {
        chmod(&path, mode);
        for line in [
            "serve -c keystile.yaml",
            "config check -c keystile.yaml",
            "bootstrap -c keystile.yaml",
        ] {
            let ended = place.run(&line.split(' ').collect::<Vec<_>>());
            assert_eq!(ended.code, 78, "{mode:o} {line}: {}", ended.stderr);
            assert!(
                ended.stderr.contains("everybody can write it")
                    && ended.stderr.contains("chmod o-w"),
                "{}",
                ended.stderr
            );
        }
    }
    for (mode, warned) in [
        (0o664, true),
        (0o660, true),
        (0o644, false),
        (0o600, false),
        (0o444, false),
    ] {
        chmod(&path, mode);
        let ended = place.run(&["config", "check", "-c", CONFIG]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(
            ended.stderr.contains("its group can write it"),
            warned,
            "{mode:o}: {}",
            ended.stderr
        );
    }
    chmod(&path, 0o664);
    let running = place.serve();
    let log = running.log();
    assert!(log.contains("the configuration file is not safe"), "{log}");
}

#[test]
fn keys_are_not_made_in_a_folder_that_others_may_write() {
    let place = Place::empty();
    let dir = place.path("keys");
    fs::create_dir(&dir).unwrap();
    for mode in [0o777, 0o1777, 0o770, 0o2775, 0o702] {
        chmod(&dir, mode);
        for ring in ["data", "signing"] {
            let ended = place.run(&["keyring", "init", "--dir", "keys", "--ring", ring]);
            assert_eq!(ended.code, 1, "{mode:o}: {}", ended.stderr);
            assert!(
                ended.stderr.contains("a folder that others can write"),
                "{}",
                ended.stderr
            );
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
    chmod(&dir, 0o755);
    place.do_it(&["keyring", "init", "--dir", "keys"]);
    chmod(&dir, 0o775);
    let ended = place.run(&["keyring", "rotate", "--dir", "keys", "--ring", "data"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
}

/// Whether this test can be other users. As root alone; the rule itself is held by `file_access`' own tests.
fn can_be_others() -> bool {
    geteuid() == Uid::from_raw(0)
}

#[test]
fn a_keyring_of_another_user_is_refused() {
    let place = Place::bootstrapped();
    if !can_be_others() {
        return;
    }
    for name in ["keys/data.keyring", "keys/vault.keyring"] {
        chown(place.path(name), Some(POD), None).unwrap();
        let ended = place.run(&["serve", "-c", CONFIG]);
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        let told = format!("{name} belongs to user {POD}, who can change it");
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
        chown(place.path(name), Some(0), None).unwrap();
    }
    chown(place.path(CONFIG), Some(POD), None).unwrap();
    let ended = place.run(&["config", "check", "-c", CONFIG]);
    assert!(
        ended.stderr.contains(&format!("belongs to user {POD}")),
        "{}",
        ended.stderr
    );
}

/// As the kubelet mounts a volume: `..data` is a link to a folder, and each file a link through it.
fn mount(place: &Place, name: &str, files: &[(&str, Vec<u8>)], mode: u32) {
    let volume = place.path(name);
    let real = volume.join("..2026_11_29");
    fs::create_dir_all(&real).unwrap();
    for (name, content) in files {
        let path = real.join(name);
        fs::write(&path, content).unwrap();
        chown(&path, Some(0), Some(FS_GROUP)).unwrap();
        chmod(&path, mode);
        symlink(Path::new("..data").join(name), volume.join(name)).unwrap();
    }
    symlink("..2026_11_29", volume.join("..data")).unwrap();
    chmod(&volume, 0o3777);
}

/// The exit code and the words of a command of the pod's user.
fn as_pod(place: &Place, line: &str) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .args(line.split(' '))
        .current_dir(place.dir())
        .env_clear()
        .uid(POD)
        .gid(FS_GROUP)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn secret_volumes_of_a_pod_that_is_not_root_are_read() {
    if !can_be_others() {
        return;
    }
    let place = Place::with_keyrings();
    place.do_it(&["keyring", "init", "--dir", "keys", "--ring", "signing"]);
    let pair = Ca::new("CA").server();
    let content = |name: &str| fs::read(place.path(&format!("keys/{name}.keyring"))).unwrap();
    let secrets = [
        ("data.keyring", content("data")),
        ("vault.keyring", content("vault")),
        ("signing.keyring", content("signing")),
        ("tls.key", pair.key.clone().into_bytes()),
        ("password", b"secret\n".to_vec()),
        ("token", b"not-a-key-of-anybody-00\n".to_vec()),
    ];
    chmod(place.dir(), 0o755);
    let config = "admin: {listen: [\"127.0.0.1:0\"], tls: {cert_file: tls.crt, key_file: SECRETS/tls.key}}\n\
        keyring: {data: {file: SECRETS/data.keyring}, vault: {file: SECRETS/vault.keyring}, signing: {file: SECRETS/signing.keyring}}\n\
        store: {kind: redis, redis: {url: \"redis://127.0.0.1:1\", password_file: SECRETS/password}}\n";
    fs::write(place.path("tls.crt"), &pair.cert).unwrap();
    for (at, (mode, refused)) in [
        (0o440, None),
        (0o640, None),
        (
            0o444,
            Some("in a Kubernetes Secret volume: `defaultMode: 0440`, and `fsGroup`"),
        ),
        (0o460, Some("has mode 0460")),
    ]
    .into_iter()
    .enumerate()
    {
        let volume = format!("secrets-{at}");
        mount(&place, &volume, &secrets, mode);
        let config = config.replace("SECRETS", &volume);
        mount(
            &place,
            &format!("config-{at}"),
            &[(CONFIG, config.into_bytes())],
            0o644,
        );
        let (code, err) = as_pod(&place, &format!("config check -c config-{at}/{CONFIG}"));
        let (_, called) = as_pod(
            &place,
            &format!("tenant list --addr 127.0.0.1:1 --api-key-file {volume}/token"),
        );
        match refused {
            None => {
                assert_eq!((code, err.as_str()), (Some(0), ""), "{mode:o}");
                assert!(!called.contains("has mode"), "{called}");
            }
            Some(said) => {
                assert_eq!(code, Some(78), "{err}");
                for name in [
                    "data.keyring",
                    "vault.keyring",
                    "signing.keyring",
                    "tls.key",
                    "password",
                ] {
                    let line = err.lines().find(|line| line.contains(name));
                    assert!(
                        line.is_some_and(|line| line.contains(said)),
                        "{name}: {err}"
                    );
                }
                assert!(
                    called.contains("warning") && called.contains("token has mode"),
                    "{called}"
                );
            }
        }
    }
}
