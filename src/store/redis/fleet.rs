//! The sidecars that share a Redis: who lives, and who has applied a change.
//!
//! A control plane that wants to know writes a question in the slot of the index entry that it has just written.
//! Each server pushes its changes in order, so a sidecar that hears the question has heard of the entry before it. It
//! looks at the entry, and answers when it refuses the key: from then on it does, whatever becomes of the store. (While a cluster moves the slot, entry and question may be on two servers: then an answer may be ahead
//! of the change by a moment.) A sidecar writes nothing but its own heartbeat and answers.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep};

use super::RedisStore;
use super::{keyspace, scripts};
use crate::domain::key::LookupId;
use crate::store::{Sidecar, SidecarReport, StoreError};
use crate::telemetry::chain;

/// How often a sidecar says that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// A sidecar that has been silent for longer is not live, in ms: two heartbeats may be lost.
const LIVE_MS: &[u8] = b"7000";
/// After how long a silent one is forgotten, in ms.
const FORGOTTEN_MS: &[u8] = b"3600000";
/// How long a question and its answers are kept, in seconds: above the longest wait for them.
const QUESTION_SECONDS: u64 = 120;
/// How often answers are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// After how long a question is put again, to those that were deaf when it was put, or whose answer was lost.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How many questions are worked on at a time.
const ANSWERS_AT_ONCE: usize = 64;
/// The most questions that wait to be answered: what is beyond is not answered, and the sidecar is named as late.
const QUESTIONS_MAX: usize = 4096;

/// A process that is one of the fleet.
pub(super) struct Member {
    id: String,
    report: Box<dyn Fn() -> SidecarReport + Send + Sync>,
    has_left: AtomicBool,
}

/// Where questions that were heard go; nowhere in a process that is no sidecar.
#[derive(Default)]
pub(super) struct Questions(OnceLock<mpsc::Sender<String>>);

impl Questions {
    pub(super) fn heard(&self, question: &str) {
        if let Some(queue) = self.0.get()
            && queue.try_send(question.to_owned()).is_err()
        {
            tracing::debug!("too many questions of the control plane at once");
        }
    }
}

impl RedisStore {
    /// Makes this process one of the fleet: a sidecar that says it lives and answers whether it has applied what it
    /// was told. Before or while [`RedisStore::run`] runs; once.
    pub fn join_fleet(
        &self,
        id: String,
        report: impl Fn() -> SidecarReport + Send + Sync + 'static,
    ) {
        let member = Member {
            id,
            report: Box::new(report),
            has_left: AtomicBool::new(false),
        };
        if self.member.set(member).is_err() {
            tracing::error!("this process has joined the fleet before");
        }
    }

    /// Says goodbye, so that nobody waits for this process any more. Does nothing in one that is no sidecar.
    pub async fn leave_fleet(&self) {
        let Some(member) = self.member.get() else {
            return;
        };
        member.has_left.store(true, Ordering::Relaxed);
        let mut leave = redis::cmd("ZREM");
        leave.arg(self.names.fleet_live()).arg(&member.id);
        if let Err(error) = self.link.ask::<u8>(&leave).await {
            tracing::debug!(error = %chain(&error), "cannot tell the fleet that this sidecar stops");
        }
    }

    /// Does what a member does, for ever, as soon as this process is one.
    pub(super) async fn take_part(&self) {
        let member = self.member.wait().await;
        let (queue, questions) = mpsc::channel(QUESTIONS_MAX);
        if self.questions.0.set(queue).is_err() {
            return;
        }
        futures_util::future::join(self.beat(member), self.answer(member, questions)).await;
    }

    async fn beat(&self, member: &Member) {
        let mut ticks = interval(HEARTBEAT_EVERY);
        let mut told = false;
        loop {
            ticks.tick().await;
            if member.has_left.load(Ordering::Relaxed) {
                return;
            }
            match self.beat_once(member).await {
                // A store that cannot be reached says so itself.
                Ok(()) | Err(StoreError::Unavailable(_)) => {}
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(error = %chain(&error), "cannot tell the fleet that this sidecar lives");
                }
                Err(_) => {}
            }
        }
    }

    async fn beat_once(&self, member: &Member) -> Result<(), StoreError> {
        let says = (member.report)().encode();
        let keys = [self.names.fleet_live(), self.names.fleet_says()];
        let args = [member.id.as_bytes(), says.as_bytes(), FORGOTTEN_MS];
        let _done: u8 = self.link.run(&scripts::HEARTBEAT, &keys, &args).await?;
        Ok(())
    }

    async fn answer(&self, member: &Member, mut questions: mpsc::Receiver<String>) {
        stream::poll_fn(|context| questions.poll_recv(context))
            .for_each_concurrent(ANSWERS_AT_ONCE, |question| async move {
                if let Err(error) = self.answer_one(member, &question).await {
                    tracing::debug!(error = %chain(&error), "a question of the control plane stays unanswered");
                }
            })
            .await;
    }

    async fn answer_one(&self, member: &Member, question: &str) -> Result<(), StoreError> {
        let Some(lookup_id) = keyspace::parse_question_lookup(question) else {
            return Ok(());
        };
        if !self.watchers.refuse(lookup_id).await {
            tracing::debug!(%lookup_id, "a key was revoked, and the store does not show it here yet: not confirmed");
            return Ok(());
        }
        let answers = self.names.answers(question);
        let mut add = redis::cmd("SADD");
        add.arg(&answers).arg(&member.id);
        let mut expire = redis::cmd("EXPIRE");
        expire.arg(&answers).arg(QUESTION_SECONDS);
        // Both are on their way before the first has its answer.
        let (added, expires) =
            futures_util::future::join(self.link.ask::<u8>(&add), self.link.ask::<u8>(&expire))
                .await;
        added.and(expires).map(drop)
    }

    pub(super) async fn live_sidecars(&self) -> Result<Vec<Sidecar>, StoreError> {
        let keys = [self.names.fleet_live(), self.names.fleet_says()];
        let live: Vec<(Vec<u8>, Vec<u8>, i64)> =
            self.link.run(&scripts::FLEET, &keys, &[LIVE_MS]).await?;
        let mut all: Vec<Sidecar> = live
            .into_iter()
            .filter_map(|(id, says, silent_ms)| {
                let [id, says] = [id, says].map(|text| String::from_utf8_lossy(&text).into_owned());
                // One that says nonsense must not hide the others, nor be waited for.
                let report = SidecarReport::decode(&says);
                if report.is_none() {
                    tracing::warn!(sidecar = %id, "a heartbeat cannot be read");
                }
                Some(Sidecar {
                    id,
                    report: report?,
                    silent_for: Duration::from_millis(u64::try_from(silent_ms).unwrap_or(0)),
                })
            })
            .collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    /// Who of the live sidecars has not applied what was written of these entries, after `within` and one answer of
    /// the servers at most.
    pub(super) async fn late_sidecars(
        &self,
        lookup_ids: &[LookupId],
        within: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let until = Instant::now() + within;
        let live = self.live_sidecars().await?;
        let live: BTreeSet<String> = live.into_iter().map(|sidecar| sidecar.id).collect();
        let late = lookup_ids
            .iter()
            .map(|id| self.who_is_late(*id, &live, until));
        let late = try_join_all(late).await?;
        Ok(late
            .into_iter()
            .flatten()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect())
    }

    async fn who_is_late(
        &self,
        lookup_id: LookupId,
        live: &BTreeSet<String>,
        until: Instant,
    ) -> Result<BTreeSet<String>, StoreError> {
        let question = format!("{{{lookup_id}}}:{:016x}", rand::random::<u64>());
        let mut put = redis::cmd("SET");
        put.arg(self.names.question(&question)).arg("");
        put.arg("EX").arg(QUESTION_SECONDS);
        let mut get = redis::cmd("SMEMBERS");
        get.arg(self.names.answers(&question));
        let mut put_again_at = Instant::now();
        loop {
            if Instant::now() >= put_again_at {
                self.link.ask::<redis::Value>(&put).await?;
                put_again_at = Instant::now() + ASK_AGAIN_AFTER;
            }
            let answered = self.link.ask::<BTreeSet<String>>(&get).await?;
            let late: BTreeSet<_> = live.difference(&answered).cloned().collect();
            if late.is_empty() || Instant::now() >= until {
                return Ok(late);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
