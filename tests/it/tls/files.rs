//! Files that cannot be served end the start, with 78 and words that help.

use std::fs;

use super::{MUTUAL, Secured};
use crate::support::program::Place;

/// What is done to the files, and what is said then.
type Row = (&'static str, fn(&Secured), &'static str);

const ROWS: &[Row] = &[
    (
        "no certificate file",
        |s| fs::remove_file(s.place.path("tls.crt")).unwrap(),
        "there is no file tls.crt: put the certificate there, or correct the path",
    ),
    (
        "no key file",
        |s| fs::remove_file(s.place.path("tls.key")).unwrap(),
        "there is no file tls.key: put the private key there, or correct the path",
    ),
    (
        "no CA file",
        |s| fs::remove_file(s.place.path("ca.crt")).unwrap(),
        "there is no file ca.crt: put the certificates of the clients' CA there, or correct the path",
    ),
    (
        "a folder",
        |s| {
            fs::remove_file(s.place.path("tls.crt")).unwrap();
            fs::create_dir(s.place.path("tls.crt")).unwrap();
        },
        "tls.crt is a folder, but a PEM file with the certificate is needed",
    ),
    (
        "a key that others can read",
        |s| s.write("tls.key", &s.ca.server().key, 0o640),
        "tls.key has mode 0640: its group or others can reach it; accepted is 0600 or less; run `chmod 600 tls.key`",
    ),
    (
        "another pair's key",
        |s| s.write("tls.key", &s.ca.server().key, 0o600),
        "the private key in tls.key does not belong to the first certificate in tls.crt: put the pair there, the server's own certificate first",
    ),
    (
        "the CA's certificate first",
        |s| {
            s.write(
                "tls.crt",
                &format!("{}{}", s.ca.pem, s.ca.server().cert),
                0o644,
            );
        },
        "the private key in tls.key does not belong to the first certificate in tls.crt",
    ),
    (
        "no PEM in the certificate",
        |s| s.write("tls.crt", "hello", 0o644),
        "tls.crt holds no certificate: it must be PEM text with a `BEGIN CERTIFICATE` line",
    ),
    (
        "a certificate that is cut short",
        |s| s.write("tls.crt", &s.ca.server().cert[..200], 0o644),
        "tls.crt is damaged PEM text: write the whole file again",
    ),
    (
        "PEM of something else",
        |s| {
            s.write(
                "tls.crt",
                "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
                0o644,
            );
        },
        "certificate 1 in tls.crt cannot be read: write the whole file again: it is not an X.509 certificate",
    ),
    (
        "no key in the key file",
        |s| s.write("tls.key", &s.ca.server().cert, 0o600),
        "tls.key holds no private key: it must be PEM text with a `BEGIN PRIVATE KEY` line",
    ),
    (
        "an encrypted key",
        |s| {
            s.write("tls.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n", 0o600);
        },
        "the private key in tls.key is encrypted: store it without a passphrase, in a file that only its owner can read",
    ),
    (
        "a key of no kind",
        |s| {
            s.write(
                "tls.key",
                "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n",
                0o600,
            );
        },
        "the private key in tls.key cannot be used: make an RSA, ECDSA (P-256, P-384) or Ed25519 key",
    ),
    (
        "an expired certificate",
        |s| s.put(&s.ca.server_between((2019, 2020))),
        "certificate 1 in tls.crt expired at 2020-01-01T00:00:00Z: put a new one there",
    ),
    (
        "a certificate of the future",
        |s| s.put(&s.ca.server_between((2119, 2120))),
        "certificate 1 in tls.crt is not valid before 2119-01-01T00:00:00Z: correct this machine's clock",
    ),
];

#[test]
fn each_mistake_in_a_file_ends_the_start_and_says_what_to_do() {
    let mut secured = Secured::new(Place::with_keyrings(), "authz", MUTUAL);
    for (what, spoil, expected) in ROWS {
        spoil(&secured);
        let refused = secured.place.serve_refused();
        assert_eq!(refused.code, 78, "{what}: {}", refused.stderr);
        let line = format!("authz.tls: {expected}");
        assert!(refused.stderr.contains(&line), "{what}: {}", refused.stderr);
        assert!(
            !refused.stderr.contains("aGVsbG8"),
            "{what}: {}",
            refused.stderr
        );
        // Back to files that can be served.
        fs::remove_dir(secured.place.path("tls.crt")).ok();
        secured.put(&secured.ca.server());
        secured.write("ca.crt", &secured.ca.pem, 0o644);
    }
    let (_running, place) = (secured.place.serve(), &mut secured.place);
    assert!(place.is_ready(), "the good files were the good ones");
}

#[test]
fn the_mistakes_of_all_listeners_are_told_at_once_and_nothing_listens() {
    let secured = Secured::new(Place::with_keyrings(), "admin", MUTUAL);
    let plain = format!("ops: {{listen: [\"127.0.0.1:{}\"]}}", secured.place.ops);
    let nowhere = plain.replace(']', "], tls: {cert_file: a.crt, key_file: a.key}");
    secured.place.edit_config(&plain, &nowhere);
    secured.write("tls.crt", "", 0o644);
    // If anything were bound first, this would be the complaint.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", secured.place.authz)).unwrap();
    let refused = secured.place.serve_refused();
    assert_eq!(refused.code, 78);
    let expected = "cannot serve TLS\n  admin.tls: tls.crt holds no certificate: it must be PEM text with a `BEGIN CERTIFICATE` line\n  ops.tls: there is no file a.crt: put the certificate there, or correct the path\n";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
}

#[test]
fn plain_text_beyond_the_machine_is_said_at_each_start() {
    let place = Place::with_keyrings();
    let from = format!("ops: {{listen: [\"127.0.0.1:{}\"]", place.ops);
    let to = format!("ops: {{listen: [\"0.0.0.0:{}\"]", place.ops);
    place.edit_config(&from, &to);
    let refused = place.serve_refused();
    assert_eq!(refused.code, 78);
    assert!(
        refused.stderr.contains("ops.listen[0]: 0.0.0.0:"),
        "{}",
        refused.stderr
    );
    place.edit_config(&to, &format!("{to}, insecure: true"));
    let running = place.serve();
    let line = super::said(&running, "INSECURE");
    assert!(
        line.contains("\"ops\"") && line.contains("0.0.0.0"),
        "{line}"
    );
}
