//! The section `injector`.

use super::{load, mistakes};

const TLS: &str = "tls: {cert_file: a, key_file: b}";

fn only_mistake(section: &str) -> String {
    let all = mistakes(&format!("injector: {{{section}}}"), &[]);
    let [one] = &all[..] else {
        panic!("not one mistake of {section}: {all:?}");
    };
    one.clone()
}

#[test]
fn it_serves_alone_without_a_store_and_without_a_keyring() {
    let config = load(&format!("injector: {{{TLS}}}"), &[]).config;
    assert!(!config.has_store());
    assert_eq!(
        config.summary(),
        "injector on 0.0.0.0:9443; no store; profile default"
    );
}

#[test]
fn what_cannot_work_is_a_mistake_that_says_what_to_do() {
    for (section, said) in [
        (
            String::new(),
            "injector.tls: is missing: the API server of Kubernetes speaks TLS alone; write `tls: {cert_file: …, key_file: …}`",
        ),
        (
            format!("{TLS}, listen: [\"unix:/run/a.sock\"]"),
            "injector.listen[0]: is a Unix socket, which the API server of Kubernetes cannot reach; write `0.0.0.0:9443`",
        ),
        (
            format!("{TLS}, sidecar: {{authz_port: 9003}}"),
            "injector.sidecar.ops_port: 9003 is injector.sidecar.authz_port too; the two must differ",
        ),
        (
            format!("{TLS}, sidecar: {{secrets: [{{name: keys, entry: vault.keyring}}]}}"),
            "injector.sidecar.secrets[0]: is the vault keyring, which no sidecar may have; name the entry `data.keyring`",
        ),
        (
            format!(
                "{TLS}, sidecar: {{secrets: [{{name: a, entry: x}}, {{name: b, entry: y, file: x}}]}}"
            ),
            "injector.sidecar.secrets[1]: makes the file `x` a second time; choose another `file`",
        ),
    ] {
        assert_eq!(only_mistake(&section), said);
    }
}

#[test]
fn names_and_amounts_of_kubernetes_are_checked() {
    for (field, value) in [
        ("image", "Upper:1"),
        ("config_map", "under_score"),
        ("config_map", "-dash"),
        ("memory_limit", "1 Gi"),
        ("cpu_limit", "1.2345"),
        ("cpu_limit", "1Pi"),
        ("cpu_request", "-1"),
    ] {
        let said = only_mistake(&format!("{TLS}, sidecar: {{{field}: \"{value}\"}}"));
        let path = format!("injector.sidecar.{field}: ");
        assert!(said.starts_with(&path), "{said}");
    }
    for amount in ["1", "0.5", "100m", "1Gi", "2.125G"] {
        load(
            &format!("injector: {{{TLS}, sidecar: {{cpu_limit: \"{amount}\"}}}}"),
            &[],
        );
    }
}
