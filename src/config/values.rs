//! Values that are read beside the file: arguments of commands in its words, and the environment.

use std::time::Duration;

use super::{RedisConfig, quantity, raw, redis, text};

/// A duration as people write it: `30s`, `5m`, `30d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<quantity::HumanDuration>()
        .map(|parsed| parsed.0)
}

/// A name of an ACL user of Redis.
pub fn redis_user(text: &str) -> Result<String, String> {
    text.parse::<text::RedisUser>()
        .map(|parsed| parsed.to_string())
}

/// The Redis store at a value of `store.redis.url`, with defaults for all else. An error never repeats the text.
pub fn redis_at(url: &str) -> Result<RedisConfig, String> {
    let raw = raw::RawRedis {
        url: Some(url.parse()?),
        ..raw::RawRedis::default()
    };
    let mut mistakes = Vec::new();
    redis::check(&raw, &mut mistakes);
    match mistakes.pop() {
        Some(mistake) => Err(mistake.message),
        None => redis::config(&raw).ok_or_else(|| "names no server".to_owned()),
    }
}

/// A value of `store.redis.prefix`.
pub fn redis_prefix(text: &str) -> Result<String, String> {
    text.parse::<text::RedisPrefix>()
        .map(|parsed| parsed.to_string())
}

/// The environment of the process, for `Config::load`.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

/// The value of one variable that the configuration names, such as a key. Wiped when dropped.
pub fn variable(name: &str) -> Option<zeroize::Zeroizing<String>> {
    let (_, value) = std::env::vars_os().find(|(found, _)| found.to_str() == Some(name))?;
    value.into_string().ok().map(zeroize::Zeroizing::new)
}
