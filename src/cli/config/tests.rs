use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ConfigArgs,
}

/// Exit code, stdout and stderr of `keystile config ...` in an empty environment.
fn keystile_config(words: &[&str]) -> (u8, String, String) {
    let line = Line::parse_from(std::iter::once(&"config").chain(words));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_with(&line.args, std::iter::empty(), &mut out, &mut err).unwrap();
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

/// Runs `words`, then `-c` and a file with `yaml`.
fn with_file(words: &[&str], yaml: &str) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keystile.yaml");
    std::fs::write(&path, yaml).unwrap();
    let mut words = words.to_vec();
    words.extend(["-c", path.to_str().unwrap()]);
    let (code, out, err) = keystile_config(&words);
    let anywhere = |text: String| text.replace(path.to_str().unwrap(), "FILE");
    (code, anywhere(out), anywhere(err))
}

const GOOD: &str = "{authz: {}, ops: {}, keyring: {data: {file: k}}}";

#[test]
fn a_good_file_is_ok_with_a_summary() {
    let expected = "FILE: ok\nauthz on 127.0.0.1:9001, ops on 127.0.0.1:9003; embedded store keystile.redb; profile default\n";
    assert_eq!(
        with_file(&["check", "--no-files"], GOOD),
        (0, expected.to_owned(), String::new())
    );
}

#[test]
fn a_bad_file_exits_with_78_and_every_mistake_on_stderr() {
    for command in ["check", "show"] {
        let (code, out, err) = with_file(&[command], "{authz: {listn: []}, cache: {ttl: 5}}");
        assert_eq!((code, out.as_str()), (78, ""));
        let starts: Vec<&str> = err
            .lines()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(starts, ["authz.listn:", "cache.ttl:", "keyring.data:", "3"]);
    }
}

#[test]
fn every_file_that_cannot_be_used_is_named_at_once() {
    let tls =
        "{cert_file: /nonexistent/crt, key_file: /nonexistent/key, client_ca_file: /dev/null}";
    let yaml = format!(
        "{{authz: {{tls: {tls}}}, ops: {{}}, store: {{kind: redis, redis: {{url: \"rediss://a\", password_file: /dev/null, ca_file: /nonexistent/ca}}}}, keyring: {{data: {{file: /nonexistent/data}}, signing: {{env: KEYSTILE_NO_SUCH}}}}}}"
    );
    let (code, out, err) = with_file(&["check"], &yaml);
    assert_eq!((code, out.as_str()), (78, ""));
    let expected = "\
keyring.data: there is no keyring at /nonexistent/data: make one with `keystile keyring init --dir /nonexistent`
keyring.signing: the environment variable KEYSTILE_NO_SUCH is not set, but `keyring` in the config names it
authz.tls: there is no file /nonexistent/crt: put the certificate there, or correct the path
authz.tls: there is no file /nonexistent/key: put the private key there, or correct the path
authz.tls: /dev/null is a device or a pipe, but a PEM file with the certificates of the clients' CA is needed
store.redis.password_file: cannot read /dev/null: it is a device or a pipe
store.redis.ca_file: cannot read /nonexistent/ca: No such file or directory (os error 2)
7 mistakes in files that FILE names: correct the above and try again, or leave them out with --no-files
";
    assert_eq!(err, expected);
}

#[test]
fn a_missing_file_exits_with_78_and_says_so() {
    let (code, out, err) = keystile_config(&["check", "-c", "/nonexistent/keystile.yaml"]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert_eq!(
        err,
        "there is no config file /nonexistent/keystile.yaml; name it with `-c FILE`\n"
    );
}

#[test]
fn show_prints_what_works_in_either_form() {
    let (code, out, _) = with_file(&["show"], GOOD);
    assert_eq!(code, 0);
    assert!(out.contains("\n  store_timeout: 40ms\n"), "{out}");
    let (_, out, _) = with_file(&["show", "-o", "json"], GOOD);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["authz"]["store_timeout"], "40ms");
    let (_, out, _) = with_file(&["show", "-o", "json", "--sources"], GOOD);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["sources"]["keyring.data.file"], "file");
    assert_eq!(value["config"]["keyring"]["data"]["file"], "k");
}

#[test]
fn schema_prints_json_or_the_documentation() {
    let (code, out, _) = keystile_config(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &schema["type"]), (0, &"object".into()));
    let (_, out, _) = keystile_config(&["schema", "--markdown"]);
    assert!(out.starts_with("# Configuration\n"));
}
