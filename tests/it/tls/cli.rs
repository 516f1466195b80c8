//! The client commands over TLS, and what they say when it does not work.

use super::{ENVOY, MUTUAL, Secured};
use crate::harness::ca::Ca;
use crate::support::program::Place;

const ROLE: &str = "client_roles: [{san: \"dns:admin.mesh\", role: global_admin}]";

#[test]
fn the_client_speaks_tls_and_says_what_is_wrong_with_it() {
    let secured = Secured::new(Place::bootstrapped(), "admin", &format!("{MUTUAL}, {ROLE}"));
    let _running = secured.place.serve();
    secured.store("admin", &secured.ca.dns_client("admin.mesh"));
    secured.store("envoy", &secured.ca.client(ENVOY));
    secured.store("evil", &secured.ca.client("spiffe://evil/x"));
    secured.write("other.crt", &Ca::new("another CA").pem, 0o644);
    secured.write("junk.crt", "junk", 0o644);
    let (admin, ops) = (secured.place.admin, secured.place.ops);
    let (tls, plain) = (
        format!("https://127.0.0.1:{admin}"),
        format!("http://127.0.0.1:{admin}"),
    );
    let to_plain = format!("https://127.0.0.1:{ops}");
    let by_name = format!("https://localhost:{admin}");
    let pair = |name: &str| format!("--tls-cert {name}.crt --tls-key {name}.key");
    let with = |name: &str| format!("--tls-ca ca.crt {}", pair(name));
    let trust = "--tls-ca ca.crt".to_owned();
    let unknown =
        "its certificate is not of a CA that is known here; name the CA's file with --tls-ca";
    for (what, addr, flags, code, words) in [
        ("a key, any certificate", &tls, with("envoy"), 0, ""),
        ("a key, a mapped certificate", &tls, with("admin"), 0, ""),
        ("no CA", &tls, pair("admin"), 1, unknown),
        (
            "another CA",
            &tls,
            format!("--tls-ca other.crt {}", pair("admin")),
            1,
            unknown,
        ),
        (
            "junk",
            &tls,
            "--tls-ca junk.crt".to_owned(),
            1,
            "junk.crt holds no certificate",
        ),
        (
            "no file",
            &tls,
            "--tls-ca no.crt".to_owned(),
            1,
            "cannot read no.crt",
        ),
        (
            "no certificate",
            &tls,
            trust.clone(),
            1,
            "it asks for a client certificate; give one with --tls-cert and --tls-key",
        ),
        (
            "not on the list",
            &tls,
            with("evil"),
            1,
            "it refused our client certificate; see the server's log",
        ),
        (
            "another name",
            &by_name,
            with("admin"),
            1,
            "its certificate is for another name",
        ),
        (
            "TLS to plain text",
            &to_plain,
            trust.clone(),
            1,
            "it does not speak TLS; try http:// instead of https://",
        ),
        ("plain text", &plain, trust, 2, "are for https:// addresses"),
        (
            "half a pair",
            &tls,
            "--tls-cert admin.crt".to_owned(),
            2,
            "--tls-cert and --tls-key belong together",
        ),
    ] {
        let mut args = vec!["tenant", "list", "--addr", addr];
        args.extend(flags.split(' '));
        let ended = secured.place.run(&args);
        assert_eq!(ended.code, code, "{what}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{what}: {}", ended.stderr);
    }
}

#[test]
fn a_certificate_is_enough_where_it_has_a_role() {
    let mut place = Place::bootstrapped();
    // No key is in the environment of its commands from here on.
    place.admin_token = String::new();
    let secured = Secured::new(place, "admin", &format!("{MUTUAL}, {ROLE}"));
    let _running = secured.place.serve();
    secured.store("admin", &secured.ca.dns_client("admin.mesh"));
    secured.store("envoy", &secured.ca.client(ENVOY));
    let addr = format!("https://127.0.0.1:{}", secured.place.admin);
    let list = |name: &str| {
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        let tls = ["--tls-ca", "ca.crt", "--tls-cert", &cert, "--tls-key", &key];
        let args = [&["tenant", "list", "--addr", &addr], &tls[..]].concat();
        secured.place.run(&args)
    };
    let listed = list("admin");
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let refused = list("envoy");
    assert_eq!(refused.code, 1);
    let words = "`admin.client_roles` gives the client certificate no role";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);

    // After a login the certificate is in the context; one without a role needs a key.
    let login = |name: &str| {
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        let tls = ["--tls-ca", "ca.crt", "--tls-cert", &cert, "--tls-key", &key];
        secured
            .place
            .run(&[&["login", "--addr", &addr], &tls[..]].concat())
    };
    let logged_in = login("admin");
    assert_eq!(logged_in.code, 0, "{}", logged_in.stderr);
    let words = "as the holder of the client certificate; context `default` is in use";
    assert!(logged_in.stdout.contains(words), "{}", logged_in.stdout);
    let listed = secured
        .place
        .do_it(&["tenant", "list", "-o", "name", "--context", "default"]);
    assert_eq!(listed, "tenants/platform\n");
    let shown = secured.place.do_it(&["context", "show"]);
    assert!(
        shown.contains("the client certificate is enough"),
        "{shown}"
    );
    let asked = login("envoy");
    assert!(
        asked
            .stderr
            .contains("gives our certificate no role, so an API key is needed"),
        "{}",
        asked.stderr
    );
}

#[test]
fn a_sidecar_is_asked_over_tls() {
    let secured = Secured::new(Place::bootstrapped(), "authz", MUTUAL);
    let _running = secured.place.serve();
    secured.store("envoy", &secured.ca.client(ENVOY));
    secured.write("token", &secured.place.admin_token, 0o600);
    let addr = format!("https://127.0.0.1:{}", secured.place.authz);
    let asked = secured.place.do_it(&[
        "check",
        "--token-file",
        "token",
        "--addr",
        &addr,
        "--tls-ca",
        "ca.crt",
        "--tls-cert",
        "envoy.crt",
        "--tls-key",
        "envoy.key",
        "-o",
        "json",
    ]);
    assert!(asked.contains("allow"), "{asked}");
}
