//! The command line: what there is to type, and what each command is told.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage, 78 bad configuration or keyring.

pub(crate) mod bootstrap;
mod client;
pub mod config;
mod dev;
mod key;
mod keyring;
mod output;
mod serve;
mod tenant;
mod tls;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::output::Out;

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
    /// Make the first global_admin key, once
    Bootstrap(bootstrap::BootstrapArgs),
    /// Make, read, change and delete tenants
    Tenant(tenant::TenantArgs),
    /// Make, read and revoke API keys
    Key(key::KeyArgs),
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

    fn parts(&self) -> (u8, &anyhow::Error) {
        match self {
            Self::Usage(error) => (EXIT_USAGE, error),
            Self::Config(error) => (config::EXIT_CONFIG, error),
            Self::Failed(error) => (EXIT_FAILED, error),
        }
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
            // Nobody can be told that telling failed.
            help.print().ok();
            return ExitCode::from(code);
        }
    };
    let mut out = Out::stdout();
    let done = match cli.command {
        Command::Dev(args) => dev::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Config(args) => return config::run(&args),
        Command::Keyring(args) => keyring::run(&args, &mut out),
        Command::Bootstrap(args) => bootstrap::run(&args, &mut out),
        Command::Tenant(args) => tenant::run(&args, &mut out),
        Command::Key(args) => key::run(&args, &mut out),
    };
    finish(done)
}

fn finish(done: Result<(), Failure>) -> ExitCode {
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    let (code, error) = failure.parts();
    // A reader that has seen enough, such as `head`, is no failure of ours.
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    tell(&format!("{error:#}"));
    ExitCode::from(code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
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

fn tell(problem: &str) {
    // Nobody can be told that telling failed.
    writeln!(io::stderr(), "error: {problem}").ok();
}

/// Runs the future of a client command: one thread is enough for one call.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
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
            "config check -c keystile.yaml",
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
        ] {
            let words = std::iter::once("keystile").chain(line.split(' '));
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn a_token_cannot_be_given_as_an_argument() {
        for line in ["tenant list --api-key x", "key list acme --token x"] {
            let words = std::iter::once("keystile").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
