//! Reading files that we trust: a pipe cannot hold us, a huge file cannot fill us, nothing is left in memory, and
//! nobody else has written it.
//!
//! Who may reach a file is settled as PostgreSQL does for its private keys. A secret belongs to us and is ours alone,
//! or it belongs to root and our group may read it, which is what a Kubernetes Secret volume looks like to a process
//! that is not root. All is asked of the open file, so that nobody can swap it between question and use; links are
//! followed.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::geteuid;
use zeroize::Zeroizing;

const ROOT: u32 = 0;
const WRITE_BY_OTHERS: u32 = 0o002;
const WRITE_BY_GROUP: u32 = 0o020;

/// Who may be able to reach a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// It holds nothing secret: anybody may read it, and not everybody write it.
    Anybody,
    /// It holds a secret: nobody but us and root.
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
    /// Others can reach it.
    Exposed(Exposure),
    /// It has more bytes than allowed.
    TooLarge,
}

/// How others can reach a file, and what is accepted instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    path: PathBuf,
    mode: u32,
    owner: u32,
    /// As whom we run.
    us: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody else than we and root owns it, and can do with it what they like.
    Foreign,
    /// A secret with more permissions than it may have.
    Readable,
    /// Everybody may write it.
    Writable,
    /// Its group may write it.
    GroupWritable,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mode, owner, us, ..
        } = self;
        let path = self.path.display();
        write!(f, "{path} ")?;
        match self.kind {
            Kind::Foreign => write!(
                f,
                "belongs to user {owner}, who can change it: it must belong to user {us}, as whom this runs, or to root; run `chown {us} {path}`"
            ),
            Kind::Readable if *owner == ROOT && *us != ROOT => write!(
                f,
                "has mode {mode:04o}: others can reach it; accepted is 0640 or less, as root owns it and this does not run as root (in a Kubernetes Secret volume: `defaultMode: 0440`, and `fsGroup` for the pod); elsewhere run `chmod 640 {path}`"
            ),
            Kind::Readable => write!(
                f,
                "has mode {mode:04o}: its group or others can reach it; accepted is 0600 or less; run `chmod 600 {path}`"
            ),
            Kind::Writable => write!(
                f,
                "has mode {mode:04o}: everybody can write it; run `chmod o-w {path}`"
            ),
            Kind::GroupWritable => write!(
                f,
                "has mode {mode:04o}: its group can write it; run `chmod g-w {path}` unless all of the group may decide what is in it"
            ),
        }
    }
}

/// The bytes of a file, at most `len_max`.
pub fn read(path: &Path, readers: Readers, len_max: usize) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (file, facts) = open(path)?;
    let who = Who::of(path, &facts);
    let exposure = match readers {
        Readers::Anybody => writers(&file, who).filter(|found| found.kind == Kind::Writable),
        Readers::OwnerAlone => secret(who),
    };
    match exposure {
        Some(exposure) => Err(Refusal::Exposed(exposure)),
        None => content(file, &facts, len_max),
    }
}

/// The bytes of a file that decides what we do, and who else may write it. One that everybody may write is refused.
pub fn read_settings(
    path: &Path,
    len_max: usize,
) -> Result<(Zeroizing<Vec<u8>>, Option<Exposure>), Refusal> {
    let (file, facts) = open_as(path, OFlag::empty())?;
    let regular = facts.is_file().then(|| Who::of(path, &facts));
    match regular.and_then(|who| writers(&file, who)) {
        Some(exposure) if exposure.kind == Kind::Writable => Err(Refusal::Exposed(exposure)),
        exposure => Ok((content(file, &facts, len_max)?, exposure)),
    }
}

/// How others can reach a secret that may as well be a pipe; none if they cannot.
pub fn exposure_of_secret(path: &Path, file: &File) -> io::Result<Option<Exposure>> {
    let facts = file.metadata()?;
    let regular = facts.is_file().then(|| Who::of(path, &facts));
    Ok(regular.and_then(secret))
}

/// Why keys must not be made in a folder, if others than we and root may write there.
pub fn exposure_of_folder(path: &Path, folder: &File) -> io::Result<Option<Exposure>> {
    let facts = folder.metadata()?;
    Ok(Who::of(path, &facts).can_write())
}

fn open(path: &Path) -> Result<(File, Metadata), Refusal> {
    // Without O_NONBLOCK a pipe in the file's place would hold us for ever.
    let (file, facts) = open_as(path, OFlag::O_NONBLOCK)?;
    if facts.is_file() {
        return Ok((file, facts));
    }
    let kind = match facts.is_dir() {
        true => "a folder",
        false => "a device or a pipe",
    };
    Err(Refusal::NotAFile { kind })
}

fn open_as(path: &Path, flags: OFlag) -> Result<(File, Metadata), Refusal> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::Missing,
            _ => Refusal::Unreadable(error),
        })?;
    let facts = file.metadata().map_err(Refusal::Unreadable)?;
    Ok((file, facts))
}

fn content(file: File, facts: &Metadata, len_max: usize) -> Result<Zeroizing<Vec<u8>>, Refusal> {
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

/// Whose a file is, what its mode lets others do, and who asks.
struct Who {
    path: PathBuf,
    mode: u32,
    owner: u32,
    us: u32,
}

impl Who {
    fn of(path: &Path, facts: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            mode: facts.mode() & 0o7777,
            owner: facts.uid(),
            us: geteuid().as_raw(),
        }
    }

    fn exposed(self, kind: Kind) -> Exposure {
        let Self {
            path,
            mode,
            owner,
            us,
        } = self;
        Exposure {
            path,
            mode,
            owner,
            us,
            kind,
        }
    }

    fn can_write(self) -> Option<Exposure> {
        let kind = if self.mode & WRITE_BY_OTHERS != 0 {
            Kind::Writable
        } else if self.owner != self.us && self.owner != ROOT {
            Kind::Foreign
        } else if self.mode & WRITE_BY_GROUP != 0 {
            Kind::GroupWritable
        } else {
            return None;
        };
        Some(self.exposed(kind))
    }
}

/// The rule of PostgreSQL's `check_ssl_key_file_permissions`.
fn secret(who: Who) -> Option<Exposure> {
    let kind = match who.owner {
        owner if owner == who.us && who.mode & 0o077 != 0 => Kind::Readable,
        owner if owner == who.us => return None,
        ROOT if who.mode & 0o037 != 0 => Kind::Readable,
        ROOT => return None,
        _ => Kind::Foreign,
    };
    Some(who.exposed(kind))
}

/// Who else may write a file. Nobody may on a file system that is mounted to be read, as ConfigMaps are.
fn writers(file: &File, who: Who) -> Option<Exposure> {
    let read_only = || fstatvfs(file).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY));
    who.can_write().filter(|_| !read_only())
}

/// Why bytes are not text that we read. Shown after the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotText {
    /// As PowerShell's `>` and Excel's "Unicode Text" write it.
    Utf16,
    /// Some other encoding.
    Other {
        /// Where it is first seen.
        line: usize,
    },
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf16 => f.write_str("is UTF-16 text: save it as UTF-8"),
            Self::Other { line } => write!(f, "is not UTF-8 text (line {line}): save it as UTF-8"),
        }
    }
}

/// The text of a file without its byte order mark.
pub fn utf8(bytes: &[u8]) -> Result<&str, NotText> {
    let marked = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    // Without a mark: every other byte of plain letters is zero.
    let zeros = bytes.iter().take(4).filter(|byte| **byte == 0).count();
    if marked || (bytes.len() >= 4 && zeros == 2) {
        return Err(NotText::Utf16);
    }
    let text = std::str::from_utf8(bytes).map_err(|wrong| {
        let good = bytes.iter().take(wrong.valid_up_to());
        NotText::Other {
            line: 1 + good.filter(|byte| **byte == b'\n').count(),
        }
    })?;
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u32 = 1000;
    const OTHER: u32 = 1001;

    fn who(mode: u32, owner: u32, us: u32) -> Who {
        let path = "/keys/a".into();
        Who {
            path,
            mode,
            owner,
            us,
        }
    }

    #[test]
    fn a_secret_is_ours_alone_or_roots_and_our_groups_to_read() {
        // owner, as whom we run, mode -> a word of the refusal
        for (owner, us, mode, refused) in [
            (US, US, 0o600, None),
            (US, US, 0o400, None),
            (US, US, 0o640, Some("chmod 600 /keys/a")),
            (US, US, 0o604, Some("chmod 600 /keys/a")),
            (ROOT, US, 0o440, None),
            (ROOT, US, 0o640, None),
            (ROOT, US, 0o400, None),
            (ROOT, US, 0o660, Some("defaultMode: 0440")),
            (ROOT, US, 0o650, Some("0640 or less")),
            (ROOT, US, 0o444, Some("fsGroup")),
            (ROOT, US, 0o644, Some("fsGroup")),
            (ROOT, ROOT, 0o600, None),
            (ROOT, ROOT, 0o640, Some("chmod 600 /keys/a")),
            (OTHER, US, 0o600, Some("belongs to user 1001")),
            (OTHER, ROOT, 0o600, Some("chown 0 /keys/a")),
        ] {
            let found = secret(who(mode, owner, us)).map(|found| found.to_string());
            match (found, refused) {
                (None, None) => {}
                (Some(found), Some(word)) => assert!(found.contains(word), "{found}"),
                (found, _) => panic!("{owner} {us} {mode:o}: {found:?}"),
            }
        }
    }

    #[test]
    fn settings_are_written_by_us_or_root() {
        for (owner, us, mode, word) in [
            (US, US, 0o644, None),
            (ROOT, US, 0o644, None),
            (US, US, 0o664, Some("its group can write it")),
            (US, US, 0o646, Some("everybody can write it")),
            (OTHER, US, 0o644, Some("belongs to user 1001")),
            (OTHER, ROOT, 0o644, Some("belongs to user 1001")),
        ] {
            let found = who(mode, owner, us)
                .can_write()
                .map(|found| found.to_string());
            let same = match (&found, word) {
                (Some(found), Some(word)) => found.contains(word),
                (found, word) => found.is_none() && word.is_none(),
            };
            assert!(same, "{owner} {us} {mode:o}: {found:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(utf8(b"\xEF\xBB\xBFks"), Ok("ks"));
        assert_eq!(utf8(b"ks"), Ok("ks"));
        assert_eq!(utf8(b""), Ok(""));
        for utf16 in [&b"\xFF\xFEk\0s\0"[..], b"\xFE\xFF\0k\0s", b"k\0s\0_\0"] {
            assert_eq!(utf8(utf16), Err(NotText::Utf16));
        }
        assert_eq!(utf8(b"a\nb\n\xE9"), Err(NotText::Other { line: 3 }));
    }
}
