//! `keystile fleet`: the sidecars that live.

use crate::cli::client::Client;
use crate::cli::endpoint::ClientArgs;
use crate::cli::output::{self, Out};
use crate::cli::watch::{self, WatchArg};
use crate::cli::{Failure, block_on};
use crate::proto::admin as pb;

/// How many are fetched with one call; the server gives no more.
const PAGE_SIZE: i32 = 1000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A sidecar says every 2 s that it lives, and is not shown any more when it was silent for 7 s.
LAG is how late it hears of a revocation at most. An embedded store has no sidecars.

Examples:
  keystile fleet
  keystile fleet --watch
  keystile fleet -o json | jq -r '.sidecars[].version' | sort | uniq -c"
)]
pub(super) struct FleetArgs {
    #[command(flatten)]
    watch: WatchArg,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(args: &FleetArgs, out: &mut Out) -> Result<(), Failure> {
    block_on(show(args, out))
}

async fn show(args: &FleetArgs, out: &mut Out) -> Result<(), Failure> {
    let form = args.client.output;
    let client = Client::connect(&args.client).await?;
    let render = async |out: &mut Out| output::many(out, form, &all(&client).await?);
    watch::show(out, form, args.watch, render).await
}

async fn all(client: &Client) -> Result<Vec<pb::Sidecar>, Failure> {
    let mut request = pb::ListSidecarsRequest {
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let mut all = Vec::new();
    loop {
        let send = |request| async { client.fleet().list_sidecars(request).await };
        let page = client.call(request.clone(), send).await?;
        all.extend(page.sidecars);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}
