//! Logs and metrics: started here, and nowhere else.
//!
//! What may never be printed is kept out at the source: secrets have no `Display`, and requests are never logged
//! whole. Two things remain for here. Other crates' logs stay at `warn`, because h2 and hyper print headers at
//! `trace`; and a panic's message is printed only when it is a literal, because a formatted one may hold anything.

pub mod metrics;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging to standard error. A second start in one process is ignored, so that tests can start servers.
pub fn start_logs(level: LevelFilter, format: LogFormat) {
    let others = level.min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(others)
        .with_target("keystile", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => registry
            .with(layer.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let literal = info.payload().downcast_ref::<&'static str>().copied();
    let place = info.location().map(ToString::to_string);
    tracing::error!(
        place,
        message = literal.unwrap_or("(not shown: it is not a literal)"),
        "panicked"
    );
}
