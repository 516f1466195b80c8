//! How tests wait: until something holds, within a bound that no busy machine reaches; and for a time only where the
//! passing of time is what is tested.
//!
//! No other file of the tests may sleep; the tidy test sees to it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything a busy machine may be slow at.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks: short at first, longer when it takes long.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What a look finds: what was waited for, or what is there instead.
pub(crate) trait Look {
    type Found;

    fn found(self) -> Result<Self::Found, impl Debug>;
}

impl Look for bool {
    type Found = ();

    fn found(self) -> Result<(), impl Debug> {
        self.then_some(()).ok_or("not so")
    }
}

impl<T> Look for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, impl Debug> {
        self.ok_or("nothing")
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, impl Debug> {
        self
    }
}

/// The looks of one wait.
struct Looks<'a> {
    what: &'a str,
    bound: Duration,
    begun: Instant,
    pause: Duration,
}

impl<'a> Looks<'a> {
    fn at(what: &'a str) -> Self {
        Self {
            what,
            bound: PATIENCE,
            begun: Instant::now(),
            pause: PAUSES[0],
        }
    }

    /// What was found, or how long to pause; panics when there was time enough.
    #[track_caller]
    fn judge<L: Look>(&mut self, look: L) -> Result<L::Found, Duration> {
        let instead = match look.found() {
            Ok(found) => return Ok(found),
            Err(instead) => instead,
        };
        let what = self.what;
        assert!(
            self.begun.elapsed() < self.bound,
            "waited in vain: {what}: {instead:?}"
        );
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSES[1]);
        Err(pause)
    }
}

/// Asks again and again until there is an answer; panics with `what` and the last look when there is none in time.
#[track_caller]
pub(crate) fn wait_for<L: Look>(what: &str, mut look: impl FnMut() -> L) -> L::Found {
    let mut looks = Looks::at(what);
    loop {
        match looks.judge(look()) {
            Ok(found) => return found,
            Err(pause) => thread::sleep(pause),
        }
    }
}

/// The same for what is asked of a task.
pub(crate) async fn wait_until<L: Look, F: Future<Output = L>>(
    what: &str,
    look: impl FnMut() -> F,
) -> L::Found {
    wait_within(PATIENCE, what, look).await
}

/// The same for what takes long by itself.
pub(crate) async fn wait_within<L: Look, F: Future<Output = L>>(
    bound: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> L::Found {
    let mut looks = Looks {
        bound,
        ..Looks::at(what)
    };
    loop {
        match looks.judge(look().await) {
            Ok(found) => return found,
            Err(pause) => tokio::time::sleep(pause).await,
        }
    }
}

/// How long something takes, and how long it would if nobody else wanted the processor.
pub(crate) struct Stopwatch {
    begun: Instant,
    pids: Vec<String>,
    before: BTreeMap<String, [u64; 2]>,
}

impl Stopwatch {
    /// `pids` are the programs that work beside this one.
    pub(crate) fn start(pids: &[u32]) -> Self {
        let pids = pids.iter().map(u32::to_string).chain(["self".to_owned()]);
        let pids: Vec<_> = pids.collect();
        Self {
            begun: Instant::now(),
            before: threads(&pids),
            pids,
        }
    }

    /// The time since, without the part for which the threads of the programs waited for a processor.
    pub(crate) fn unhurried(&self) -> Duration {
        let took = self.begun.elapsed();
        let mut all = [0; 2];
        for (thread, now) in threads(&self.pids) {
            let before = self.before.get(&thread).copied().unwrap_or_default();
            for at in 0..2 {
                all[at] += now[at].saturating_sub(before[at]);
            }
        }
        let [ran, waited] = all.map(Duration::from_nanos);
        took.mul_f64(ran.as_secs_f64() / (ran + waited).as_secs_f64().max(f64::MIN_POSITIVE))
    }
}

/// How long each thread has run and has waited for a processor, in ns.
fn threads(pids: &[String]) -> BTreeMap<String, [u64; 2]> {
    let mut all = BTreeMap::new();
    for pid in pids {
        // A thread may end while we look.
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
            if let (Some(ran), Some(waited)) = (numbers.next(), numbers.next()) {
                all.insert(task.path().display().to_string(), [ran, waited]);
            }
        }
    }
    all
}

/// Lets a time pass that is itself what is tested, or that paces a load; `why` says which. No verdict may need that no
/// more passes.
pub(crate) fn let_pass(time: Duration, why: &'static str) {
    assert!(!why.is_empty(), "a fixed pause has a reason");
    thread::sleep(time);
}

/// The same on a task.
pub(crate) async fn pass(time: Duration, why: &'static str) {
    assert!(!why.is_empty(), "a fixed pause has a reason");
    tokio::time::sleep(time).await;
}
