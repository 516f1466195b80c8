//! The command line: what there is to type, and what each command is told.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage, 78 bad configuration or keyring.

mod batches;
mod blocks;
pub(crate) mod bootstrap;
mod check;
mod client;
pub mod config;
mod context;
mod credential;
mod csv;
mod dev;
mod endpoint;
mod fleet;
mod health;
mod key;
mod keyring;
mod limits;
mod list;
mod manual;
mod output;
mod preflight;
mod progress;
mod prompt;
mod redis_acl;
mod request_id;
mod serve;
mod store;
mod target;
mod tenant;
mod tls;
mod tokens;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::output::Out;
use crate::domain::text::printable_lines;
use crate::telemetry;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// API-key authorization for Envoy and its relatives.
#[derive(Debug, clap::Parser)]
#[command(name = "keystile", version, max_term_width = 100)]
#[command(after_help = "`keystile help COMMAND` shows examples of a command.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Try it: everything in one process, with a demo tenant
    Dev(dev::DevArgs),
    /// Run a sidecar, a control plane or both, as the configuration says
    Serve(serve::ServeArgs),
    /// Check, show and explain the configuration
    Config(config::ConfigArgs),
    /// Make and rotate the keyring files
    Keyring(keyring::KeyringArgs),
    /// Print the rules of a process's Redis user: what it needs and nothing else
    RedisAcl(redis_acl::RedisAclArgs),
    /// Make the first global_admin key, once
    Bootstrap(bootstrap::BootstrapArgs),
    /// Move everything from one store to another
    Store(store::StoreArgs),
    /// Make, read, change and delete tenants
    Tenant(tenant::TenantArgs),
    /// Make, import, read, change and revoke API keys
    Key(key::KeyArgs),
    /// Show, change and explain what limits a tenant and its keys
    Limits(limits::LimitsArgs),
    /// Show the live sidecars of a control plane's store
    Fleet(fleet::FleetArgs),
    /// List and end blocks of sources that have failed too often
    Blocks(blocks::BlocksArgs),
    /// Send one Check to a sidecar and explain the answer
    Check(check::CheckArgs),
    /// Ask a process whether it is ready, as a probe of a container
    Health(health::HealthArgs),
    /// Keep the address of a control plane and the key that opens it
    Login(context::LoginArgs),
    /// List, choose and forget what `keystile login` keeps
    Context(context::ContextArgs),
    /// Print a script that completes commands in a shell
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(manual::ManArgs),
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked in the wrong way.
    Usage(anyhow::Error),
    /// The configuration or a keyring cannot be used.
    Config(anyhow::Error),
    /// It could not be done.
    Failed(anyhow::Error),
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(anyhow::Error::msg(message.into()))
    }

    pub(crate) fn config(error: impl Into<anyhow::Error>) -> Self {
        Self::Config(error.into())
    }

    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(error.into())
    }

    /// The same, with what was being done in front of it.
    fn context(self, what: String) -> Self {
        match self {
            Self::Usage(error) => Self::Usage(error.context(what)),
            Self::Config(error) => Self::Config(error.context(what)),
            Self::Failed(error) => Self::Failed(error.context(what)),
        }
    }

    fn parts(&self) -> (u8, &anyhow::Error) {
        match self {
            Self::Usage(error) => (EXIT_USAGE, error),
            Self::Config(error) => (config::EXIT_CONFIG, error),
            Self::Failed(error) => (EXIT_FAILED, error),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.parts().1)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs the command that `args` names, the program's name first. Says on stderr what went wrong.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(help) => {
            let code = u8::try_from(help.exit_code()).unwrap_or(EXIT_USAGE);
            // A failure to print cannot be printed.
            help.print().ok();
            return ExitCode::from(code);
        }
    };
    // A server must not wait for ever for somebody to read its words; a command must.
    let print_error = match cli.command {
        Command::Dev(_) | Command::Serve(_) => telemetry::print_line,
        _ => print_error,
    };
    if !matches!(cli.command, Command::Dev(_)) {
        harden(print_error);
    }
    let mut out = Out::stdout();
    let done = match cli.command {
        Command::Dev(args) => dev::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Config(args) => return config::run(&args),
        Command::Keyring(args) => keyring::run(&args, &mut out),
        Command::Bootstrap(args) => bootstrap::run(&args, &mut out),
        Command::RedisAcl(args) => redis_acl::run(&args, &mut out),
        Command::Store(args) => store::run(&args, &mut out),
        Command::Tenant(args) => tenant::run(&args, &mut out),
        Command::Key(args) => key::run(&args, &mut out),
        Command::Limits(args) => limits::run(&args, &mut out),
        Command::Fleet(args) => fleet::run(&args, &mut out),
        Command::Blocks(args) => blocks::run(&args, &mut out),
        Command::Check(args) => check::run(&args, &mut out),
        Command::Health(args) => health::run(&args, &mut out),
        Command::Login(args) => context::login(&args, &mut out),
        Command::Context(args) => context::run(&args, &mut out),
        Command::Completions(args) => manual::completions(&args, &mut out),
        Command::Man(args) => manual::man(&args, &mut out),
    };
    finish(done, print_error)
}

/// A core file would hold keys: none is written, and no debugger of the same user attaches.
fn harden(print_error: fn(&str)) {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        print_error(&format!(
            "warning: core dumps cannot be switched off: {error}"
        ));
    }
}

fn finish(done: Result<(), Failure>, print_error: fn(&str)) -> ExitCode {
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    let (code, error) = failure.parts();
    // A reader that has seen enough, such as `head`, is no failure of ours.
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    print_error(&printable_lines(&format!("error: {error:#}")));
    ExitCode::from(code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The configuration of a command that uses it once, with a warning of others who may write it.
fn load_config(path: Option<&Path>) -> Result<crate::config::Config, Failure> {
    use crate::config::{Config, environment};
    let loaded = Config::load(path, environment()).map_err(Failure::config)?;
    if let Some(exposure) = loaded.exposure {
        print_hint(&format!("the configuration file is not safe: {exposure}"));
    }
    Ok(loaded.config)
}

/// Why a store or keyring cannot be opened; a bad keyring or TLS file counts as bad configuration.
fn bad_start(error: anyhow::Error) -> Failure {
    if start_code(&error) == EXIT_FAILED {
        Failure::Failed(error)
    } else {
        Failure::Config(error)
    }
}

/// The exit code when a store or keyring cannot be opened.
fn start_code(error: &anyhow::Error) -> u8 {
    if error.is::<crate::keyfile::KeyfileError>() || error.is::<crate::server::TlsMistakes>() {
        config::EXIT_CONFIG
    } else {
        EXIT_FAILED
    }
}

fn print_error(line: &str) {
    // A failure to print cannot be printed.
    writeln!(io::stderr(), "{}", printable_lines(line)).ok();
}

/// Something to know, while the command goes on.
fn print_hint(hint: &str) {
    print_error(&format!("warning: {hint}"));
}

/// Runs the future of a client command: one thread is enough for one call.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// The resource name of a tenant.
fn name_of(tenant: &str) -> String {
    format!("tenants/{tenant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn what_the_design_shows_parses() {
        for line in [
            "keyring init --dir keys",
            "keyring rotate --dir keys --ring vault",
            "keyring show --dir keys -o json",
            "bootstrap -c keystile.yaml -o json",
            "bootstrap -c keystile.yaml --token-file admin.key",
            "config check -c keystile.yaml",
            "redis-acl sidecar",
            "redis-acl control-plane --user admin --prefix eu: --format aclfile",
            "store migrate --from embedded:s.redb --to redis://h:1/2 -c keystile.yaml --dry-run -o json",
            "tenant create acme --display-name Acme --plan pro --feature images --feature export --metadata tier=1",
            "tenant list",
            "tenant get acme -o json",
            "tenant update acme --feature export",
            "tenant suspend acme",
            "tenant resume acme --etag 1-2",
            "tenant delete acme --yes",
            "key create acme --name ci --owner alice --role user --expires-in 30d --scope read --allow-cidr 10.0.0.0/8 -o json",
            "key create acme --name ci --test --feature images --description text",
            "key list acme -o name",
            "key get acme abcd2345 --addr unix:/run/keystile.sock",
            "key revoke acme abcd2345 --api-key-file admin.key",
            "key revoke acme abcd2345 --wait 5s -o json",
            "fleet -o json",
            "fleet --watch --addr h:1",
            "blocks list -o json",
            "blocks clear 192.0.2.7 --addr h:1",
            "blocks clear --all",
            "key import acme --name legacy --token-file old.txt",
            "key import acme --csv keys.csv",
            "tenant import --csv tenants.csv",
            "tenant import --csv - --key first --tokens-file tokens.csv -o name",
            "key update acme abcd2345 --scope read --remove-feature images",
            "key revoke-all acme --owner alice --yes",
            "key verify --token-file - --source-ip 192.0.2.7",
            "key list acme --filter state=ACTIVE --limit 5 --page-size 2 --watch -o yaml",
            "limits get acme -o json",
            "limits set acme --max-keys-per-user 15",
            "limits set acme --max-keys-per-user none --max-keys-per-tenant-admin 9 --etag 1-2",
            "limits explain acme",
            "config show --effective -c keystile.yaml",
            "check --token-file t --method GET --path /x --host h --header k:v --source 192.0.2.7 --addr unix:/x -o json",
            "check --token t --path /x --mode optional --features a,b --scopes c",
            "health",
            "health --addr unix:/run/keystile/authz.sock --grpc --timeout 1s",
            "health --live -c keystile.yaml",
            "login --context prod --addr h:1 --api-key-file f",
            "context list -o json",
            "context use prod",
            "context delete prod",
            "context show",
            "completions bash",
            "man --dir man",
        ] {
            let words = std::iter::once("keystile").chain(line.split(' '));
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn a_token_cannot_be_given_as_an_argument() {
        for line in [
            "tenant list --api-key x",
            "key list acme --token x",
            "login --token x",
            "key import acme --name a --token x",
            "key verify --token x",
        ] {
            let words = std::iter::once("keystile").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
