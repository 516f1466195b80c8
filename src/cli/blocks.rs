//! `keystile blocks`: sources that are refused because they have failed too often.

use serde_json::json;

use crate::cli::client::Client;
use crate::cli::endpoint::ClientArgs;
use crate::cli::output::{self, Form, Out};
use crate::cli::{Failure, block_on};
use crate::proto::admin as pb;
use crate::proto::admin::clear_blocks_request::Which;

/// How many are fetched with one call; the server gives no more.
const PAGE_SIZE: i32 = 1000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The section `abuse` of a sidecar's config says when a source is blocked. With an embedded store the blocks are
those of the process that is asked; with Redis those of every sidecar.

Examples:
  keystile blocks list
  keystile blocks clear 192.0.2.7
  keystile blocks clear --all"
)]
pub(super) struct BlocksArgs {
    #[command(subcommand)]
    command: BlocksCommand,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum BlocksCommand {
    /// List the sources that are blocked
    List,
    /// End the block of a source, or of all, and forget what led to it
    Clear(ClearArgs),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ClearArgs {
    /// An IP address, or the first 64 or 48 bits of one as 2001:db8::/64
    source: Option<String>,
    /// Every source
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &BlocksArgs, out: &mut Out) -> Result<(), Failure> {
    block_on(dispatch(args, out))
}

async fn dispatch(args: &BlocksArgs, out: &mut Out) -> Result<(), Failure> {
    let form = args.client.output;
    let client = Client::connect(&args.client).await?;
    match &args.command {
        BlocksCommand::List => output::many(out, form, &all(&client).await?),
        BlocksCommand::Clear(which) => clear(&client, which, form, out).await,
    }
}

async fn clear(
    client: &Client,
    args: &ClearArgs,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let which = args.source.clone().map_or(Which::All(true), Which::Source);
    let request = pb::ClearBlocksRequest { which: Some(which) };
    let send = |request| async { client.blocks().clear_blocks(request).await };
    let cleared = client.call(request, send).await?.cleared_count;
    match form {
        Form::Table => out.line(format_args!("blocks ended: {cleared}")),
        Form::Json | Form::Yaml => output::document(out, form, &json!({"cleared_count": cleared})),
        Form::Name => Ok(()),
    }
}

async fn all(client: &Client) -> Result<Vec<pb::Block>, Failure> {
    let mut request = pb::ListBlocksRequest {
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let mut all = Vec::new();
    loop {
        let send = |request| async { client.blocks().list_blocks(request).await };
        let page = client.call(request.clone(), send).await?;
        all.extend(page.blocks);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}
