//! How tests wait.

use super::{bad, hold, places};

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
