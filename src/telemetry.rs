//! Logs and metrics: started here, and nowhere else. Log lines are written by a thread of their own, see [`log_queue`].
//!
//! What may never be printed is kept out at the source: secrets have no `Display`, and requests are never logged
//! whole. Two things remain for here. Other crates' logs stay at `warn`, because h2 and hyper print headers at
//! `trace`; and a panic's message is printed only when it is a literal, because a formatted one may hold anything.

mod foreign;
pub mod log_queue;
pub mod metrics;
pub mod throttles;

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write as _};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{Targets, dynamic_filter_fn};
use tracing_subscriber::prelude::*;

use crate::clock::Timestamp;
use log_queue::{LogQueue, ToQueue};

/// How long the end of the process waits for its last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Writes the last lines when it is dropped, also by a panic that ends the process, unless nobody takes them.
#[derive(Debug)]
pub struct LogGuard(Arc<LogQueue>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// Starts logging to standard error. A second start in one process changes nothing, so that tests can start servers.
pub fn start_logs(level: LevelFilter, format: LogFormat) -> io::Result<LogGuard> {
    let others = level.min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(others)
        .with_target("keystile", level);
    let queue = LogQueue::stderr()?;
    let layer = tracing_subscriber::fmt::layer().with_writer(ToQueue(Arc::clone(&queue)));
    let foreign = foreign::Foreign::default();
    let throttle = dynamic_filter_fn(move |line, _| foreign.admits(line));
    let registry = tracing_subscriber::registry().with(throttle).with(filter);
    let started = match format {
        LogFormat::Text => registry
            .with(layer.with_ansi(io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(LogGuard(queue))
}

/// Writes a line to standard error for a process that serves: behind what was logged before, and with a bound on the
/// wait for somebody to read it.
pub fn print_line(line: &str) {
    match LogQueue::stderr() {
        Ok(queue) => {
            queue.put(format!("{line}\n").as_bytes());
            queue.flush(FLUSH_TIMEOUT);
        }
        // A failure to print cannot be printed.
        Err(_) => writeln!(io::stderr(), "{line}").unwrap_or_default(),
    }
}

/// An error with all its causes on one line; JSON logs would otherwise show the outermost alone.
pub fn chain(error: &dyn Error) -> impl fmt::Display + '_ {
    struct Chain<'a>(&'a dyn Error);
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)?;
            let mut cause = self.0.source();
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
            Ok(())
        }
    }
    Chain(error)
}

/// Lets one line in `EVERY` through: a fault that every request meets must not write a line a request.
#[derive(Debug, Default)]
pub struct Throttle {
    next: AtomicI64,
    held: AtomicU64,
}

impl Throttle {
    /// The time between two lines.
    const EVERY: Duration = Duration::from_secs(10);

    /// Whether to write now; then with how many were held back since the last time.
    pub fn admit(&self, now: Timestamp) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let later = now.plus(Self::EVERY).as_millis();
        let mine = now.as_millis() >= next
            && self
                .next
                .compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if mine {
            return Some(self.held.swap(0, Ordering::Relaxed));
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_every_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot decide")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("disk gone"));
        assert_eq!(chain(&error).to_string(), "cannot decide: disk gone");
    }

    #[test]
    fn a_throttle_lets_one_line_through_and_counts_the_rest() {
        let throttle = Throttle::default();
        let at = Timestamp::from_millis;
        assert_eq!(throttle.admit(at(1_000)), Some(0));
        assert_eq!(throttle.admit(at(1_001)), None);
        assert_eq!(throttle.admit(at(10_999)), None);
        assert_eq!(throttle.admit(at(11_000)), Some(2));
    }
}
