//! What is wrong with a configuration, said so that it can be put right.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::file_access::{Exposure, NotText};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no config file {}; name it with `-c FILE`", .0.display())]
    Missing(PathBuf),
    #[error("cannot read config file {}", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("config file {} is larger than {max} bytes; is it the right file?", .path.display())]
    TooLarge { path: PathBuf, max: usize },
    #[error("config file {} {problem}", .path.display())]
    NotUtf8 { path: PathBuf, problem: NotText },
    #[error("config file {0}: whoever writes it decides who is let in")]
    Exposed(Exposure),
    #[error("{origin}: not valid YAML: {message}")]
    NotYaml { origin: String, message: String },
    #[error("{0}")]
    Mistakes(Mistakes),
}

/// Every mistake of one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// The file's name, or what stands for it.
    pub origin: String,
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            writeln!(out, "{mistake}")?;
        }
        let count = self.list.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            out,
            "{count} mistake{plural} in {}: correct the above and try again; `keystile config schema --markdown` explains every field",
            self.origin
        )
    }
}

/// One mistake: where, and what is wrong with what is allowed instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Path in the file, such as `authz.listen[1]`; empty for the file as a whole.
    pub path: String,
    pub message: String,
    /// The environment variable that brought the value, if one did.
    pub variable: Option<String>,
    /// Other fields that the mistake is about.
    pub(super) also: Vec<String>,
}

impl Mistake {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            variable: None,
            also: Vec::new(),
        }
    }

    pub(super) fn with(mut self, other: impl Into<String>) -> Self {
        self.also.push(other.into());
        self
    }

    /// Whether the two are about one field, or about a field and the section it is in.
    pub(super) fn shares_a_field_with(&self, other: &Self) -> bool {
        let related =
            |mine: &String, theirs: &String| is_within(mine, theirs) || is_within(theirs, mine);
        self.fields()
            .any(|mine| other.fields().any(|theirs| related(mine, theirs)))
    }

    /// Every field that the mistake is about.
    pub(super) fn fields(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.path).chain(&self.also)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "the top level"
        } else {
            &self.path
        };
        match &self.variable {
            Some(variable) => write!(out, "{path} (from {variable}): {}", self.message),
            None => write!(out, "{path}: {}", self.message),
        }
    }
}

/// Whether `path` is `outer` or a part of it.
pub(super) fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer)
        .is_some_and(|rest| outer.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// `outer.key`, with a key that would not read as one word in quotes.
pub(super) fn join(outer: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    match (outer.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{outer}.{key}"),
        (_, false) => format!("{outer}[{key:?}]"),
    }
}

/// The known name that a person most likely meant.
pub(crate) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    let distance_max = (written.chars().count() / 3).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(&written, name), name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}
