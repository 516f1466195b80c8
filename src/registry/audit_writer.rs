//! Audit entries of what changes no record: refusals and readings. They are written
//! asynchronously, so that no caller waits, and rate-limited, so that nobody can fill the store with them.
//!
//! The first of its kind is written at once. What repeats it within a [`WINDOW`] is counted, and the count is written
//! when the window ends. What does not fit the bounds is counted as dropped.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::domain::change::{Action, Actor};
use crate::domain::name::TenantId;
use crate::registry::Registry;
use crate::store::CommitError;

/// The most notes that wait to be looked at.
const QUEUE_MAX: usize = 1024;
/// In which time repetitions are one entry.
const WINDOW: Duration = Duration::from_secs(600);
/// The most tenants that are noted in a window.
const TENANTS_MAX: usize = 1024;
/// The most different notes on a tenant in a window: with their repetitions, twice as many entries.
const KINDS_MAX: usize = 32;
/// Longest wait for the store with one entry, and with all that is left at the end.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Before the next attempt at an entry whose place another one took.
const PAUSE: Duration = Duration::from_millis(20);

/// What is to be written.
#[derive(Clone, Debug)]
pub(super) struct Note {
    /// Into whose audit.
    pub(super) tenant: TenantId,
    /// Who.
    pub(super) actor: Actor,
    /// What.
    pub(super) action: Action,
    /// In words, with the numbers.
    pub(super) text: String,
}

/// Takes notes.
#[derive(Clone, Debug)]
pub(super) struct AuditWriter {
    queue: mpsc::Sender<Note>,
    /// Until somebody writes them.
    waiting: Arc<Mutex<Option<mpsc::Receiver<Note>>>>,
    dropped: Arc<AtomicU64>,
}

impl AuditWriter {
    pub(super) fn new() -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        Self {
            queue,
            waiting: Arc::new(Mutex::new(Some(waiting))),
            dropped: Arc::default(),
        }
    }

    /// Never waits.
    pub(super) fn note(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.drop_one();
        }
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often one note was taken in a window, after the first.
type Repeats = BTreeMap<(String, Action, String), (Actor, u64)>;

/// A tenant's window.
#[derive(Debug)]
struct Window {
    began: Timestamp,
    notes: Repeats,
    /// Notes beyond those that are told apart, as many as one entry can speak for.
    others: u64,
}

/// What was noted lately, by tenant.
#[derive(Debug, Default)]
struct Windows(BTreeMap<TenantId, Window>);

/// What becomes of a note.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Write,
    Count,
    Drop,
}

impl Windows {
    fn take(&mut self, note: &Note, now: Timestamp) -> Fate {
        let many = self.0.len() >= TENANTS_MAX;
        let window = match self.0.entry(note.tenant.clone()) {
            Slot::Occupied(window) => window.into_mut(),
            Slot::Vacant(_) if many => return Fate::Drop,
            Slot::Vacant(place) => place.insert(Window {
                began: now,
                notes: Repeats::new(),
                others: 0,
            }),
        };
        let full = window.notes.len() >= KINDS_MAX;
        let kind = (note.actor.to_string(), note.action, note.text.clone());
        match window.notes.entry(kind) {
            Slot::Occupied(mut seen) => {
                seen.get_mut().1 += 1;
                Fate::Count
            }
            Slot::Vacant(_) if full => {
                window.others += 1;
                Fate::Drop
            }
            Slot::Vacant(place) => {
                place.insert((note.actor.clone(), 0));
                Fate::Write
            }
        }
    }

    /// What is to be written of the windows that began until `until`, which are over with it.
    fn end(&mut self, until: Timestamp) -> Vec<Note> {
        let over = self.0.extract_if(.., |_, window| window.began <= until);
        over.flat_map(|(tenant, window)| window.repeated(&tenant))
            .collect()
    }
}

impl Window {
    fn repeated(self, tenant: &TenantId) -> Vec<Note> {
        let others = self.others;
        let repeated = self.notes.into_iter();
        let mut notes: Vec<Note> = repeated
            .filter(|(_, (_, count))| *count > 0)
            .map(|((_, action, text), (actor, count))| Note {
                tenant: tenant.clone(),
                actor,
                action,
                text: format!("{count} more times: {text}"),
            })
            .collect();
        if others > 0 {
            notes.push(Note {
                tenant: tenant.clone(),
                actor: Actor::Keystile,
                action: Action::EntriesDropped,
                text: format!(
                    "{others} refusals or readings of other kinds were not written one by one"
                ),
            });
        }
        notes
    }
}

impl Registry {
    /// How many notes were taken and never written one by one.
    pub fn notes_dropped(&self) -> u64 {
        self.audit_writer.dropped.load(Ordering::Relaxed)
    }

    /// Writes notes until `stop`, and then what is left of them. One at a time, each store call with a bound.
    pub async fn write_notes(&self, stop: CancellationToken) {
        let Some(mut queue) = self.audit_writer.waiting.lock().take() else {
            return;
        };
        let mut windows = Windows::default();
        let mut ends = interval(WINDOW / 10);
        ends.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(note) = queue.recv() => self.take_note(&mut windows, note).await,
                _ = ends.tick() => self.end_windows(&mut windows, self.now().minus(WINDOW)).await,
            }
        }
        let rest = async {
            while let Ok(note) = queue.try_recv() {
                self.take_note(&mut windows, note).await;
            }
            self.end_windows(&mut windows, Timestamp::MAX).await;
        };
        if timeout(TIMEOUT, rest).await.is_err() {
            let waiting = queue.len();
            tracing::warn!(
                waiting,
                "entries of the audit were not written before the end"
            );
        }
    }

    async fn take_note(&self, windows: &mut Windows, note: Note) {
        match windows.take(&note, self.now()) {
            Fate::Write => self.write_note(note).await,
            Fate::Count => {}
            Fate::Drop => self.audit_writer.drop_one(),
        }
    }

    async fn end_windows(&self, windows: &mut Windows, until: Timestamp) {
        for note in windows.end(until) {
            self.write_note(note).await;
        }
    }

    async fn write_note(&self, note: Note) {
        let problem = match timeout(TIMEOUT, self.try_write(&note)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        self.audit_writer.drop_one();
        let action = note.action.as_str();
        tracing::warn!(problem, action, "an entry of the audit was not written");
    }

    /// Nobody waits for it: it can wait for those who write all the time.
    async fn try_write(&self, note: &Note) -> Result<(), CommitError> {
        loop {
            let (actor, action) = (&note.actor, note.action);
            let written = self.append_entry(actor, (&note.tenant, None), action, &note.text);
            match written.await {
                Err(CommitError::Conflict) => tokio::time::sleep(PAUSE).await,
                written => return written,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(tenant: &str, text: &str) -> Note {
        Note {
            tenant: TenantId::parse(tenant).unwrap(),
            actor: Actor::Operator,
            action: Action::KeyRefused,
            text: text.to_string(),
        }
    }

    const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn a_flood_of_the_same_is_two_entries() {
        let mut windows = Windows::default();
        assert_eq!(windows.take(&note("acme", "full"), NOON), Fate::Write);
        for _ in 0..100_000 {
            assert_eq!(windows.take(&note("acme", "full"), NOON), Fate::Count);
        }
        assert!(windows.end(NOON.minus(WINDOW)).is_empty(), "not over yet");
        let written = windows.end(NOON);
        assert_eq!(written.len(), 1);
        assert_eq!(written[0].text, "100000 more times: full");
        assert_eq!(windows.take(&note("acme", "full"), NOON), Fate::Write);
    }

    #[test]
    fn a_flood_of_different_ones_is_bounded_and_says_what_is_missing() {
        let mut windows = Windows::default();
        let fates: Vec<Fate> = (0..1000)
            .map(|at| windows.take(&note("acme", &at.to_string()), NOON))
            .collect();
        let written = fates.iter().filter(|fate| **fate == Fate::Write).count();
        assert_eq!(written, KINDS_MAX);
        // Another tenant does not suffer.
        assert_eq!(windows.take(&note("other", "full"), NOON), Fate::Write);
        let rest = windows.end(NOON);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].action, Action::EntriesDropped);
        assert!(rest[0].text.starts_with("968 refusals"), "{}", rest[0].text);
    }

    #[test]
    fn a_flood_over_many_tenants_is_bounded() {
        let mut windows = Windows::default();
        for at in 0..TENANTS_MAX {
            let fate = windows.take(&note(&format!("t{at}"), "full"), NOON);
            assert_eq!(fate, Fate::Write);
        }
        assert_eq!(windows.take(&note("one-more", "full"), NOON), Fate::Drop);
        assert!(windows.end(NOON).is_empty());
        assert_eq!(windows.take(&note("one-more", "full"), NOON), Fate::Write);
    }
}
