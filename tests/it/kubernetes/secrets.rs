//! The Jobs that make, keep and, where it is asked for, remove Secrets; and the certificates.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::matrix::{MATRIX, Rendered, list};
use super::{root, template};

#[track_caller]
fn named<'a>(rendered: &'a Rendered, kind: &str, name: &str) -> &'a Value {
    let found = rendered
        .of_kind(kind)
        .find(|it| it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{}: no {kind} {name}", rendered.name))
}

fn hook(value: &Value) -> (&str, &str) {
    let annotations = &value["metadata"]["annotations"];
    (
        annotations["helm.sh/hook"].as_str().unwrap(),
        annotations["helm.sh/hook-delete-policy"].as_str().unwrap(),
    )
}

fn words(container: &Value) -> Vec<&str> {
    list(&container["command"])
        .chain(list(&container["args"]))
        .filter_map(Value::as_str)
        .collect()
}

#[test]
fn the_first_key_is_made_after_its_place_is_sure_and_only_then_stored() {
    let rendered = MATRIX.named("values-ha+bootstrap");
    let job = named(rendered, "Job", "keystile-bootstrap");
    assert_eq!(
        hook(job),
        ("post-install", "before-hook-creation,hook-succeeded")
    );
    let pod = &job["spec"]["template"]["spec"];
    // A container that failed to store the key is started again beside it; a new pod would have lost it.
    assert_eq!(pod["restartPolicy"], "OnFailure");
    let first: Vec<&Value> = list(&pod["initContainers"]).collect();
    let asked = words(first[0]);
    assert!(asked.contains(&"--dry-run=server"), "{asked:?}");
    assert!(asked.starts_with(&[
        "kubectl",
        "create",
        "secret",
        "generic",
        "keystile-bootstrap"
    ]));
    let made = words(first[1]);
    assert_eq!(made[0], "bootstrap");
    assert!(
        made.ends_with(&["--token-file", "/bootstrap/api-key"]),
        "{made:?}"
    );
    let stored = words(&pod["containers"][0]);
    assert!(
        stored.contains(&"--from-file=/bootstrap/api-key"),
        "{stored:?}"
    );
    assert!(!stored.contains(&"--dry-run=server"));
    let volume = list(&pod["volumes"]).find(|volume| volume["name"] == "bootstrap");
    assert_eq!(volume.unwrap()["emptyDir"]["medium"], "Memory");
    // It has what the control plane has of Redis and the keyrings.
    let control = rendered.deployment("control-plane").unwrap();
    let control = &control["spec"]["template"]["spec"];
    for mount in list(&control["containers"][0]["volumeMounts"]) {
        let there = list(&first[1]["volumeMounts"]).any(|it| it == mount);
        assert!(there, "{mount}");
    }
    let role = named(rendered, "Role", "keystile-bootstrap");
    assert_eq!(
        role["rules"],
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}])
    );
    for kind in ["Role", "RoleBinding", "ServiceAccount"] {
        let (_, removed) = hook(named(rendered, kind, "keystile-bootstrap"));
        assert_eq!(removed, "before-hook-creation,hook-succeeded,hook-failed");
    }
}

#[test]
fn nothing_is_made_twice_and_nothing_removed_unless_it_is_asked_for() {
    for rendered in &MATRIX.all {
        let deletes = rendered
            .of_kind("Role")
            .any(|role| role["rules"].to_string().contains("delete"));
        let asked = rendered.name.ends_with("+remove-secrets");
        assert_eq!(deletes, asked, "{}", rendered.name);
        // The webhook's certificate alone is made by the chart, which finds the one that is there at an upgrade.
        let mut secrets = rendered.of_kind("Secret");
        let other = secrets.find(|secret| secret["metadata"]["name"] != "keystile-injector-tls");
        assert!(other.is_none(), "{}: {other:?}", rendered.name);
        assert_eq!(
            rendered.of_kind("ClusterRole").count(),
            0,
            "{}",
            rendered.name
        );
    }
    let upgrade = template(
        "values-ha.yaml",
        &[
            "--is-upgrade",
            "--no-hooks",
            "--set",
            "bootstrap.generate=true",
        ],
    );
    assert!(!upgrade.unwrap().contains("kind: Job"));
}

#[test]
fn whoever_asks_has_the_secrets_of_the_release_removed_and_no_other() {
    let rendered = MATRIX.named("values-ha+remove-secrets");
    let job = named(rendered, "Job", "keystile-removal");
    assert_eq!(hook(job).0, "post-delete");
    let all = [
        "keystile-bootstrap",
        "keystile-data-keyring",
        "keystile-vault-keyring",
    ];
    let asked = words(&job["spec"]["template"]["spec"]["containers"][0]);
    assert!(asked.ends_with(&all), "{asked:?}");
    let role = named(rendered, "Role", "keystile-removal");
    assert_eq!(
        role["rules"],
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": all, "verbs": ["delete"]}])
    );
    let own = template(
        "values-ha.yaml",
        &[
            "--set",
            "removeSecretsOnUninstall=true,keyring.existingDataSecret=d,keyring.existingVaultSecret=v",
        ],
    );
    let own = own.unwrap();
    assert!(
        own.contains(r#"resourceNames: ["keystile-bootstrap"]"#),
        "{own}"
    );
}

#[test]
fn certificates_are_for_the_names_that_are_asked_and_in_the_secrets_that_are_mounted() {
    let rendered = MATRIX.named("values-ha+cert-manager");
    let checker = named(rendered, "Certificate", "keystile-checker");
    let admin = named(rendered, "Certificate", "keystile-admin");
    for (certificate, component) in [(checker, "checker"), (admin, "control-plane")] {
        let secret = &certificate["spec"]["secretName"];
        let pod = &rendered.deployment(component).unwrap()["spec"]["template"]["spec"];
        let mounted = list(&pod["volumes"]).any(|volume| &volume["secret"]["secretName"] == secret);
        assert!(mounted, "{component}: {secret}");
        let services: Vec<&str> = rendered
            .of_kind("Service")
            .filter_map(|service| service["metadata"]["name"].as_str())
            .collect();
        for name in list(&certificate["spec"]["dnsNames"]) {
            let host = name.as_str().unwrap().split('.').next().unwrap();
            assert!(services.contains(&host), "{component}: {name}");
        }
    }
    let text = std::fs::read_to_string(root().join("docs/KUBERNETES.md")).unwrap();
    for certificate in [checker, admin] {
        let name = certificate["spec"]["dnsNames"][0].as_str().unwrap();
        assert!(text.contains(name), "{name} is not in docs/KUBERNETES.md");
    }
}

/// The kubectl of `make setup`, with no cluster to talk to.
fn kubectl(args: &[&str]) -> Output {
    let kubectl = root().join(".venv/bin/kubectl");
    assert!(
        kubectl.exists(),
        "no {}: run `make setup`",
        kubectl.display()
    );
    let mut command = Command::new(kubectl);
    command
        .env_clear()
        .args(args)
        .output()
        .expect("run kubectl")
}

/// Every command of a Job that is for kubectl.
fn kubectl_commands() -> BTreeSet<Vec<&'static str>> {
    let pods = MATRIX.all.iter().flat_map(Rendered::pods);
    let containers =
        pods.flat_map(|(_, spec)| list(&spec["initContainers"]).chain(list(&spec["containers"])));
    let all = containers.map(words);
    all.filter(|words| words[0] == "kubectl").collect()
}

#[test]
fn kubectl_knows_every_command_of_a_job() {
    let commands = kubectl_commands();
    assert!(commands.len() >= 5, "{commands:?}");
    for words in commands {
        // Flags are read before help is shown, so that nothing is done and an unknown one is refused.
        let help = kubectl(&[&words[1..], &["--help"]].concat());
        assert!(help.status.success(), "{words:?}: {help:?}");
    }
    let unknown = kubectl(&[
        "create",
        "secret",
        "generic",
        "a",
        "--dryrun=server",
        "--help",
    ]);
    assert!(!unknown.status.success(), "{unknown:?}");
}

#[test]
fn kubectl_makes_the_secrets_with_the_entries_that_are_mounted() {
    let mut made = BTreeSet::new();
    for words in kubectl_commands() {
        let Some(from) = words
            .iter()
            .position(|word| word.starts_with("--from-file="))
        else {
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let name = words[from].rsplit('/').next().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, "of the test").unwrap();
        let from_file = format!("--from-file={}", file.display());
        let mut line = words[1..].to_vec();
        line[from - 1] = &from_file;
        let secret = kubectl(&[&line, ["--dry-run=client", "--output=json"].as_slice()].concat());
        assert!(secret.status.success(), "{words:?}: {secret:?}");
        let secret: Value = serde_json::from_slice(&secret.stdout).unwrap();
        assert_eq!(secret["data"][name], "b2YgdGhlIHRlc3Q=", "{secret}");
        made.insert((
            secret["metadata"]["name"].as_str().unwrap().to_owned(),
            name,
        ));
    }
    for (secret, entry) in [
        ("keystile-bootstrap", "api-key"),
        ("keystile-data-keyring", "data.keyring"),
        ("keystile-vault-keyring", "vault.keyring"),
    ] {
        assert!(made.contains(&(secret.to_owned(), entry)), "{made:?}");
    }
}
