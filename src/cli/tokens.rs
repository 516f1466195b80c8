//! Files that take the tokens of new keys, which their owner alone can read: a table of many, or one token.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde_json::Value;

use crate::cli::Failure;
use crate::cli::csv::formulas;
use crate::cli::output::{self, Out};
use crate::proto::admin as pb;

const HEADER: [&str; 5] = ["tenant", "key_id", "name", "owner", "token"];

/// Keys that were made. Their tokens go into a file, if one takes them, and are shown else.
#[derive(Default)]
pub(super) struct MadeKeys {
    file: Option<TokensFile>,
    made: Vec<pb::CreateKeyResponse>,
}

impl MadeKeys {
    /// None yet.
    pub(super) fn into_file(path: Option<&Path>) -> Result<Self, Failure> {
        let file = path.map(TokensFile::make).transpose()?;
        let made = Vec::new();
        Ok(Self { file, made })
    }

    pub(super) fn add(&mut self, mut made: pb::CreateKeyResponse) -> Result<(), Failure> {
        if let Some(file) = &mut self.file {
            file.add(&made)?;
            made.plaintext.clear();
        }
        self.made.push(made);
        Ok(())
    }

    /// Puts on disk what was added: a token that is lost is not shown again.
    pub(super) fn keep(&mut self) -> Result<(), Failure> {
        self.file.as_mut().map_or(Ok(()), TokensFile::keep)
    }

    pub(super) fn len(&self) -> usize {
        self.made.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &pb::Key> {
        self.made.iter().filter_map(|made| made.key.as_ref())
    }

    /// For programs, with the tokens that no file took.
    pub(super) fn json(&self) -> Result<Vec<Value>, Failure> {
        self.made.iter().map(output::created_json).collect()
    }

    /// What is in the file, for people.
    pub(super) fn print_file(&self, out: &mut Out) -> Result<(), Failure> {
        match &self.file {
            Some(file) => out.line(format_args!(
                "tokens: {} in {}",
                file.rows,
                file.path.display()
            )),
            None => Ok(()),
        }
    }
}

/// Makes the file; one that is there may hold the only copy of somebody's tokens.
fn new_file(path: &Path, flag: &str) -> Result<File, Failure> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.map_err(|error| {
        let shown = path.display();
        Failure::failed(match error.kind() {
            io::ErrorKind::AlreadyExists => anyhow!(
                "{shown} exists already and may hold tokens\nhint: name another file with {flag}"
            ),
            _ => anyhow::Error::new(error).context(format!("cannot make {shown}")),
        })
    })
}

/// The file of one token.
pub(super) struct TokenFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl TokenFile {
    pub(super) fn make(path: &Path) -> Result<Self, Failure> {
        Ok(Self {
            file: new_file(path, "--token-file")?,
            path: path.to_owned(),
            kept: false,
        })
    }

    /// Puts the token on disk, with nothing around it.
    pub(super) fn keep(mut self, token: &str) -> Result<(), Failure> {
        self.kept = true;
        let kept = self.file.write_all(token.as_bytes());
        let kept = kept.and_then(|()| self.file.sync_data());
        kept.with_context(|| format!("cannot write {}", self.path.display()))
            .map_err(Failure::Failed)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        if !self.kept {
            // Without a token it would only be in the way of the next run.
            fs::remove_file(&self.path).ok();
        }
    }
}

struct TokensFile {
    path: PathBuf,
    rows: usize,
    table: csv::Writer<File>,
}

impl TokensFile {
    fn make(path: &Path) -> Result<Self, Failure> {
        let file = new_file(path, "--tokens-file")?;
        let mut made = Self {
            path: path.to_owned(),
            rows: 0,
            table: csv::Writer::from_writer(file),
        };
        made.write(HEADER)?;
        Ok(made)
    }

    fn add(&mut self, made: &pb::CreateKeyResponse) -> Result<(), Failure> {
        let key = made.key.clone().unwrap_or_default();
        let cells = [
            key.tenant_id.as_str(),
            &key.key_id,
            &key.display_name,
            &key.owner,
            &made.plaintext,
        ];
        self.rows += 1;
        self.write(cells)
    }

    fn keep(&mut self) -> Result<(), Failure> {
        let kept = self.table.flush();
        let kept = kept.and_then(|()| self.table.get_ref().sync_data());
        kept.with_context(|| format!("cannot write {}", self.path.display()))
            .map_err(Failure::Failed)
    }

    fn write(&mut self, cells: [&str; 5]) -> Result<(), Failure> {
        // Names are other people's words: nothing in the file may be calculated, beside tokens least of all.
        self.table
            .write_record(cells.map(|cell| formulas::defuse(cell).into_owned()))
            .with_context(|| format!("cannot write {}", self.path.display()))
            .map_err(Failure::Failed)
    }
}

impl Drop for TokensFile {
    fn drop(&mut self) {
        if self.rows == 0 {
            // Without tokens it would only be in the way of the next run.
            fs::remove_file(&self.path).ok();
        }
    }
}
