//! How far a long piece of work is: a bar on a terminal, a line now and then elsewhere. On stderr, so that stdout
//! stays what programs read.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Span;

const BAR_LEN: usize = 30;
/// Where there is no terminal, so many lines tell how far it is.
const LINES: usize = 10;

/// Counts what is done of what there is.
pub(super) struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    start: Instant,
    terminal: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        let new = Self {
            what,
            total,
            done: 0,
            start: Instant::now(),
            terminal: io::stderr().is_terminal(),
        };
        if new.terminal {
            new.show();
        }
        new
    }

    pub(super) fn add(&mut self, count: usize) {
        let before = self.done;
        self.done += count;
        // A log has no use for a line a moment.
        if self.terminal || part(LINES, before, self.total) < part(LINES, self.done, self.total) {
            self.show();
        }
    }

    fn show(&self) {
        let text = if self.terminal {
            let bar = bar(self.what, self.done, self.total, self.start.elapsed());
            format!("\r{bar}\x1b[K")
        } else {
            format!("{}: {} of {}\n", self.what, self.done, self.total)
        };
        // A failure to print cannot be printed.
        write!(io::stderr(), "{text}").ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            writeln!(io::stderr()).ok();
        }
    }
}

/// How many of so many parts are done.
fn part(of: usize, done: usize, total: usize) -> usize {
    of * done.min(total) / total.max(1)
}

fn bar(what: &str, done: usize, total: usize, elapsed: Duration) -> String {
    let filled = part(BAR_LEN, done, total);
    let (filled, empty) = ("#".repeat(filled), " ".repeat(BAR_LEN - filled));
    let percent = part(100, done, total);
    let left = left(done, total, elapsed).map(|left| format!(" {left} left"));
    let left = left.unwrap_or_default();
    format!("{what} [{filled}{empty}] {done}/{total} {percent}%{left}")
}

/// How long the rest takes at this pace; nobody knows before something is done.
fn left(done: usize, total: usize, elapsed: Duration) -> Option<Span> {
    let rest = u128::try_from(total.saturating_sub(done)).ok()?;
    let millis = (elapsed.as_millis() * rest).checked_div(u128::try_from(done).ok()?)?;
    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
    Some(Span::rounded_up(Duration::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_far_it_is() {
        let seconds = Duration::from_secs;
        assert_eq!(
            bar("imported", 250, 1000, seconds(10)),
            "imported [#######                       ] 250/1000 25% 30s left"
        );
        assert!(bar("imported", 1, 10, Duration::from_millis(40)).ends_with("10% 1s left"));
        assert!(bar("imported", 0, 10, seconds(1)).ends_with("0/10 0%"));
        assert!(bar("imported", 0, 0, seconds(0)).contains("0/0"));
    }
}
