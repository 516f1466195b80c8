//! `keystile serve`: runs what the configuration switches on.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tracing::level_filters::LevelFilter;

use crate::cli::{Failure, bad_start};
use crate::config::{self, Config, ConfigError, LogFormat, LogLevel};
use crate::server;
use crate::server::parts::Parts;
use crate::server::reload::ConfigFollower;
use crate::telemetry::{self, LogGuard};

/// Threads for accepting, the admin API and ops; checks have their own.
const RUNTIME_THREADS: usize = 2;

/// Arguments of `keystile serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  keystile serve -c keystile.yaml
  KEYSTILE__OPS__LISTEN=127.0.0.1:9103 keystile serve -c keystile.yaml

A sidecar's file has the sections `authz` and `ops`, a control plane's `admin` and `ops`,
an injector's `injector` and `ops`; one file may have all.
The file is followed: what can change without a restart is taken at once, and on SIGHUP; the log says what needs one.
SIGTERM or Ctrl-C: not ready, no new connections, finish what is under way, exit 0.")]
pub(super) struct ServeArgs {
    /// The configuration file; without it, the environment alone (KEYSTILE__…).
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let (config, follower) = load(args).map_err(Failure::config)?;
    let _flushed_at_the_end = start_logs(&config)?;
    follower.iter().for_each(ConfigFollower::warn_of_writers);
    runtime().map_err(Failure::Failed)?.block_on(async {
        if !config.has_store() {
            return server::injector::run(&config).await.map_err(bad_start);
        }
        let parts = Parts::open_to_serve(&config).await.map_err(bad_start)?;
        server::run(&config, follower, parts, async |_| Ok(()))
            .await
            .map_err(bad_start)
    })
}

/// The configuration, and its file to be followed, if it has one.
fn load(args: &ServeArgs) -> Result<(Config, Option<ConfigFollower>), ConfigError> {
    match &args.config {
        Some(path) => {
            let (config, follower) = ConfigFollower::load(path.clone())?;
            Ok((config, Some(follower)))
        }
        None => Ok((Config::load(None, config::environment())?.config, None)),
    }
}

pub(super) fn start_logs(config: &Config) -> std::io::Result<LogGuard> {
    use std::io::IsTerminal;
    let level = match config.telemetry.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let format = match config.telemetry.log.format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
        LogFormat::Auto if std::io::stderr().is_terminal() => telemetry::LogFormat::Text,
        LogFormat::Auto => telemetry::LogFormat::Json,
    };
    telemetry::start_logs(level, format)
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
