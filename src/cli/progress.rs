//! How far a long piece of work is: a bar on a terminal, a line now and then elsewhere. On stderr, so that stdout
//! stays what programs read.

use std::io::{self, IsTerminal as _, Write as _};

use tokio::time::Instant;

const BAR_LEN: usize = 30;

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
        Self {
            what,
            total,
            done: 0,
            start: Instant::now(),
            terminal: io::stderr().is_terminal(),
        }
    }

    pub(super) fn add(&mut self, count: usize) {
        self.done += count;
        let seconds = self.start.elapsed().as_secs();
        let text = if self.terminal {
            format!("\r{}\x1b[K", bar(self.what, self.done, self.total, seconds))
        } else {
            format!("{}: {} of {}\n", self.what, self.done, self.total)
        };
        // Nobody can be told that telling failed.
        write!(io::stderr(), "{text}").ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal && self.done > 0 {
            writeln!(io::stderr()).ok();
        }
    }
}

fn bar(what: &str, done: usize, total: usize, seconds: u64) -> String {
    let part = |of: usize| of * done.min(total) / total.max(1);
    let filled = part(BAR_LEN);
    let left = seconds
        .checked_mul(u64::try_from(total.saturating_sub(done)).unwrap_or(0))
        .and_then(|work| work.checked_div(u64::try_from(done).unwrap_or(0)))
        .unwrap_or(0);
    format!(
        "{what} [{}{}] {done}/{total} {}% {left} s left",
        "#".repeat(filled),
        " ".repeat(BAR_LEN - filled),
        part(100),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_shows_how_far_it_is() {
        assert_eq!(
            super::bar("imported", 250, 1000, 10),
            "imported [#######                       ] 250/1000 25% 30 s left"
        );
        assert!(super::bar("imported", 0, 0, 0).contains("0/0"));
    }
}
