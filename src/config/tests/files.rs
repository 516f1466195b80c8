//! Files that cannot be read, or only in two ways.

use super::{ConfigError, SIDECAR, try_load};
use crate::config::Config;
use crate::file_access::NotText;

#[test]
fn text_that_is_not_yaml_is_refused_with_its_place() {
    let bomb: String = (1..12).fold(
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(),
        |text, level| {
            let below = format!("*a{}", level - 1);
            text + &format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", "))
        },
    );
    for (yaml, expected) in [
        ("a: [1", "unclosed bracket '[' at line 1, column 4"),
        (
            "authz: {}\nauthz: {}",
            "duplicate mapping key `authz` is not allowed here at line 2, column 1",
        ),
        (
            "authz: {}\n---\nauthz: {}",
            "only single YAML document expected but multiple found at line 3, column 1",
        ),
        (
            "a: b: c",
            "mapping values are not allowed in this context at line 1, column 5",
        ),
        (
            "authz: !secret {}",
            "unsupported tag `!secret` at line 1, column 16",
        ),
        (&"[".repeat(5000), "recursion limit exceeded"),
        (&bomb, "YAML document too large or too complex"),
    ] {
        match try_load(yaml, &[]) {
            Err(ConfigError::NotYaml { origin, message }) => {
                assert_eq!(origin, "test.yaml");
                assert!(message.contains(expected), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Config::load(Some(&path), std::iter::empty())
    };
    assert!(matches!(
        at("latin1.yaml", b"a: 1\nb: \xff"),
        Err(ConfigError::NotUtf8 {
            problem: NotText::Other { line: 2 },
            ..
        })
    ));
    let large = at("large.yaml", &vec![b'#'; (1 << 20) + 1]);
    assert!(matches!(large, Err(ConfigError::TooLarge { .. })));
    let missing = Config::load(Some(&dir.path().join("none.yaml")), std::iter::empty());
    assert!(matches!(missing, Err(ConfigError::Missing(_))));
    let directory = Config::load(Some(dir.path()), std::iter::empty());
    assert!(matches!(directory, Err(ConfigError::Unreadable { .. })));
    assert!(at("good.yaml", SIDECAR.as_bytes()).is_ok());
}
