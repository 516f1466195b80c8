//! What goes wrong, what is said about it, and what to do next: situation -> exit code and stderr, word for word.

use std::net::{TcpListener, TcpStream};
use std::thread;

use super::world::{Account, Ended, admin, authz, server};

const HINT_KEY: &str = "hint: check the key of the context, KEYSTILE_API_KEY or --api-key-file; `keystile login` takes another";

/// `{}` stands for the address in question.
#[track_caller]
fn check(ended: &Ended, address: &str, code: i32, expected: &str) {
    let expected = expected.replace("{}", address);
    assert_eq!(
        (ended.code, ended.err.trim_end()),
        (Some(code), expected.as_str()),
        "{ended:?}"
    );
}

#[test]
fn a_server_that_cannot_be_talked_to_is_named_with_the_way_out() {
    let account = Account::new().with("KEYSTILE_API_KEY", &server().admin_token);
    // Bound and dropped: nobody listens there now.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ops = format!("127.0.0.1:{}", server().ops_port);
    let socket = format!("unix:{}/none.sock", account.dir().display());
    for (address, expected) in [
        (
            nobody.to_string(),
            "error: cannot reach {}: connection refused; is `keystile serve` running?",
        ),
        (
            socket,
            "error: cannot reach {}: no such socket; is `keystile serve` running?",
        ),
        (
            authz(),
            "error: {} does not serve this part of the admin API\nhint: is it the `admin` listener, and as new as this program?",
        ),
        (
            ops,
            "error: {} does not serve this part of the admin API\nhint: is it the `admin` listener, and as new as this program?",
        ),
    ] {
        let ended = account.run(&format!("tenant list --addr {address}"));
        check(&ended, &address, 1, expected);
    }
}

#[test]
fn a_sidecar_that_cannot_be_talked_to_is_named_too() {
    let account = Account::new();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = account.run(&format!("check --addr {nobody}"));
    check(
        &ended,
        &nobody.to_string(),
        1,
        "error: cannot reach {}: connection refused; is `keystile serve` running?",
    );
    let ended = account.run(&format!("check --addr {}", admin()));
    check(
        &ended,
        &admin(),
        1,
        "error: {} does not answer Checks\nhint: is it the `authz` listener? The `admin` one is another",
    );
}

/// Takes connections and answers each with these bytes, for as long as the test binary runs.
fn answers_with(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::io::Write::write_all(&mut stream, bytes).ok();
            // Without an answer the connection stays open, as that of a server that hangs.
            if bytes.is_empty() {
                open.push(stream);
            }
        }
    });
    address.to_string()
}

#[test]
fn something_else_on_that_port_is_told_from_a_server_that_hangs() {
    let account = Account::new().with("KEYSTILE_API_KEY", &server().admin_token);
    let tls_alert = answers_with(&[0x15, 3, 1, 0, 2, 2, 0x46]);
    let ended = account.run(&format!("tenant list --timeout 60s --addr {tls_alert}"));
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("does it want TLS?"), "{ended:?}");
    let silent = answers_with(b"");
    let ended = account.run(&format!("tenant list --timeout 500ms --addr {silent}"));
    check(
        &ended,
        &silent,
        1,
        "error: {} did not answer within 500ms\nhint: look at its log, or give it longer with --timeout",
    );
}

#[test]
fn a_key_that_does_not_do_is_explained() {
    let admin = Account::admin();
    admin.done("tenant create errors");
    let user = admin
        .run("key create errors --name u --owner alice -o json")
        .json();
    let user = user["plaintext"].as_str().unwrap();
    let fading = admin
        .run("key create errors --name e --expires-in 3s -o json")
        .json();
    let fading = fading["plaintext"].as_str().unwrap();
    let account = |key: &str| {
        Account::new()
            .with("KEYSTILE_ADDR", &super::world::admin())
            .with("KEYSTILE_API_KEY", key)
    };
    let unknown = account("ks_live_hunter2hunter2hunter2").run("tenant list");
    let expected = format!("error: the API key is not valid\n{HINT_KEY}");
    check(&unknown, "", 1, &expected);
    check(
        &account(user).run("tenant list"),
        "",
        1,
        "error: the role `global_admin` is needed, this key has `user`\nhint: use the key of somebody whose role allows it",
    );
    let expired = crate::harness::wait_for("the key to expire", || {
        let ended = account(fading).run("key list errors");
        ended.err.contains("expired").then_some(ended)
    });
    assert!(
        expired
            .err
            .ends_with("hint: ask an administrator for another key, then `keystile login`\n"),
        "{expired:?}"
    );
    let none = Account::new().run("tenant list");
    check(
        &none,
        "127.0.0.1:9002",
        1,
        "error: no API key for {}\nhint: `keystile login`, or set KEYSTILE_API_KEY or --api-key-file (`keystile bootstrap` makes the first key)",
    );
}

#[test]
fn what_the_server_refuses_comes_with_what_to_do() {
    let account = Account::admin();
    let made = account.run("tenant create refused -o json").json();
    account.done("tenant update refused --plan pro");
    let old = made["etag"].as_str().unwrap();
    for (line, code, expected) in [
        (
            "tenant get nobody".to_owned(),
            1,
            "error: tenant not found\nhint: `keystile tenant list` shows those that there are",
        ),
        (
            "key get refused aaaabbbb".to_owned(),
            1,
            "error: key not found\nhint: `keystile key list TENANT` shows those that there are",
        ),
        (
            "tenant create refused".to_owned(),
            1,
            "error: tenant exists already\nhint: `keystile tenant update` changes it",
        ),
        (
            format!("tenant update refused --plan free --etag {old}"),
            1,
            "error: the tenant was modified concurrently; re-read it and retry\nhint: look at it again, then repeat the command without --etag or with the new one",
        ),
        (
            "tenant update refused".to_owned(),
            2,
            "error: nothing to change\nhint: name a field, for example --plan pro",
        ),
        (
            "tenant delete refused".to_owned(),
            2,
            "error: this deletes tenant refused and all its keys, and that cannot be undone\nhint: add --yes to do it without being asked",
        ),
        (
            "key revoke-all refused --owner alice".to_owned(),
            2,
            "error: this revokes all keys of alice in tenant refused, and that cannot be undone\nhint: add --yes to do it without being asked",
        ),
        (
            "tenant create RÄT".to_owned(),
            1,
            "error: tenant_id: tenant id must be 1 to 63 characters of a-z, 0-9 and -, starting and ending with a letter or digit",
        ),
    ] {
        check(&account.run(&line), "", code, expected);
    }
    let ambiguous = account.run("tenant list --filter 'x = 1'");
    assert!(
        ambiguous.err.contains("supported: `state`"),
        "{ambiguous:?}"
    );
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let account = Account::admin();
    account.file("empty", "\n");
    account.file("lines", "one\ntwo\n");
    account.file("huge", &"x".repeat(1 << 20));
    // What we call with may be a JWT, which is longer.
    for (line, len_max) in [
        ("tenant list --api-key-file {}", 16_384),
        ("login --api-key-file {}", 16_384),
        ("key import acme --name a --token-file {}", 512),
        ("key verify --token-file {}", 512),
        ("check --token-file {}", 512),
    ] {
        let none = account.run(&line.replace("{}", "none"));
        let missing =
            "error: cannot read the API key from none: No such file or directory (os error 2)";
        check(&none, "", 1, missing);
        for file in ["empty", "lines", "huge"] {
            let ended = account.run(&line.replace("{}", file));
            let unfit = format!(
                "error: {file} does not hold an API key: it must have one line of at most {len_max} characters"
            );
            check(&ended, file, 1, &unfit);
        }
    }
}

#[test]
fn bad_usage_is_exit_code_2() {
    let account = Account::admin();
    for line in [
        "tenant",
        "nonsense",
        "tenant list --addr ftp://x:1",
        "tenant list --limit 0",
        "tenant list --page-size 1001",
        "tenant list -o xml",
        "key create acme",
        "key import acme",
        "key import acme --csv a --name b",
        "key import acme --csv a --owner b",
        "tenant create acme --metadata x",
        "check --as body:x",
        "check --source nowhere",
        "login --context 'a b'",
        "completions powerfish",
        "man --dir a --markdown",
    ] {
        let ended = account.run(line);
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        assert!(
            !ended.err.is_empty() && ended.out.is_empty(),
            "{line}: {ended:?}"
        );
    }
    let bad = Account::new()
        .with("KEYSTILE_ADDR", "nowhere")
        .run("tenant list");
    check(
        &bad,
        "",
        2,
        "error: KEYSTILE_ADDR: is not host:port, http(s)://host:port or unix:/path",
    );
}
