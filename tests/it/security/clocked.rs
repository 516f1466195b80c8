//! Whether the time of an answer tells two questions apart.

use std::time::{Duration, Instant};

/// What must not be found between two kinds of question, beside half of what the fastest takes: on a busy machine
/// everything takes longer, and differs by more. The network between an attacker and us varies by more than either.
const TELLING: Duration = Duration::from_micros(700);
const ROUNDS: usize = 40;
/// A busy machine can disturb one measurement; a real difference is in each.
const TRIES: usize = 3;

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

/// The median of the differences within each round: a pause of the machine moves some of them, never half.
fn gap(one: &[Duration], other: &[Duration]) -> Duration {
    let mut gaps: Vec<i64> = one
        .iter()
        .zip(other)
        .map(|(one, other)| micros(*one) - micros(*other))
        .collect();
    gaps.sort_unstable();
    Duration::from_micros(gaps[gaps.len() / 2].unsigned_abs())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Two kinds that can be told apart by these times, if any can; and from which difference on they could.
struct Found {
    pair: Option<(usize, usize, Duration)>,
    telling: Duration,
}

fn look(times: &[Vec<Duration>]) -> Found {
    let fastest = times.iter().map(|times| median(times.clone())).min();
    let telling = TELLING + fastest.unwrap_or_default() / 2;
    let pairs = (0..times.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
    let pairs = pairs.map(|(one, other)| (one, other, gap(&times[one], &times[other])));
    let widest = pairs.max_by_key(|(.., gap)| *gap);
    Found {
        pair: widest.filter(|(.., gap)| *gap > telling),
        telling,
    }
}

/// The pair that is told apart time after time.
fn told_apart(kinds: usize, ask: &mut impl FnMut(usize, usize)) -> Found {
    let mut found = look(&measure(kinds, ask));
    for _ in 1..TRIES {
        if found.pair.is_none() {
            break;
        }
        found = look(&measure(kinds, ask));
    }
    found
}

/// `ask` gets the number of a kind and of a round. Fails if a kind takes longer than another; and, so that this is known
/// to be seen, makes sure that it fails when one is made to.
#[track_caller]
pub(super) fn check_no_time_tells(kinds: &[&str], mut ask: impl FnMut(usize, usize)) {
    let Found { pair, telling } = told_apart(kinds.len(), &mut ask);
    if let Some((one, other, gap)) = pair {
        panic!("{} and {} differ by {gap:?}", kinds[one], kinds[other]);
    }
    let mut slower = |kind: usize, round: usize| {
        ask(kind, round);
        if kind == 0 {
            std::thread::sleep(3 * telling);
        }
    };
    let seen = told_apart(kinds.len(), &mut slower).pair;
    assert!(
        seen.is_some_and(|(_, other, _)| other == 0),
        "a sleep was not seen: {seen:?}"
    );
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
    assert!(gap(&one, &other) < TELLING);
    let slow: Vec<_> = other.iter().map(|time| *time + 2 * TELLING).collect();
    assert!(gap(&one, &slow) > TELLING);
}
