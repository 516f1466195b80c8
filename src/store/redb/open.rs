//! Opens the file, or says in one variant each why not. A file that is refused is left as it was.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase};

use crate::store::redb::overlay::Overlay;
use crate::store::redb::tables::{self, FORMAT};
use crate::store::redb::write::Tables;
use crate::store::{StoreError, TenantRow};

/// Pages that `redb` keeps in memory. A sidecar has its own cache of what matters; this one serves misses.
const CACHE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why the store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder that the file is to be in does not exist.
    #[error(
        "cannot make the store {path}: its folder does not exist; make the folder or choose another path"
    )]
    ParentMissing {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder may not be read and written.
    #[error(
        "no permission to read and write the store {path}; its file and folder must belong to the user that runs keystile"
    )]
    NoPermission {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Another process has it open.
    #[error(
        "the store {path} is in use by another keystile; stop that one, or give each its own store"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A version that we do not know has written it.
    #[error(
        "the store {path} has format {found}, and this keystile reads format {supported}; run the keystile that made it"
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        found: String,
        /// What we read and write.
        supported: u32,
    },
    /// It is cut short, changed, or no store at all.
    #[error(
        "the store {path} is damaged or no store: {problem}; restore it from a backup, or move it away to start with an empty one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Anything else that the system refuses.
    #[error("cannot open the store {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl OpenError {
    fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    fn from_io(path: &Path, error: io::Error) -> Self {
        use io::ErrorKind as K;
        let path = path.to_owned();
        match error.kind() {
            K::NotFound | K::NotADirectory => Self::ParentMissing { path },
            K::PermissionDenied | K::ReadOnlyFilesystem => Self::NoPermission { path, error },
            _ => Self::Io { path, error },
        }
    }

    fn from_redb(path: &Path, error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Self::InUse {
                    path: path.to_owned(),
                }
            }
            DatabaseError::UpgradeRequired(version) => Self::OtherVersion {
                path: path.to_owned(),
                found: format!("redb {version}"),
                supported: FORMAT,
            },
            // This is how redb says that it is not a redb file, or ends too early.
            DatabaseError::Storage(redb::StorageError::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::damaged(path, error.to_string())
            }
            DatabaseError::Storage(redb::StorageError::Io(error)) => Self::from_io(path, error),
            error => Self::damaged(path, error.to_string()),
        }
    }

    fn from_store(path: &Path, error: StoreError) -> Self {
        match error {
            StoreError::Damaged(problem)
            | StoreError::Unusable(problem)
            | StoreError::Lost(problem) => Self::damaged(path, problem),
            StoreError::Unavailable(error) => Self::Io {
                path: path.to_owned(),
                error: io::Error::other(error),
            },
        }
    }
}

/// What a store shows to who only looks at it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The keyring that it was made with; none when it was never used.
    pub keyring_id: Option<String>,
    /// Some of its tenants.
    pub tenants: Vec<TenantRow>,
}

/// How many tenants are shown: enough that one of them was made like all others.
const FACTS_TENANTS_MAX: usize = 100;

/// Opens the file when it is sound and `accept` takes it.
pub(super) fn open<E: From<OpenError>>(
    path: &Path,
    accept: impl FnOnce(&Facts) -> Result<(), E>,
) -> Result<Database, E> {
    let file = match open_file(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path)?;
            open_file(path).map_err(|error| OpenError::from_io(path, error))?
        }
        Err(error) => return Err(OpenError::from_io(path, error).into()),
    };
    let (examined, facts) = examine(path, file)?;
    accept(&facts)?;
    // Lets go of the file.
    drop(examined);
    let file = open_file(path).map_err(|error| OpenError::from_io(path, error))?;
    Ok(database(path, &builder(), file_backend(path, file)?)?)
}

/// Opens a file that is there, and never writes to it.
pub(super) fn open_to_read(path: &Path) -> Result<(Database, Facts), OpenError> {
    let file = open_file(path).map_err(|error| OpenError::from_io(path, error))?;
    examine(path, file)
}

pub(super) fn in_memory(path: &Path) -> Result<Database, OpenError> {
    let database = database(path, &builder(), InMemoryBackend::new())?;
    mark_new(&database).map_err(|error| OpenError::from_store(path, error))?;
    Ok(database)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES_MAX);
    builder
}

fn database(
    path: &Path,
    builder: &Builder,
    backend: impl redb::StorageBackend,
) -> Result<Database, OpenError> {
    builder
        .create_with_backend(backend)
        .map_err(|error| OpenError::from_redb(path, error))
}

fn file_backend(path: &Path, file: File) -> Result<FileBackend, OpenError> {
    FileBackend::new(file).map_err(|error| OpenError::from_redb(path, error))
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes a whole store beside `path` and then gives it that name, so that no crash leaves half a store there,
/// and two processes that start together end up with one store.
fn create(path: &Path) -> Result<(), OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{:016x}", rand::random::<u64>()));
    let new = PathBuf::from(name);
    let file = create_private(&new).map_err(|error| OpenError::from_io(path, error))?;
    let made = fill(path, file)
        .and_then(|()| publish(&new, path).map_err(|error| OpenError::from_io(path, error)));
    // It has the other name now, or is of no use. Failing to remove it harms nobody.
    drop(fs::remove_file(&new));
    made
}

fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    // A umask can only take bits away, but it could take the owner's.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

fn fill(path: &Path, file: File) -> Result<(), OpenError> {
    let database = database(path, &builder(), file_backend(path, file)?)?;
    mark_new(&database).map_err(|error| OpenError::from_store(path, error))
}

fn mark_new(database: &Database) -> Result<(), StoreError> {
    let txn = database.begin_write()?;
    Tables::open(&txn)?.mark_new()?;
    Ok(txn.commit()?)
}

fn publish(new: &Path, path: &Path) -> io::Result<()> {
    // Unlike a rename, a link never replaces what another process has put there meanwhile.
    match fs::hard_link(new, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// Refuses what we should not write to: a damaged file, or one of another version. Repairs, and whatever else is
/// written to the database that comes out, happen in memory.
fn examine(path: &Path, file: File) -> Result<(Database, Facts), OpenError> {
    let len = file
        .metadata()
        .map_err(|error| OpenError::from_io(path, error))?
        .len();
    if len == 0 {
        // redb would take it for a new one. We never make an empty file, so somebody has cut this one.
        return Err(OpenError::damaged(path, "the file is empty"));
    }
    let overlay = Overlay::over(file_backend(path, file)?)
        .map_err(|error| OpenError::from_io(path, error))?;
    let mut builder = builder();
    builder.set_check_integrity_on_open(true);
    let database = database(path, &builder, overlay)?;
    let (format, facts) = database
        .begin_read()
        .map_err(StoreError::from)
        .and_then(|txn| look(&txn))
        .map_err(|error| OpenError::from_store(path, error))?;
    match format {
        Some(format) if format == FORMAT.to_string() => Ok((database, facts)),
        Some(format) => Err(OpenError::OtherVersion {
            path: path.to_owned(),
            found: format,
            supported: FORMAT,
        }),
        None => Err(OpenError::damaged(path, "it has no format version")),
    }
}

/// The format, and the facts if it is ours.
fn look(txn: &ReadTransaction) -> Result<(Option<String>, Facts), StoreError> {
    let format = tables::format(txn)?;
    if format.as_deref() != Some(&FORMAT.to_string()) {
        return Ok((format, Facts::default()));
    }
    let facts = Facts {
        keyring_id: tables::keyring_id(txn)?,
        tenants: tables::tenants(txn, None, FACTS_TENANTS_MAX)?,
    };
    Ok((format, facts))
}

#[cfg(test)]
mod tests;
