//! Values that are read beside the file: arguments of commands in its words, and the environment.

use std::time::Duration;

use super::quantity::HumanDuration;
use super::redis;
use super::section::Redis;
use super::text::{RedisPrefix, RedisUser, Text as _};
use super::url::RedisUrl;
use crate::store::redis::Settings;

/// A duration as people write it: `30s`, `5m`, `30d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    HumanDuration::read(text).map(|parsed| parsed.0)
}

/// A name of an ACL user of Redis.
pub fn redis_user(text: &str) -> Result<String, String> {
    RedisUser::read(text).map(String::from)
}

/// The Redis store at a value of `store.redis.url`, with defaults for all else. An error never repeats the text.
pub fn redis_at(url: &str) -> Result<Settings, String> {
    let section = Redis {
        url: Some(RedisUrl::read(url)?),
        ..Redis::default()
    };
    let mut mistakes = Vec::new();
    redis::check(&section, &mut mistakes);
    match mistakes.pop() {
        Some(mistake) => Err(mistake.message),
        None => Ok(section.settings()),
    }
}

/// A value of `store.redis.prefix`.
pub fn redis_prefix(text: &str) -> Result<String, String> {
    RedisPrefix::read(text).map(String::from)
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
