//! Keyring files: read with care, made once, never overwritten by accident.
//!
//! A file that we make is for its owner alone (mode 0600), in a folder that others cannot write. It appears whole or not at all: it is written beside its place,
//! synced, and moved there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::config::{self, KeyringSource};
use crate::crypto::keyring::{FILE_LEN_MAX, Keyring, KeyringError, Ring, UnwrapError};
use crate::crypto::signing;
use crate::file_access::{self, Exposure, Readers, Refusal};

/// Why a keyring could not be read or written. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyfileError {
    /// There is no such file.
    #[error("there is no keyring at {}: make one with `keystile keyring init --dir {}{}`", path.display(), folder(path).display(), named(*ring))]
    Missing {
        /// Where it should be.
        path: PathBuf,
        ring: Ring,
    },
    /// It is a folder, a device or a pipe.
    #[error("{} is {kind}, but a keyring file is needed", path.display())]
    NotAFile { path: PathBuf, kind: &'static str },
    /// Others can reach it.
    #[error("{0}")]
    TooOpen(Exposure),
    /// Others can write into the folder for it.
    #[error(
        "keys cannot be made in a folder that others can write: {0}; or name another one with --dir"
    )]
    OpenFolder(Exposure),
    /// It is too large to be a keyring.
    #[error("{} is larger than {FILE_LEN_MAX} bytes: this is not a keyring", path.display())]
    TooLarge { path: PathBuf },
    /// It is not text.
    #[error("{} is not text: this is not a keyring, or it is damaged; restore it from its backup", path.display())]
    NotText { path: PathBuf },
    /// Its content cannot be used.
    #[error("cannot use {}{}", path.display(), advice(source))]
    Content {
        path: PathBuf,
        #[source]
        source: KeyringError,
    },
    /// It could not be opened or read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is there already.
    #[error("{} exists already: a keyring is never overwritten, because everything sealed with it would be lost", path.display())]
    Exists { path: PathBuf },
    /// It could not be written; what was there before is there still.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// Which file or folder.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is another keyring than the one that the store was made with.
    #[error(
        "the store {location} was made with keyring {remembered}, but the data keyring given is {given}: give the keyring that belongs to it, or another store; nothing was changed"
    )]
    Foreign {
        location: String,
        /// The id of the keyring that it was made with.
        remembered: String,
        /// The id of the keyring that was given.
        given: String,
    },
    /// The store does not remember its keyring any more, and the one given opens none of its tenants.
    #[error(
        "the store {location} has lost its root record, and the data keyring given, {given}, opens none of its tenants: start a control plane with the keyring that belongs to it, which puts the record back; nothing was changed"
    )]
    ForeignTenants {
        location: String,
        /// The id of the keyring that was given.
        given: String,
    },
    /// The store's tokens were sealed with another vault keyring.
    #[error(
        "the vault keyring given does not open what the store {location} keeps: give the keyring that belongs to it; nothing was changed"
    )]
    ForeignVault {
        location: String,
        #[source]
        source: UnwrapError,
    },
    /// The environment variable is not set.
    #[error("the environment variable {name} is not set, but `keyring` in the config names it")]
    VariableMissing { name: String },
    /// The environment variable cannot be used.
    #[error("cannot use the environment variable {name}")]
    Variable {
        name: String,
        #[source]
        source: KeyringError,
    },
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

/// `init` alone makes what every installation needs.
fn named(ring: Ring) -> &'static str {
    match ring {
        Ring::Data | Ring::Vault => "",
        Ring::Signing => " --ring signing",
    }
}

fn advice(source: &KeyringError) -> &'static str {
    match source {
        KeyringError::CutShort | KeyringError::Damaged | KeyringError::Line { .. } => {
            " (restore it from its backup)"
        }
        KeyringError::OtherRing { .. } => " (are the files of `keyring` swapped in the config?)",
        KeyringError::NotAKeyring | KeyringError::NotASingleKey => "",
    }
}

/// The name of a ring's file in a keyring folder.
pub fn file_name(ring: Ring) -> String {
    format!("{}.keyring", ring.as_str())
}

/// Reads a keyring from where the config says.
pub fn load(source: &KeyringSource, ring: Ring) -> Result<Keyring, KeyfileError> {
    match source {
        KeyringSource::File(path) => load_file(path, ring),
        KeyringSource::Env(name) => from_variable(name, config::variable(name).as_ref(), ring),
    }
}

fn from_variable(
    name: &str,
    content: Option<&Zeroizing<String>>,
    ring: Ring,
) -> Result<Keyring, KeyfileError> {
    let content = content.ok_or_else(|| KeyfileError::VariableMissing {
        name: name.to_owned(),
    })?;
    Keyring::from_single_key(ring, content).map_err(|source| KeyfileError::Variable {
        name: name.to_owned(),
        source,
    })
}

/// Reads a keyring file.
pub fn load_file(path: &Path, ring: Ring) -> Result<Keyring, KeyfileError> {
    let bytes = read(path, ring)?;
    let text =
        file_access::utf8(&bytes).map_err(|_| KeyfileError::NotText { path: path.into() })?;
    Keyring::parse(text, ring).map_err(|source| KeyfileError::Content {
        path: path.into(),
        source,
    })
}

fn read(path: &Path, ring: Ring) -> Result<Zeroizing<Vec<u8>>, KeyfileError> {
    let refused = |refusal| {
        let path = path.to_owned();
        match refusal {
            Refusal::Missing => KeyfileError::Missing { path, ring },
            Refusal::Unreadable(source) => KeyfileError::Unreadable { path, source },
            Refusal::NotAFile { kind } => KeyfileError::NotAFile { path, kind },
            Refusal::Exposed(exposure) => KeyfileError::TooOpen(exposure),
            Refusal::TooLarge => KeyfileError::TooLarge { path },
        }
    };
    file_access::read(path, Readers::OwnerAlone, FILE_LEN_MAX).map_err(refused)
}

/// Whether a store that remembers the keyring id `remembered` was made with this `data` keyring.
pub fn check_belongs(location: &str, remembered: &str, data: &Keyring) -> Result<(), KeyfileError> {
    if remembered == data.id() {
        return Ok(());
    }
    Err(KeyfileError::Foreign {
        location: location.to_owned(),
        remembered: remembered.to_owned(),
        given: data.id().to_owned(),
    })
}

/// Makes new keyrings in a folder, which is made if it is not there. When one of them exists, none is made.
pub fn init(
    dir: &Path,
    rings: &[Ring],
    now: Timestamp,
) -> Result<Vec<(PathBuf, Keyring)>, KeyfileError> {
    make_dir(dir)?;
    let _lock = lock(dir)?;
    let paths: Vec<PathBuf> = rings
        .iter()
        .map(|ring| dir.join(file_name(*ring)))
        .collect();
    if let Some(path) = paths.iter().find(|path| fs::symlink_metadata(path).is_ok()) {
        return Err(KeyfileError::Exists { path: path.clone() });
    }
    let mut made = Vec::with_capacity(rings.len());
    for (ring, path) in rings.iter().zip(paths) {
        let keyring = Keyring::generate(*ring, now, &mut rand::rng());
        write(&path, &keyring.to_text(), Place::MustBeFree)?;
        made.push((path, keyring));
    }
    Ok(made)
}

/// Adds a version to a keyring and makes it the active one. Two at once do not lose one another's version.
pub fn rotate(dir: &Path, ring: Ring, now: Timestamp) -> Result<(PathBuf, Keyring), KeyfileError> {
    let path = dir.join(file_name(ring));
    if !dir.is_dir() {
        return Err(KeyfileError::Missing { path, ring });
    }
    let _lock = lock(dir)?;
    let mut keyring = load_file(&path, ring)?;
    match ring {
        Ring::Signing => signing::rotate(&mut keyring, now, &mut rand::rng()),
        Ring::Data | Ring::Vault => keyring.rotate(now, &mut rand::rng()),
    };
    write(&path, &keyring.to_text(), Place::MayBeTaken)?;
    Ok((path, keyring))
}

fn make_dir(dir: &Path) -> Result<(), KeyfileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| KeyfileError::Unwritable {
            path: dir.into(),
            source,
        })
}

/// Held until dropped. The folder itself is locked, so that no lock file stays behind.
fn lock(dir: &Path) -> Result<File, KeyfileError> {
    let unwritable = |source| KeyfileError::Unwritable {
        path: dir.into(),
        source,
    };
    let folder = File::open(dir).map_err(unwritable)?;
    folder.lock().map_err(unwritable)?;
    // Whoever can write there can put other keys in the place of ours.
    match file_access::exposure_of_folder(dir, &folder).map_err(unwritable)? {
        Some(exposure) => Err(KeyfileError::OpenFolder(exposure)),
        None => Ok(folder),
    }
}

/// Whether a file may be replaced.
#[derive(Clone, Copy)]
enum Place {
    MustBeFree,
    MayBeTaken,
}

fn write(path: &Path, text: &str, place: Place) -> Result<(), KeyfileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = write_new(&beside, text).and_then(|()| match place {
        // A link, unlike a rename, fails when the name is taken.
        Place::MustBeFree => fs::hard_link(&beside, path).and_then(|()| fs::remove_file(&beside)),
        Place::MayBeTaken => fs::rename(&beside, path),
    });
    // Without this the new name may not survive a power cut.
    let synced = written.and_then(|()| File::open(folder(path))?.sync_all());
    synced.map_err(|source| {
        // The first failure is the one to report; the half-written file is removed as well as can be.
        fs::remove_file(&beside).ok();
        match source.kind() {
            io::ErrorKind::AlreadyExists => KeyfileError::Exists { path: path.into() },
            _ => KeyfileError::Unwritable {
                path: path.into(),
                source,
            },
        }
    })
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // Left over from a process that was killed and had our number: nobody else writes here, we hold the lock.
    fs::remove_file(path).ok();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
