//! How tests wait.

use super::{bad, hold, places};

/// The client gives up after half a second by default, which a busy machine may need.
#[test]
fn tests_speak_to_redis_with_patience() {
    const OPEN: &str = concat!("Client::", "open(");
    hold(
        "a test speaks to Redis by `harness::redis::somebody`, which has patience",
        |source| match source.path.as_str() {
            "tests/it/harness/redis.rs" => Vec::new(),
            _ => places(&source.test_code(), &[OPEN]),
        },
        &[bad(
            "tests/it/redis/x.rs",
            format!("let client = ::redis::{OPEN}server.url()).unwrap();"),
        )],
        &[("src/store/redis/connect.rs", &format!("{OPEN}url)"))],
    );
}

#[test]
fn tests_wait_for_a_condition_and_not_for_a_time() {
    const SLEEP: &str = concat!("sle", "ep(");
    hold(
        "a test waits by `harness::wait_for` or `wait_until`; a pause that is itself tested is `let_pass` or `pass`",
        |source| match source.path.as_str() {
            "tests/it/harness/wait.rs" => Vec::new(),
            _ => places(&source.test_code(), &[SLEEP]),
        },
        &[
            bad(
                "tests/it/abuse.rs",
                format!("tokio::time::{SLEEP}MOMENT).await;"),
            ),
            bad("tests/it/x.rs", format!("std::thread::{SLEEP}MOMENT);")),
            bad("src/cache/tests.rs", format!("{SLEEP}MOMENT).await;")),
            bad(
                "src/cache.rs",
                format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n    {SLEEP}MOMENT).await;"),
            ),
        ],
        &[
            ("src/cache.rs", &format!("{SLEEP}MOMENT).await;")),
            (
                "tests/it/x.rs",
                &format!("// {SLEEP}MOMENT) is not for tests"),
            ),
        ],
    );
}
