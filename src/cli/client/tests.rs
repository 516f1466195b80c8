use super::*;

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
