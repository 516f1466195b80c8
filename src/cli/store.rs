//! `keystile store`: the store itself, without a server.

mod check;
mod migrate;
mod place;

use crate::cli::Failure;
use crate::cli::output::Out;

#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Copy all tenants, keys and their audit from one store to another
    Migrate(migrate::MigrateArgs),
    /// Compare everything in a store with everything else in it, and put right what can be put right
    Check(check::CheckArgs),
}

pub(super) fn run(args: &StoreArgs, out: &mut Out) -> Result<(), Failure> {
    match &args.command {
        StoreCommand::Migrate(args) => migrate::run(args, out),
        StoreCommand::Check(args) => check::run(args, out),
    }
}
