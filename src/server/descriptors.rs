//! File descriptors: as many as the system allows, and some of them kept back.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// For the store, for files that are read again, and for a connection that is accepted to be refused.
const SPARE: usize = 24;
/// What is kept for `ops`: probes and metrics are asked most when all else is taken.
const FOR_OPS: usize = 8;

/// Raises what this process may have to what it may raise itself to; answers the bound.
pub(super) fn raise_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return usize::MAX;
    };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    let limit = if raised.is_ok() { hard } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[derive(Debug)]
pub(super) struct Descriptors {
    taken: AtomicUsize,
    room: usize,
}

impl Descriptors {
    /// What is left when everything else is open.
    pub(super) fn left_of(limit: usize) -> Self {
        // Where the system does not show them, they are guessed.
        let open = fs::read_dir("/proc/self/fd").map_or(64, Iterator::count);
        Self::with_room(limit.saturating_sub(open + SPARE).max(FOR_OPS + 2))
    }

    pub(super) fn with_room(room: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            room,
        }
    }

    /// How many connections fit.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Takes one, if there is one for this listener.
    pub(super) fn take(&self, listener: &str) -> bool {
        let room = match listener {
            "ops" => self.room,
            _ => self.room - FOR_OPS.min(self.room),
        };
        let fits = self.taken.fetch_add(1, Ordering::Relaxed) < room;
        if !fits {
            self.give_back();
        }
        fits
    }

    /// Takes one of the spare ones, in place of one that is about to be given back.
    pub(super) fn take_over(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_has_some_when_the_others_have_none() {
        let descriptors = Descriptors::with_room(FOR_OPS + 2);
        let taken = |listener: &str| (0..100).filter(|_| descriptors.take(listener)).count();
        assert_eq!(taken("authz"), 2);
        assert_eq!(taken("admin"), 0);
        assert_eq!(taken("ops"), FOR_OPS);
        descriptors.give_back();
        assert_eq!(taken("authz"), 0, "what is kept back comes first");
        assert_eq!(taken("ops"), 1);
    }
}
