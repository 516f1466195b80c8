//! Reads the config file as far as a tree of values. Refuses what could be read two ways, and what was
//! made to be large.

use std::io;
use std::path::Path;

use serde_json::Value;
use serde_saphyr::UserMessageFormatter;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::mistake::ConfigError;
use crate::file_access::{self, Exposure, Refusal};

/// Far above what people write and their tools make; a file named by accident is often larger.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Enough for any file of the size above that repeats nothing.
const NODES_MAX: usize = 250_000;
/// What anchors may add to it.
const REPLAYED_EVENTS_MAX: usize = 10_000;
const DEPTH_MAX: usize = 32;

/// The text of a file, and who else may write it.
pub(super) fn read(path: &Path) -> Result<(String, Option<Exposure>), ConfigError> {
    let unreadable = |cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let found = file_access::read_settings(path, FILE_BYTES_MAX);
    let (bytes, exposure) = found.map_err(|refusal| match refusal {
        Refusal::Missing => ConfigError::Missing(path.to_owned()),
        Refusal::Unreadable(cause) => unreadable(cause),
        Refusal::NotAFile { kind } => unreadable(io::Error::other(format!("it is {kind}"))),
        Refusal::Exposed(exposure) => ConfigError::Exposed(exposure),
        Refusal::TooLarge => ConfigError::TooLarge {
            path: path.to_owned(),
            max: FILE_BYTES_MAX,
        },
    })?;
    match file_access::utf8(&bytes) {
        Ok(text) => Ok((text.to_owned(), exposure)),
        Err(problem) => Err(ConfigError::NotUtf8 {
            path: path.to_owned(),
            problem,
        }),
    }
}

/// The one document of `text`; the error says where and what.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: REPLAYED_EVENTS_MAX },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|wrong| wrong.render_with_formatter(&UserMessageFormatter))
}
