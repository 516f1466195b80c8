//! What Redis said, in an operator's words, and what to do.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// Codes of errors, what they mean, what to do.
const REFUSALS: &[(&str, &str, &str)] = &[
    (
        "MISCONF",
        "it refuses writes because it fails to save its data to disk",
        "look at the log and the disk of Redis",
    ),
    (
        "NOREPLICAS",
        "it refuses writes because fewer replicas are in sync than `min-replicas-to-write` asks for",
        "bring its replicas back",
    ),
    (
        "OOM",
        "it refuses writes because its memory is full",
        "raise `maxmemory` or remove what else is stored there",
    ),
    (
        "READONLY",
        "it is a replica, which takes no writes",
        "give the address of the primary, or wait for the failover to end",
    ),
    (
        "MASTERDOWN",
        "it is a replica that has lost its primary",
        "give the address of the primary, or wait for the failover to end",
    ),
    (
        "LOADING",
        "it is still loading its data from disk",
        "wait until it has",
    ),
    (
        "BUSY",
        "a script has kept it busy for long",
        "find out whose it is; `SCRIPT KILL` ends it",
    ),
    (
        "CLUSTERDOWN",
        "its cluster is not whole: slots are without a primary",
        "bring the missing nodes back",
    ),
    (
        "NOSCRIPT",
        "a script that sidecars run is not loaded, and this process may not load it",
        "a control plane loads it within seconds: see that one runs",
    ),
    (
        "NOPERM",
        "its ACL does not allow this user what Keystile needs",
        "set the rules that `keystile redis-acl` of this version prints",
    ),
    (
        "NOAUTH",
        "it asks for a password",
        "give `store.redis.username` and `password_file`",
    ),
    (
        "WRONGPASS",
        "it does not know this user, or the password is wrong",
        "set `store.redis.username` and `password_file` right",
    ),
];

pub(super) fn store_error(error: RedisError) -> StoreError {
    if let Some(text) = explain(&error) {
        return StoreError::Unusable(text);
    }
    // A script that fails, or a value of another type where ours should be.
    let is_damage = error.code() == Some("WRONGTYPE")
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ResponseError)
                | ErrorKind::UnexpectedReturnType
                | ErrorKind::Parse
        );
    if is_damage {
        return StoreError::Damaged(error.to_string());
    }
    StoreError::Unavailable(error.into())
}

/// What a refusal means and what to do; none for any other error.
pub(super) fn explain(error: &RedisError) -> Option<String> {
    let code = error.code().unwrap_or_default();
    let detail = error.detail().unwrap_or_default();
    // Before Redis 7 what a script's command was refused with is inside an error of the script.
    let is = |name: &str| code == name || detail.contains(&format!("-{name} "));
    let (name, why, what_to_do) = REFUSALS.iter().find(|(name, ..)| is(name))?;
    Some(format!("Redis says {name}: {why}; {what_to_do} ({detail})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> RedisError {
        let parsed = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        let value = parsed.and_then(redis::Value::extract_error);
        value.expect_err("it is an error")
    }

    #[test]
    fn an_operator_hears_what_redis_said_and_what_to_do() {
        for (line, words) in [
            (
                "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
                "fails to save its data to disk",
            ),
            (
                "NOREPLICAS Not enough good replicas to write. script: 4c2b, on @user_script:5.",
                "min-replicas-to-write",
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "maxmemory",
            ),
            (
                "ERR Error running script (call to f_1): @user_script:9: -OOM command not allowed",
                "memory is full",
            ),
            (
                "READONLY You can't write against a read only replica.",
                "address of the primary",
            ),
            ("LOADING Redis is loading the dataset in memory", "loading"),
            ("BUSY Redis is busy running a script.", "SCRIPT KILL"),
            ("CLUSTERDOWN The cluster is down", "not whole"),
            ("NOSCRIPT No matching script.", "a control plane loads it"),
            (
                "NOPERM User sidecar has no permissions to run the 'get' command",
                "keystile redis-acl",
            ),
        ] {
            let text = store_error(error(line)).to_string();
            assert!(text.contains("the key store cannot be used"), "{text}");
            assert!(text.contains(words), "{line}: {text}");
        }
    }

    #[test]
    fn a_failing_script_is_damage() {
        for line in [
            "ERR user_script:3: attempt to compare nil with number",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ] {
            assert!(matches!(store_error(error(line)), StoreError::Damaged(_)));
        }
    }
}
