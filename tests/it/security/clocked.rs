//! Whether the time of an answer tells two questions apart.

use std::time::{Duration, Instant};

use crate::harness::let_pass;

/// What must not be found between two kinds of question, beside what the fastest takes: on a busy machine everything
/// takes longer, and each change of threads varies by more. The network between an attacker and us varies by more still.
const TELLING: Duration = Duration::from_micros(700);
const ROUNDS: usize = 40;
/// A busy machine can disturb one measurement; a real difference is in each, and on the same side.
const TRIES: usize = 4;
/// By how many times what may be told apart a kind is made later, one after the other until it is seen.
const LONGER: [u32; 2] = [4, 32];
/// How often a kind is asked for at most.
pub(super) const QUESTIONS: usize = (1 + LONGER.len()) * TRIES * ROUNDS;

/// Asks every kind of question in turn, so that what disturbs one disturbs all; the times of each.
fn measure(kinds: usize, ask: &mut impl FnMut(usize, usize)) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::with_capacity(ROUNDS); kinds];
    for round in 0..ROUNDS {
        for at in 0..kinds {
            // Each kind comes first as often as last.
            let kind = (round + at) % kinds;
            let begun = Instant::now();
            ask(kind, round);
            times[kind].push(begun.elapsed());
        }
    }
    times
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap()
}

/// By how much `one` is later than `other`, in microseconds: the median of the differences within each round. A pause of
/// the machine moves some of them, never half.
fn gap(one: &[Duration], other: &[Duration]) -> i64 {
    let pairs = one.iter().zip(other);
    let mut gaps: Vec<i64> = pairs
        .map(|(one, other)| micros(*one) - micros(*other))
        .collect();
    gaps.sort_unstable();
    gaps[gaps.len() / 2]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What the times of an answer tell.
#[derive(Debug)]
struct Found {
    /// A kind that is later than another, that one, and by how many microseconds; if any could be told so.
    late: Option<(usize, usize, i64)>,
    /// From which difference on it could.
    telling: Duration,
}

fn look(times: &[Vec<Duration>]) -> Found {
    let fastest = times.iter().map(|times| median(times.clone())).min();
    let telling = TELLING + fastest.unwrap_or_default();
    let kinds = 0..times.len();
    let pairs = kinds
        .clone()
        .flat_map(|one| kinds.clone().map(move |other| (one, other)));
    let pairs = pairs.map(|(one, other)| (one, other, gap(&times[one], &times[other])));
    let widest = pairs.max_by_key(|(.., gap)| *gap);
    Found {
        late: widest.filter(|(.., gap)| *gap > micros(telling)),
        telling,
    }
}

/// A kind that is late time after time.
fn told_apart(kinds: usize, ask: &mut impl FnMut(usize, usize)) -> Found {
    let mut found = look(&measure(kinds, ask));
    for _ in 1..TRIES {
        let Some((late, ..)) = found.late else { break };
        found = look(&measure(kinds, ask));
        found.late = found.late.filter(|(again, ..)| *again == late);
    }
    found
}

/// `ask` gets the number of a kind and of a round. Fails if a kind takes longer than another; and, so that this is known
/// to be seen, makes sure that it fails when one is made to.
#[track_caller]
pub(super) fn check_no_time_tells(kinds: &[&str], mut ask: impl FnMut(usize, usize)) {
    let Found { late, telling } = told_apart(kinds.len(), &mut ask);
    if let Some((late, than, micros)) = late {
        panic!(
            "{} takes {micros} us longer than {}",
            kinds[late], kinds[than]
        );
    }
    let mut seen = Vec::new();
    // The noisier the machine, the more it takes to be seen.
    for more in LONGER {
        let mut slower = |kind: usize, round: usize| {
            ask(kind, round);
            if kind == 0 {
                let_pass(more * telling, "a difference that must be found");
            }
        };
        let found = told_apart(kinds.len(), &mut slower);
        if found.late.is_some_and(|(late, ..)| late == 0) {
            return;
        }
        seen.push(found);
    }
    panic!("a sleep was not seen: {seen:?}");
}

#[test]
fn a_difference_is_found_in_noise_and_noise_is_none() {
    let noise = |seed: u64| {
        let ms = move |round: u64| (round * 7919 + seed * 104_729) % 97 * 20;
        // One in ten waits for something else.
        (0..200u64).map(move |round| {
            Duration::from_micros(500 + ms(round) + if round % 10 == seed { 20_000 } else { 0 })
        })
    };
    let (one, other): (Vec<_>, Vec<_>) = (noise(1).collect(), noise(2).collect());
    assert!(gap(&one, &other).abs() < micros(TELLING));
    let slow: Vec<_> = other.iter().map(|time| *time + 2 * TELLING).collect();
    assert!(gap(&slow, &one) > micros(TELLING));
}
