//! What a process needs of Redis and nothing else, as rules of an ACL user (Redis 7 and newer, Valkey).

use super::Access;

/// How every connection begins and is kept.
const CONNECT: &[&str] = &[
    "hello",
    "auth",
    "select",
    "ping",
    // Not `client|setinfo`: Redis 7.0 would not take the rules. Where it is refused, nothing depends on it.
    "client|tracking",
    // Where there is a cluster.
    "cluster|slots",
    "asking",
];

/// Reads of a sidecar: tenants, index entries, the format.
const READ: &[&str] = &["hmget"];

/// For what sidecars keep together: limits, usage, who is alive. Scripts may do no more than their caller, and are
/// those that a control plane has loaded: whoever loads one of its own can keep Redis busy for ever.
const SHARE: &[&str] = &[
    "get",
    "set",
    "del",
    "exists",
    "incrby",
    "expire",
    "pexpire",
    "hget",
    "hmget",
    "hgetall",
    "hset",
    "hincrby",
    "hdel",
    "sadd",
    "srem",
    "smembers",
    "zadd",
    "zrem",
    "zrangebyscore",
    "xadd",
    "time",
    "evalsha",
];

/// What a control plane's commands and scripts do, beside [`SHARE`].
const WRITE: &[&str] = &[
    "script|load",
    // Whether a store without its root record is empty, and whether Redis may evict what is stored.
    "scan",
    "info",
    "hsetnx",
    "hlen",
    "hvals",
    "persist",
    "type",
    "hkeys",
    "hexists",
    "sismember",
    "scan",
    "hscan",
    "sscan",
    "zscan",
    "unlink",
    "rename",
    "decrby",
    "srandmember",
    "zcard",
    "zscore",
    "zrangebylex",
    "zremrangebyscore",
    "xrange",
    "xrevrange",
];

fn allow(commands: &[&str]) -> String {
    let commands: Vec<String> = commands.iter().map(|name| format!("+{name}")).collect();
    commands.join(" ")
}

/// The rules of a process's ACL user but for its name and password, for names that begin with `prefix`.
pub fn rules(access: Access, prefix: &str) -> String {
    let connect = allow(CONNECT);
    let share = allow(SHARE);
    match access {
        Access::Write => format!("~{prefix}* {connect} {share} {}", allow(WRITE)),
        Access::Read => format!(
            "%R~{prefix}t:* %R~{prefix}i:* %R~{prefix}root %R~{prefix}root:* {connect} {} \
             (~{prefix}n:* ~{prefix}fleet:* {share})",
            allow(READ)
        ),
    }
}
