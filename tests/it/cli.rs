//! The binary as an operator and as a script use it, against the real admin services.

mod bootstrap;
mod check;
mod contexts;
mod errors;
mod health;
mod import;
mod keys;
mod limits;
mod manual;
mod tables;
mod verdicts;
mod watch;
pub(crate) mod world;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::admin::server::AdminServer;
use crate::harness::write_secret;

const KEY: &str = "platform-global_admin";

fn keystile(args: &[&str], dir: &Path, vars: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keystile"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(vars.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it, checks the exit code, gives back stdout and stderr.
#[track_caller]
fn check(args: &str, dir: &Path, vars: &[(&str, &str)], code: i32) -> (String, String) {
    let args: Vec<&str> = args.split(' ').collect();
    let output = keystile(&args, dir, vars);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    assert_eq!(err.is_empty(), code == 0, "{args:?}: {err}");
    (out, err)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_manages_tenants_and_keys() {
    let server = AdminServer::start().await.with_tenant("platform").await;
    let address = format!("http://{}", server.address);
    let done = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        let vars = [
            ("KEYSTILE_ADDR", address.as_str()),
            ("KEYSTILE_API_KEY", KEY),
        ];
        let run = |args: &str| check(args, dir.path(), &vars, 0).0;
        let fail = |args: &str, code| check(args, dir.path(), &vars, code).1;

        let made = json(&run(
            "tenant create acme --display-name Acme --plan pro --feature images --metadata tier=gold -o json",
        ));
        assert_eq!(
            (&made["tenant_id"], &made["plan"]),
            (&"acme".into(), &"pro".into())
        );
        assert_eq!(made["metadata"]["tier"], "gold");
        let updated = json(&run("tenant update acme --feature export -o json"));
        assert_eq!(updated["features"], serde_json::json!(["export", "images"]));
        assert_eq!(
            run("tenant list -o name"),
            "tenants/acme\ntenants/platform\n"
        );
        assert!(run("tenant get acme").contains("images"));
        assert!(run("tenant suspend acme").contains("suspended"));
        assert_eq!(
            json(&run("tenant get acme -o json"))["state"],
            "TENANT_STATE_SUSPENDED"
        );
        assert!(run("tenant resume acme").contains("active"));

        let created = json(&run(
            "key create acme --name ci --owner alice --role user --expires-in 30d --scope read --allow-cidr 10.0.0.0/8 -o json",
        ));
        let token = created["plaintext"].as_str().unwrap();
        assert!(token.starts_with("ks_live_"));
        assert_eq!(created["key"]["scopes"], serde_json::json!(["read"]));
        assert!(created["key"]["expire_time"].is_string());
        let test = run("key create acme --name try --test --feature images");
        assert!(
            test.contains("\nks_test_") && test.contains("shown this once"),
            "{test}"
        );
        let id = created["key"]["key_id"].as_str().unwrap();
        let list = json(&run("key list acme -o json"));
        assert_eq!(list["keys"].as_array().unwrap().len(), 2);
        assert!(run(&format!("key revoke acme {id} --reason leaked")).contains("revoked"));
        assert_eq!(
            json(&run(&format!("key get acme {id} -o json")))["state"],
            "KEY_STATE_REVOKED"
        );

        let refused = fail("tenant delete acme", 2);
        assert!(refused.contains("--yes"), "{refused}");
        let stale = format!(
            "tenant delete acme --yes --etag {}",
            made["etag"].as_str().unwrap()
        );
        assert!(fail(&stale, 1).contains("modified concurrently"));
        assert!(run("tenant delete acme --yes").contains("deleted"));
        assert_eq!(
            fail("tenant get acme", 1),
            "error: tenant not found\nhint: `keystile tenant list` shows those that there are\n"
        );
        let bad = fail(
            "key create platform --name ci --owner no,comma --scope a,b",
            1,
        );
        assert!(
            bad.contains("key.owner:") && bad.contains("key.scopes[0]:"),
            "{bad}"
        );
    });
    done.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_comes_from_a_file_or_the_environment_and_is_never_printed() {
    let server = AdminServer::start().await.with_tenant("platform").await;
    let address = server.address.to_string();
    let done = tokio::task::spawn_blocking(move || {
        let dir = tempfile::tempdir().unwrap();
        write_secret(&dir.path().join("admin.key"), &format!("{KEY}\n"));
        write_secret(&dir.path().join("empty.key"), "\n");
        write_secret(&dir.path().join("huge.key"), &"x".repeat(1 << 20));
        let with =
            |file: &str| format!("tenant list --addr {address} --api-key-file {file} -o name");
        assert_eq!(
            check(&with("admin.key"), dir.path(), &[], 0).0,
            "tenants/platform\n"
        );
        for (file, message) in [
            ("none.key", "cannot read the API key from none.key"),
            ("empty.key", "does not hold an API key"),
            ("huge.key", "does not hold an API key"),
        ] {
            let (_, err) = check(&with(file), dir.path(), &[], 1);
            assert!(err.contains(message), "{err}");
        }
        let list = format!("tenant list --addr {address}");
        let (_, err) = check(&list, dir.path(), &[], 1);
        assert!(
            err.contains("`keystile login`, or set KEYSTILE_API_KEY or --api-key-file"),
            "{err}"
        );
        let secret = [("KEYSTILE_API_KEY", "ks_live_hunter2hunter2hunter2")];
        let (_, err) = check(&list, dir.path(), &secret, 1);
        assert!(
            err.contains("the API key is not valid") && !err.contains("hunter2"),
            "{err}"
        );
        let (help, _) = check("tenant list --help", dir.path(), &secret, 0);
        assert!(
            help.contains("KEYSTILE_API_KEY") && !help.contains("hunter2"),
            "{help}"
        );
    });
    done.await.unwrap();
}

const CONFIG: &str = "\
admin: {}
store: {kind: embedded, embedded: {path: keystile.redb}}
keyring: {data: {file: keys/data.keyring}, vault: {file: keys/vault.keyring}}
";

#[test]
fn keyrings_and_the_first_key_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &str, code| check(args, dir.path(), &[], code);
    std::fs::write(dir.path().join("keystile.yaml"), CONFIG).unwrap();
    let (_, err) = run("bootstrap -c keystile.yaml", 78);
    assert!(err.contains("keystile keyring init --dir keys"), "{err}");
    run("keyring init --dir keys", 0);
    let (_, err) = run("keyring init --dir keys", 1);
    assert!(err.contains("never overwritten"), "{err}");
    let made = json(&run("bootstrap -c keystile.yaml -o json", 0).0);
    assert_eq!(made["key"]["role"], "ROLE_GLOBAL_ADMIN");
    assert!(made["plaintext"].as_str().unwrap().starts_with("ks_live_"));
    let (_, err) = run("bootstrap -c keystile.yaml", 1);
    assert!(err.contains("already bootstrapped"), "{err}");
    run("keyring rotate --dir keys", 0);
    let shown = json(&run("keyring show --dir keys -o json", 0).0);
    assert_eq!(
        shown["keyrings"][0]["versions"].as_array().unwrap().len(),
        2
    );
    assert_eq!(shown["keyrings"].as_array().unwrap().len(), 2);
}

#[test]
fn bootstrap_names_what_it_cannot_use_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &str, code| check(args, dir.path(), &[], code);
    std::fs::write(dir.path().join("keystile.yaml"), CONFIG).unwrap();
    run("keyring init --dir keys", 0);
    run("bootstrap -c keystile.yaml", 0);
    let store = dir.path().join("keystile.redb");
    {
        let _other = keystile::store::redb::EmbeddedStore::open(&store).unwrap();
        let (_, err) = run("bootstrap -c keystile.yaml", 1);
        assert!(
            err.contains("stop `keystile serve`") && err.contains("in use"),
            "{err}"
        );
    }
    let before = std::fs::read(&store).unwrap();
    std::fs::rename(dir.path().join("keys"), dir.path().join("old")).unwrap();
    run("keyring init --dir keys", 0);
    let (_, err) = run("bootstrap -c keystile.yaml", 78);
    assert!(err.contains("was made with keyring"), "{err}");
    std::fs::write(&store, &before[..before.len() / 2]).unwrap();
    let (_, err) = run("bootstrap -c keystile.yaml", 1);
    assert!(err.contains("damaged"), "{err}");
    assert_eq!(std::fs::read(&store).unwrap(), before[..before.len() / 2]);
    std::fs::write(dir.path().join("keystile.yaml"), "nonsense: 1\n").unwrap();
    let (_, err) = run("bootstrap -c keystile.yaml", 78);
    assert!(err.contains("nonsense"), "{err}");
}
