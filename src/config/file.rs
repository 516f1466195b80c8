//! Reads the config file as far as a tree of values. Refuses what could be read two ways, and what was
//! made to be large.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;
use serde_saphyr::UserMessageFormatter;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::mistake::ConfigError;

/// Far above what people write and their tools make; a file named by accident is often larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Enough for any file of the size above that repeats nothing.
const NODES_MAX: usize = 250_000;
/// What anchors may add to it.
const REPLAYED_EVENTS_MAX: usize = 10_000;
const DEPTH_MAX: usize = 32;

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let bytes = read_bytes(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing(path.to_owned()),
        _ => ConfigError::Unreadable {
            path: path.to_owned(),
            cause,
        },
    })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            max: FILE_BYTES_MAX,
        });
    }
    String::from_utf8(bytes).map_err(|wrong| {
        let good = wrong
            .as_bytes()
            .iter()
            .take(wrong.utf8_error().valid_up_to());
        ConfigError::NotUtf8 {
            path: path.to_owned(),
            line: 1 + good.filter(|byte| **byte == b'\n').count(),
        }
    })
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
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
