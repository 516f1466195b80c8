use super::*;

#[test]
fn addresses_are_taken_in_the_forms_that_the_config_has() {
    for (text, shown, uri) in [
        ("127.0.0.1:9002", "127.0.0.1:9002", "http://127.0.0.1:9002/"),
        ("http://localhost:1/", "localhost:1", "http://localhost:1/"),
        (
            "https://localhost:1/",
            "localhost:1",
            "https://localhost:1/",
        ),
        ("[::1]:9002", "[::1]:9002", "http://[::1]:9002/"),
        (
            "unix:/run/keystile.sock",
            "unix:/run/keystile.sock",
            "unix:/run/keystile.sock",
        ),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.shown.as_str(), address.uri.as_str()), (shown, uri));
    }
    for bad in [
        "",
        "localhost",
        "ftp://localhost:1",
        "unix:run/x",
        "http://a:1/path",
        "user:pw@host:1",
        "a b:1",
        ":1",
    ] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}

#[test]
fn a_refusal_says_what_to_do_next() {
    use crate::status::Reason;
    let explained = |status: &Status| explain("a:1", Duration::from_secs(10), status);
    let many = crate::status::invalid(vec![
        tonic_types::FieldViolation::new("key.owner", "must be short"),
        tonic_types::FieldViolation::new("key.role", "is not\u{1b}[2J known"),
    ]);
    let invalid = Reason::InvalidApiKey.status("the API key is not valid");
    for (status, lines) in [
        (
            invalid,
            "the API key is not valid\nhint: check the key of the context, KEYSTILE_API_KEY or --api-key-file; `keystile login` takes another",
        ),
        (
            many,
            "2 fields are not acceptable\n  key.owner: must be short\n  key.role: is not\u{FFFD}[2J known",
        ),
        (
            Status::deadline_exceeded("x"),
            "a:1 did not answer within 10s\nhint: look at its log, or give it longer with --timeout",
        ),
        (
            Status::cancelled("Timeout expired"),
            "a:1 did not answer within 10s\nhint: look at its log, or give it longer with --timeout",
        ),
        (
            Status::unimplemented(""),
            "a:1 does not serve this part of the admin API\nhint: is it the `admin` listener, and as new as this program?",
        ),
        (
            Status::cancelled("connection closed"),
            "lost the connection to a:1\nhint: is `keystile serve` still running there, and does it want TLS?",
        ),
        (
            Status::unavailable(""),
            "lost the connection to a:1\nhint: is `keystile serve` still running there, and does it want TLS?",
        ),
    ] {
        assert_eq!(explained(&status), lines);
    }
}
