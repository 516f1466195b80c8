//! Rows of a table, sent in batches: some under way at once, with progress, and what is refused told by its line.

use std::cell::Cell;
use std::pin::pin;

use anyhow::anyhow;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::progress::Progress;

/// Rows a batch: enough to share commits, few enough to show progress and to be answered well within a deadline.
const ROWS_MAX: usize = 500;
/// Bytes of rows a batch. The server reads messages of at most 2 MiB.
const BYTES_MAX: usize = 1024 * 1024;
/// Batches under way: the server works on one while the next is on its way.
const UNDER_WAY: usize = 3;

/// Rows as long as they fit into one batch.
fn cut<T>(mut rows: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    while !rows.is_empty() {
        let mut bytes = 0;
        let fits = rows.iter().take(ROWS_MAX).take_while(|row| {
            bytes += size(row);
            bytes <= BYTES_MAX
        });
        // A row that is too large alone is the server's to refuse.
        let (batch, rest) = rows.split_at(fits.count().max(1));
        batches.push(batch);
        rows = rest;
    }
    batches
}

/// Sends all rows and keeps what came of them, in their order. At a failure nothing more is sent, and what is under
/// way is still waited for and kept.
pub(super) async fn each<T, D>(
    rows: &[T],
    size: impl Fn(&T) -> usize,
    mut progress: Option<Progress>,
    send: impl AsyncFn(&[T]) -> Result<D, Failure>,
    mut keep: impl FnMut(D) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stopped = Cell::new(false);
    let batches = stream::iter(cut(rows, size)).map(async |batch| {
        if stopped.get() {
            return None;
        }
        let sent = send(batch).await;
        stopped.set(stopped.get() || sent.is_err());
        Some((batch.len(), sent))
    });
    let mut batches = pin!(batches.buffered(UNDER_WAY));
    let (mut done, mut first) = (0, None);
    while let Some(batch) = batches.next().await {
        let Some((count, sent)) = batch else { continue };
        match sent.and_then(&mut keep) {
            Ok(()) => {
                done += count;
                progress.iter_mut().for_each(|progress| progress.add(count));
            }
            Err(failure) => {
                stopped.set(true);
                first.get_or_insert(failure);
            }
        }
    }
    drop(progress);
    match first {
        None => Ok(()),
        Some(failure) => Err(failure.context(format!(
            "stopped after {done} of {} rows; run it again to resume; existing entries are skipped",
            rows.len()
        ))),
    }
}

/// Rows that the server did not take, each with its line.
#[derive(Default)]
pub(super) struct Refused(Vec<(u64, String)>);

impl Refused {
    pub(super) fn push(&mut self, line: u64, problem: String) {
        self.0.push((line, problem));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is wrong with the first.
    pub(super) fn first(&self) -> Option<&str> {
        self.0.first().map(|(_, problem)| problem.as_str())
    }

    /// For programs.
    pub(super) fn json(&self) -> Vec<Value> {
        let refused = self.0.iter();
        refused
            .map(|(line, problem)| json!({"line": line, "problem": problem}))
            .collect()
    }

    /// Fails if there are any.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let lines = self.0.iter();
        let lines: String = lines
            .map(|(line, problem)| format!("\n  line {line}: {problem}"))
            .collect();
        let count = self.0.len();
        Err(Failure::failed(anyhow!("{count} rows were refused{lines}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_neither_too_many_rows_nor_too_many_bytes() {
        let lens = |rows: &[usize]| -> Vec<usize> {
            let batches = cut(rows, |bytes| *bytes);
            batches.iter().map(|batch| batch.len()).collect()
        };
        assert_eq!(lens(&[1; 2 * ROWS_MAX + 1]), [ROWS_MAX, ROWS_MAX, 1]);
        assert_eq!(lens(&[BYTES_MAX / 2; 5]), [2, 2, 1]);
        assert_eq!(lens(&[2 * BYTES_MAX, 1, 1]), [1, 2]);
        assert!(lens(&[]).is_empty());
    }

    #[tokio::test]
    async fn what_is_under_way_at_a_failure_is_kept_and_nothing_more_is_sent() {
        let rows: Vec<usize> = (0..10 * ROWS_MAX).collect();
        let sent = Cell::new(0);
        let mut kept = Vec::new();
        let send = async |batch: &[usize]| {
            sent.set(sent.get() + 1);
            tokio::task::yield_now().await;
            match batch[0] / ROWS_MAX {
                1 => Err(Failure::failed(anyhow!("no"))),
                at => Ok(at),
            }
        };
        let keep = |at| {
            kept.push(at);
            Ok(())
        };
        let failure = each(&rows, |_| 1, None, send, keep).await.unwrap_err();
        assert_eq!((sent.get(), kept), (UNDER_WAY, vec![0, 2]));
        assert!(
            failure
                .to_string()
                .starts_with("stopped after 1000 of 5000")
        );
    }
}
