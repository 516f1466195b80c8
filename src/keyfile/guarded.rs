//! Reading a file that holds keys: a pipe cannot hold us, a huge file cannot fill us, nothing is left in memory.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

/// Who may be able to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// It holds nothing secret.
    Anybody,
    /// Its mode must keep group and others out.
    OwnerAlone,
}

/// Why a file was not read. Who asked knows what it was to be.
#[derive(Debug)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// It could not be opened or read.
    Unreadable(io::Error),
    /// It is a folder, or else a device or a pipe.
    NotAFile {
        /// What it is.
        kind: &'static str,
    },
    /// Others can read it.
    TooOpen {
        /// Its mode.
        mode: u32,
    },
    /// It has more bytes than allowed.
    TooLarge,
}

/// The bytes of a file, at most `len_max`.
pub fn read(path: &Path, readers: Readers, len_max: usize) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    // Without O_NONBLOCK a pipe in the file's place would hold us for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::Missing,
            _ => Refusal::Unreadable(error),
        })?;
    // Asked of the open file, so that nobody can swap it between question and use.
    let facts = file.metadata().map_err(Refusal::Unreadable)?;
    check(&facts, readers)?;
    let room = usize::try_from(facts.len()).unwrap_or(len_max).min(len_max);
    // The full capacity at once: a growing buffer would leave unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 1));
    let limit = u64::try_from(len_max + 1).unwrap_or(u64::MAX);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(Refusal::Unreadable)?;
    if bytes.len() > len_max {
        return Err(Refusal::TooLarge);
    }
    Ok(bytes)
}

fn check(facts: &Metadata, readers: Readers) -> Result<(), Refusal> {
    if facts.is_dir() {
        return Err(Refusal::NotAFile { kind: "a folder" });
    }
    if !facts.is_file() {
        let kind = "a device or a pipe";
        return Err(Refusal::NotAFile { kind });
    }
    let mode = facts.mode() & 0o7777;
    if readers == Readers::OwnerAlone && mode & 0o077 != 0 {
        return Err(Refusal::TooOpen { mode });
    }
    Ok(())
}
