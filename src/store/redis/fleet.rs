//! The sidecars that share a Redis: who lives, and who has applied a change.
//!
//! A control plane that wants to know writes a question in the slot of the index entry that it has just written.
//! Each server pushes its changes in order, so a sidecar that receives the question has received the change of the
//! entry before it. It looks at the entry, and answers when it refuses the key: from then on it does, whatever becomes
//! of the store. (While a cluster moves the slot, entry and question may be on two servers: then an answer may be ahead
//! of the change by a moment.) A sidecar writes nothing but its own heartbeat and answers.
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep};

use super::link::Live;
use super::{Access, RedisStore, keyspace, time};
use crate::domain::key::LookupId;
use crate::store::damage::Entry;
use crate::store::{Confirmed, Sidecar, SidecarReport, StoreError};
use crate::telemetry::chain;

/// How often a sidecar says that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// A sidecar that has been silent for longer is not live, in ms: two heartbeats may be lost.
const LIVE_MS: i64 = 7_000;
/// After how long a silent one is forgotten, in ms.
const FORGOTTEN_MS: i64 = 3_600_000;
/// How many of them at a time.
const FORGOTTEN_AT_ONCE: usize = 1000;
/// The most sidecars that are believed to live: a stolen one can say that there are more, and all of them would be read by
/// each of the others every two seconds. The oldest heartbeat comes first.
const LIVE_MAX: usize = 10_000;
/// How long a question and its answers are kept, in seconds: above the longest wait for them.
const QUESTION_SECONDS: u64 = 120;
/// How often answers are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// After how long a question is put again, to those that had lost tracking when it was put, or whose answer was lost.
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

/// Where questions that arrive go; nowhere in a process that is no sidecar.
#[derive(Default)]
pub(super) struct Questions(OnceLock<mpsc::Sender<String>>);

impl Questions {
    pub(super) fn queue(&self, question: &str) {
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
            tracing::debug!(error = %chain(&error), "failed to announce the stop of this sidecar");
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
        let mut logged = None;
        loop {
            ticks.tick().await;
            if member.has_left.load(Ordering::Relaxed) {
                return;
            }
            let failed = match self.beat_once(member).await {
                Ok(()) => None,
                // A store that cannot be reached says so itself.
                Err(_) if !self.link.is_connected() => continue,
                Err(error) => Some(chain(&error).to_string()),
            };
            if failed == logged {
                continue;
            }
            match &failed {
                Some(error) => tracing::warn!(
                    %error,
                    "failed to write this sidecar's heartbeat: `keystile fleet` does not show it, and nobody waits for it after a revocation"
                ),
                None => tracing::info!("this sidecar's heartbeats are written again"),
            }
            logged = failed;
        }
    }

    /// Also to a store that has lost its data: then a control plane that starts does not take it for a new one.
    async fn beat_once(&self, member: &Member) -> Result<(), StoreError> {
        let report = (member.report)().encode();
        let live = self.link.live_unguarded()?;
        let now = time::server_time(&live).await?;
        let mut add = redis::cmd("ZADD");
        add.arg(self.names.fleet_live()).arg(now).arg(&member.id);
        let mut write_report = redis::cmd("HSET");
        write_report
            .arg(self.names.fleet_reports())
            .arg(&member.id)
            .arg(report);
        let (added, written) =
            futures_util::future::join(live.ask::<u8>(&add), live.ask::<u8>(&write_report)).await;
        added.and(written).map(drop)
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

    /// The sidecars that live. Where somebody wrote something else into their list it is made anew, and they are in it
    /// again with their next heartbeat, which is waited for.
    pub(super) async fn live_sidecars(&self) -> Result<Vec<Sidecar>, StoreError> {
        match self.read_live_sidecars().await {
            Err(StoreError::Damaged(why)) if self.access == Access::Write => {
                self.damage.met(Entry::Lists, None, &why);
                self.mend_fleet().await?;
                sleep(HEARTBEAT_EVERY).await;
                self.read_live_sidecars().await
            }
            read => read,
        }
    }

    async fn read_live_sidecars(&self) -> Result<Vec<Sidecar>, StoreError> {
        let live = self.link.live()?;
        let now = time::server_time(&live).await?;
        if self.access == Access::Write {
            self.forget_silent(&live, now).await?;
        }
        let mut recent = redis::cmd("ZRANGEBYSCORE");
        recent.arg(self.names.fleet_live()).arg(now - LIVE_MS);
        recent.arg("+inf").arg("WITHSCORES");
        recent.arg("LIMIT").arg(0).arg(LIVE_MAX);
        let recent: Vec<(Vec<u8>, f64)> = live.ask(&recent).await?;
        if recent.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = redis::cmd("HMGET");
        get.arg(self.names.fleet_reports());
        for (id, _) in &recent {
            get.arg(id);
        }
        let reports: Vec<Option<Vec<u8>>> = live.ask(&get).await?;
        let mut unreadable = 0;
        let mut all: Vec<Sidecar> = recent
            .into_iter()
            .zip(reports)
            .filter_map(|((id, last_heartbeat), report)| {
                let [id, report] =
                    [id, report?].map(|text| String::from_utf8_lossy(&text).into_owned());
                // One that says nonsense must not hide the others, nor be waited for.
                let report = SidecarReport::decode(&report);
                unreadable += usize::from(report.is_none());
                Some(Sidecar {
                    id,
                    report: report?,
                    silent_for: silent_for(now, last_heartbeat),
                })
            })
            .collect();
        if unreadable > 0 {
            tracing::warn!(unreadable, "heartbeats of sidecars cannot be read");
        }
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    /// Forgets who has been silent for long, and writes something: where Redis refuses that, no sidecar can say that it
    /// lives, and a list without them would be untrue.
    async fn forget_silent(&self, live: &Live<'_>, now: i64) -> Result<(), StoreError> {
        let mut probe = redis::cmd("SET");
        probe.arg(self.names.fleet_probe()).arg(now);
        probe.arg("EX").arg(QUESTION_SECONDS);
        live.ask::<redis::Value>(&probe).await?;
        let mut gone = redis::cmd("ZRANGEBYSCORE");
        gone.arg(self.names.fleet_live()).arg("-inf");
        gone.arg(now - FORGOTTEN_MS).arg("LIMIT").arg(0);
        gone.arg(FORGOTTEN_AT_ONCE);
        let gone: Vec<Vec<u8>> = live.ask(&gone).await?;
        if gone.is_empty() {
            return Ok(());
        }
        for (command, from) in [
            ("HDEL", self.names.fleet_reports()),
            ("ZREM", self.names.fleet_live()),
        ] {
            let mut remove = redis::cmd(command);
            remove.arg(from).arg(&gone);
            let _count: u64 = live.ask(&remove).await?;
        }
        Ok(())
    }

    /// Who of the live sidecars has not applied what was written of these entries, after `within` and one answer of
    /// the servers at most.
    pub(super) async fn late_sidecars(
        &self,
        lookup_ids: &[LookupId],
        within: Duration,
    ) -> Result<Confirmed, StoreError> {
        let until = Instant::now() + within;
        let live = self.live_sidecars().await?;
        let live: BTreeSet<String> = live.into_iter().map(|sidecar| sidecar.id).collect();
        let late = lookup_ids
            .iter()
            .map(|id| self.who_is_late(*id, &live, until));
        let late = try_join_all(late).await?;
        let late: BTreeSet<String> = late.into_iter().flatten().collect();
        Ok(Confirmed {
            by: live.len() - late.len(),
            late: late.into_iter().collect(),
        })
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

#[expect(
    clippy::cast_possible_truncation,
    reason = "a time in ms, which we wrote; any other is cut off"
)]
fn silent_for(now: i64, last_heartbeat: f64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(last_heartbeat as i64)).unwrap_or(0))
}
