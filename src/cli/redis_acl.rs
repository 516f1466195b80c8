//! `keystile redis-acl`: the rules under which a process can do its work on Redis and nothing else.

use clap::ValueEnum;

use crate::cli::Failure;
use crate::cli::output::Out;
use crate::config;
use crate::store::redis::{Access, acl};

/// Redis refuses it, so that nobody gets in with a password that was never set.
const PLACEHOLDER: &str = "SHA256_OF_THE_PASSWORD";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Put the SHA-256 of the password, in hex, where it says SHA256_OF_THE_PASSWORD. On a cluster give the rules to every node.
They need Redis 7 or newer, or Valkey. They hold for the servers, not for sentinels.

Examples:
  keystile redis-acl sidecar
  sum=$(tr -d '\\r\\n' < redis.password | sha256sum | cut -d' ' -f1)
  keystile redis-acl sidecar | sed \"s/SHA256_OF_THE_PASSWORD/$sum/\" | redis-cli
  keystile redis-acl control-plane --user ks-admin --prefix eu: --format aclfile >> users.acl"
)]
pub(super) struct RedisAclArgs {
    /// For which process
    #[arg(value_enum)]
    process: Process,
    /// Name of the ACL user; by default keystile-sidecar or keystile-control-plane
    #[arg(long, value_name = "NAME", value_parser = config::redis_user)]
    user: Option<String>,
    /// store.redis.prefix of the config
    #[arg(long, value_name = "TEXT", default_value = "ks:", value_parser = config::redis_prefix)]
    prefix: String,
    /// A command for redis-cli, or a line of Redis' ACL file
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Process {
    /// `authz` without `admin`: reads
    Sidecar,
    /// `admin`, `keystile bootstrap`: writes
    ControlPlane,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    #[default]
    Commands,
    Aclfile,
}

pub(super) fn run(args: &RedisAclArgs, out: &mut Out) -> Result<(), Failure> {
    let (access, name) = match args.process {
        Process::Sidecar => (Access::Read, "keystile-sidecar"),
        Process::ControlPlane => (Access::Write, "keystile-control-plane"),
    };
    let user = args.user.as_deref().unwrap_or(name);
    let rules = acl::rules(access, &args.prefix);
    match args.format {
        // What the user had before is taken away first.
        Format::Commands => out.line(format_args!(
            "ACL SETUSER {user} reset on #{PLACEHOLDER} {rules}"
        )),
        Format::Aclfile => out.line(format_args!("user {user} on #{PLACEHOLDER} {rules}")),
    }
}
