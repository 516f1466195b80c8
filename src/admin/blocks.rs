//! The RPCs of blocked sources.

use prost_types::Duration as ProtoDuration;
use tonic::{Request, Response, Status};

use crate::admin::Admin;
use crate::admin::caller::{Permission, require};
use crate::admin::convert::{bad, time_to_proto};
use crate::admin::page_token::page_size;
use crate::domain::block::{Block, Source};
use crate::proto::admin as pb;
use crate::proto::admin::block_service_server::BlockService;
use crate::proto::admin::clear_blocks_request::Which;
use crate::registry::RegistryError;
use crate::status::{self, from_registry};

/// What page tokens of the list are bound to.
const BLOCKS: &str = "blocks";

#[derive(Clone)]
pub(super) struct Blocks(pub(super) Admin);

#[tonic::async_trait]
impl BlockService for Blocks {
    async fn list_blocks(
        &self,
        request: Request<pb::ListBlocksRequest>,
    ) -> Result<Response<pb::ListBlocksResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        let request = request.into_inner();
        let size = page_size(request.page_size).map_err(|bad| status::invalid(vec![bad]))?;
        let pages = &self.0.pages;
        let after = pages.position(BLOCKS, &request.page_token, |text| Ok(text.to_owned()))?;
        let after = after.and_then(|text| text.parse::<Source>().ok());
        let live = self.0.blocks.list(self.0.clock.now()).await;
        let mut live = live.map_err(|error| from_registry("block")(RegistryError::from(error)))?;
        live.retain(|block| after.is_none_or(|after| block.source > after));
        let is_last = live.len() <= size;
        live.truncate(size);
        let last = live.last().filter(|_| !is_last);
        let token = last.map(|block| pages.seal(BLOCKS, &block.source.to_string()));
        Ok(Response::new(pb::ListBlocksResponse {
            blocks: live.iter().map(to_proto).collect(),
            next_page_token: token.unwrap_or_default(),
        }))
    }

    async fn clear_blocks(
        &self,
        request: Request<pb::ClearBlocksRequest>,
    ) -> Result<Response<pb::ClearBlocksResponse>, Status> {
        let caller = self.0.caller(&request).await?;
        require(&caller, Permission::Global, None)?;
        let only = which(request.into_inner())?;
        let cleared = self.0.blocks.clear(only, self.0.clock.now()).await;
        let cleared =
            cleared.map_err(|error| from_registry("block")(RegistryError::from(error)))?;
        let what = only.map_or_else(|| "all sources".to_owned(), |source| source.to_string());
        let actor = caller.actor();
        tracing::info!(%actor, sources = what, cleared, "blocks were ended by an admin");
        let noted = self.0.registry.note_cleared_blocks(&actor, &what).await;
        noted.map_err(from_registry("tenant"))?;
        Ok(Response::new(pb::ClearBlocksResponse {
            cleared_count: u32::try_from(cleared).unwrap_or(u32::MAX),
        }))
    }
}

/// One source, or none for all.
fn which(request: pb::ClearBlocksRequest) -> Result<Option<Source>, Status> {
    match request.which {
        Some(Which::Source(text)) => match text.parse() {
            Ok(source) => Ok(Some(source)),
            Err(why) => Err(bad("source", format!("{why}"))),
        },
        Some(Which::All(true)) => Ok(None),
        Some(Which::All(false)) => Err(bad("all", "must be true, or name a `source`")),
        None => Err(bad("source", "must be set, or `all`")),
    }
}

fn to_proto(block: &Block) -> pb::Block {
    pb::Block {
        source: block.source.to_string(),
        end_time: Some(time_to_proto(block.until)),
        length: ProtoDuration::try_from(block.length).ok(),
    }
}
