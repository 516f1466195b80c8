//! Log lines on their way to standard error: taken at once, written by a thread of their own.
//!
//! Whoever writes to a pipe that nobody reads, or to a terminal that is held, waits. That must never be a thread that
//! answers requests. So the queue is bounded, in bytes; a line that finds no place is dropped and counted, and how many
//! were is logged as soon as lines are taken again.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

use super::Throttle;
use super::metrics::Metrics;
use crate::clock::{Clock, SystemClock};

/// What waits at most: some four thousand lines.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// What a line costs beside its text.
const LINE_OVERHEAD: usize = 64;

thread_local! {
    /// Whether this is the thread that writes. What it logs itself always finds a place.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Lines that wait to be written, and what became of the others.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    lines: Mutex<Lines>,
    put: Condvar,
    written: Condvar,
    dropped: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// Of those that wait and the one that is being written.
    bytes: usize,
    /// How many there ever were, and how many of them are done with.
    taken: u64,
    done: u64,
}

impl LogQueue {
    /// The queue to standard error. Its thread starts with the first call.
    pub(super) fn stderr() -> io::Result<Arc<Self>> {
        static STDERR: OnceLock<Arc<LogQueue>> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock();
        if let Some(queue) = STDERR.get() {
            return Ok(Arc::clone(queue));
        }
        let queue = Arc::<Self>::default();
        let writer = Arc::clone(&queue);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_to(io::stderr(), report_dropped))?;
        Ok(Arc::clone(STDERR.get_or_init(|| queue)))
    }

    /// Takes a line, or drops it. Never waits.
    pub(super) fn put(&self, line: &[u8]) {
        let cost = line.len() + LINE_OVERHEAD;
        let mut lines = self.lines.lock();
        if lines.bytes + cost > QUEUE_BYTES_MAX && !IS_WRITER.get() {
            drop(lines);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lines.bytes += cost;
        lines.taken += 1;
        lines.waiting.push_back(line.to_vec());
        drop(lines);
        self.put.notify_one();
    }

    /// Waits until what was put so far is written, at most for `time_limit`.
    pub(super) fn flush(&self, time_limit: Duration) {
        let mut lines = self.lines.lock();
        let goal = lines.taken;
        self.written
            .wait_while_for(&mut lines, |lines| lines.done < goal, time_limit);
    }

    /// Writes lines for ever. `report` is called with how many were dropped, once lines are read again.
    fn write_to(&self, mut out: impl Write, report: impl Fn(u64)) {
        IS_WRITER.set(true);
        let throttle = Throttle::default();
        let mut reported = 0;
        loop {
            let line = self.next();
            if out.write_all(&line).is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            let is_last = self.finish(&line);
            let dropped = self.dropped.load(Ordering::Relaxed);
            // Now and then also while lines go on being dropped, because others write faster than we may.
            if dropped > reported && (is_last || throttle.admit(SystemClock.now()).is_some()) {
                report(dropped - reported);
                reported = dropped;
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut lines = self.lines.lock();
        loop {
            if let Some(line) = lines.waiting.pop_front() {
                return line;
            }
            self.put.wait(&mut lines);
        }
    }

    /// Whether no other line waits.
    fn finish(&self, line: &[u8]) -> bool {
        let mut lines = self.lines.lock();
        lines.bytes -= line.len() + LINE_OVERHEAD;
        lines.done += 1;
        self.written.notify_all();
        lines.waiting.is_empty()
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn report_dropped(lines: u64) {
    tracing::warn!(
        lines,
        "log lines were dropped: standard error did not take them in time"
    );
}

/// Shows what was lost.
pub fn observe(metrics: &Metrics) {
    let Ok(queue) = LogQueue::stderr() else {
        return;
    };
    metrics.counters(
        "keystile_log_lines_dropped",
        "Log lines that were not written: standard error was not read in time, or refused them.",
        move || {
            let count =
                |reason, count| (vec![opentelemetry::KeyValue::new("reason", reason)], count);
            vec![
                count("queue_full", queue.dropped()),
                count("write_failed", queue.failed.load(Ordering::Relaxed)),
            ]
        },
    );
}

/// Where `tracing` writes.
pub(super) struct ToQueue(pub(super) Arc<LogQueue>);

/// One line: `tracing` writes each whole, with one call.
pub(super) struct Line<'a>(&'a LogQueue);

impl<'a> MakeWriter<'a> for ToQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// A pipe whose writer waits until somebody reads.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(bytes.to_vec());
            sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (Arc<LogQueue>, Receiver<Vec<u8>>) {
        let (write, read) = sync_channel(0);
        let queue = Arc::<LogQueue>::default();
        let writer = Arc::clone(&queue);
        // Its own lines go through `put`, as those of `tracing` would.
        let report = {
            let queue = Arc::clone(&queue);
            move |lines| queue.put(format!("dropped {lines}").as_bytes())
        };
        thread::spawn(move || writer.write_to(Pipe(write), report));
        (queue, read)
    }

    #[test]
    fn what_finds_no_place_is_dropped_counted_and_told_when_lines_are_read_again() {
        let (queue, read) = start();
        let line = vec![b'x'; 20_000];
        for _ in 0..100 {
            queue.put(&line);
        }
        let place = QUEUE_BYTES_MAX / (line.len() + LINE_OVERHEAD);
        assert_eq!(queue.dropped(), (100 - place) as u64);
        for _ in 0..place {
            assert_eq!(read.recv_timeout(TIMEOUT).unwrap(), line);
        }
        let reported = read.recv_timeout(TIMEOUT).unwrap();
        assert_eq!(
            String::from_utf8(reported).unwrap(),
            format!("dropped {}", 100 - place)
        );
        queue.put(b"later");
        assert_eq!(read.recv_timeout(TIMEOUT).unwrap(), b"later", "told once");
    }

    #[test]
    fn a_flush_ends_when_nobody_reads_and_when_all_is_written() {
        let (queue, read) = start();
        queue.put(b"one");
        queue.flush(Duration::from_millis(1));
        assert_eq!(queue.lines.lock().done, 0);
        let reader = thread::spawn(move || read.recv_timeout(TIMEOUT).unwrap());
        queue.flush(TIMEOUT);
        assert_eq!(queue.lines.lock().done, 1);
        assert_eq!(reader.join().unwrap(), b"one");
    }

    #[test]
    fn an_output_that_refuses_lines_is_counted() {
        let (queue, read) = start();
        drop(read);
        queue.put(b"one");
        queue.flush(TIMEOUT);
        assert_eq!(queue.failed.load(Ordering::Relaxed), 1);
    }
}
