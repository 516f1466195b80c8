//! Blocks of sources, as sidecars tell each other of them: hashes of source -> end and length, both in ms.
//!
//! One hash a part of all sources, so that a change of one costs little to read. All are in one slot.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::cmd;

use super::RedisStore;
use crate::clock::Timestamp;
use crate::domain::block::{Block, Source};
use crate::store::StoreError;

impl RedisStore {
    pub(super) async fn publish_block(&self, block: Block) -> Result<(), StoreError> {
        let mut set = cmd("HSET");
        set.arg(self.names.blocks(block.source.part()))
            .arg(block.source.to_string())
            .arg(format!(
                "{} {}",
                block.until.as_millis(),
                block.length.as_millis()
            ));
        self.link.ask::<u64>(&set).await.map(drop)
    }

    pub(super) async fn blocks_of(&self, part: u8) -> Result<Vec<Block>, StoreError> {
        let mut get = cmd("HGETALL");
        get.arg(self.names.blocks(part));
        let stored: BTreeMap<Vec<u8>, Vec<u8>> = self.link.ask(&get).await?;
        // What nobody of us has written is no block.
        Ok(stored
            .iter()
            .filter_map(|(source, times)| {
                let [source, times] = [source, times].map(|text| std::str::from_utf8(text));
                block(source.ok()?, times.ok()?)
            })
            .collect())
    }

    pub(super) async fn remove_blocks(&self, only: Option<Source>) -> Result<(), StoreError> {
        if let Some(source) = only {
            let mut remove = cmd("HDEL");
            remove
                .arg(self.names.blocks(source.part()))
                .arg(source.to_string());
            return self.link.ask::<u64>(&remove).await.map(drop);
        }
        let mut remove = cmd("DEL");
        for part in 0..Source::PARTS {
            remove.arg(self.names.blocks(part));
        }
        self.link.ask::<u64>(&remove).await.map(drop)
    }
}

fn block(source: &str, times: &str) -> Option<Block> {
    let (until, length) = times.split_once(' ')?;
    Some(Block {
        source: source.parse().ok()?,
        until: Timestamp::from_millis(until.parse().ok()?),
        length: Duration::from_millis(length.parse().ok()?),
    })
}
