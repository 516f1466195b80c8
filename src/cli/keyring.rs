//! `keystile keyring`: makes and rotates the keyring files.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::Failure;
use crate::cli::output::{self, Form, Out};
use crate::clock::{Clock as _, SystemClock};
use crate::crypto::keyring::{Keyring, Ring};
use crate::crypto::signing;
use crate::keyfile::{self, KeyfileError};

#[derive(Debug, clap::Args)]
pub(super) struct KeyringArgs {
    #[command(subcommand)]
    command: KeyringCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyringCommand {
    /// Make new keyrings; one that exists is never overwritten
    #[command(
        after_help = "Keep a backup of these files: what is sealed with a lost keyring is lost.
A sidecar needs data.keyring alone; keep vault.keyring on the control plane.
The keyring for the signed context (docs/SIGNED_CONTEXT.md) is made when it is named.

Examples:
  keystile keyring init --dir keys
  keystile keyring init --dir keys --ring signing"
    )]
    Init {
        #[command(flatten)]
        dir: DirArg,
        /// Make this one alone
        #[arg(long, value_enum)]
        ring: Option<RingArg>,
    },
    /// Add a version to each keyring and make it the active one
    #[command(
        after_help = "The old versions stay, to open what they sealed. Give the new data.keyring to every sidecar before
the control plane is restarted with it: a sidecar without the new version cannot open what it seals.
A new version of signing.keyring is taken up without a restart, and signs ten minutes after it was made.

Examples:
  keystile keyring rotate --dir keys
  keystile keyring rotate --dir keys --ring signing"
    )]
    Rotate {
        #[command(flatten)]
        dir: DirArg,
        /// Rotate this one alone; without it, each that is in the folder
        #[arg(long, value_enum)]
        ring: Option<RingArg>,
    },
    /// Show which versions there are; never the keys
    #[command(after_help = "Example:
  keystile keyring show --dir keys -o json")]
    Show {
        #[command(flatten)]
        dir: DirArg,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
}

#[derive(Debug, clap::Args)]
struct DirArg {
    /// The folder of data.keyring, vault.keyring and signing.keyring
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RingArg {
    /// Opens records; every process has it
    Data,
    /// Opens kept tokens; the control plane alone has it
    Vault,
    /// Signs the tenant's context for upstreams
    Signing,
}

/// What every installation needs.
const BOTH: [Ring; 2] = [Ring::Data, Ring::Vault];
const ALL: [Ring; 3] = [Ring::Data, Ring::Vault, Ring::Signing];

pub(super) fn run(args: &KeyringArgs, out: &mut Out) -> Result<(), Failure> {
    match &args.command {
        KeyringCommand::Init { dir, ring } => init(&dir.dir, *ring, out),
        KeyringCommand::Rotate { dir, ring } => rotate(&dir.dir, *ring, out),
        KeyringCommand::Show { dir, output } => show(&dir.dir, *output, out),
    }
}

fn only(ring: RingArg) -> Vec<Ring> {
    match ring {
        RingArg::Data => vec![Ring::Data],
        RingArg::Vault => vec![Ring::Vault],
        RingArg::Signing => vec![Ring::Signing],
    }
}

/// A keyring that cannot be used is a matter of configuration; the rest of what can go wrong is not.
fn failure(error: KeyfileError) -> Failure {
    match error {
        KeyfileError::Exists { .. }
        | KeyfileError::Unwritable { .. }
        | KeyfileError::OpenFolder(_) => Failure::failed(error),
        KeyfileError::Missing { .. }
        | KeyfileError::NotAFile { .. }
        | KeyfileError::TooOpen(_)
        | KeyfileError::TooLarge { .. }
        | KeyfileError::NotText { .. }
        | KeyfileError::Content { .. }
        | KeyfileError::Unreadable { .. }
        | KeyfileError::Foreign { .. }
        | KeyfileError::ForeignTenants { .. }
        | KeyfileError::ForeignVault { .. }
        | KeyfileError::VariableMissing { .. }
        | KeyfileError::Variable { .. } => Failure::config(error),
    }
}

fn init(dir: &Path, ring: Option<RingArg>, out: &mut Out) -> Result<(), Failure> {
    let rings = ring.map_or_else(|| BOTH.to_vec(), only);
    let seals = rings.iter().any(|ring| *ring != Ring::Signing);
    let made = keyfile::init(dir, &rings, SystemClock.now()).map_err(failure)?;
    for (path, keyring) in made {
        out.line(format_args!(
            "made {} (id {})",
            path.display(),
            keyring.id()
        ))?;
    }
    if seals {
        out.line("Keep a backup: what is sealed with a lost keyring is lost.")?;
    }
    Ok(())
}

fn rotate(dir: &Path, ring: Option<RingArg>, out: &mut Out) -> Result<(), Failure> {
    let rings = ring.map_or_else(|| present(dir), only);
    for ring in rings {
        let (path, keyring) = keyfile::rotate(dir, ring, SystemClock.now()).map_err(failure)?;
        let active = keyring.versions().into_iter().find(|info| info.active);
        let version = active.map(|info| info.version).unwrap_or_default();
        let what = match ring {
            Ring::Data | Ring::Vault => "is active, older ones still open".to_owned(),
            Ring::Signing => format!(
                "signs in {} minutes; until then it is published and the one before signs",
                signing::LEAD.as_secs() / 60
            ),
        };
        out.line(format_args!("{}: version {version} {what}", path.display()))?;
    }
    Ok(())
}

/// The rings whose files are in the folder; when there are none, those that should be, so that the first is reported
/// as missing.
fn present(dir: &Path) -> Vec<Ring> {
    let found: Vec<Ring> = ALL
        .into_iter()
        .filter(|ring| dir.join(keyfile::file_name(*ring)).exists())
        .collect();
    if found.is_empty() {
        BOTH.to_vec()
    } else {
        found
    }
}

#[derive(Serialize)]
struct Shown {
    ring: &'static str,
    id: String,
    path: PathBuf,
    versions: Vec<ShownVersion>,
}

#[derive(Serialize)]
struct ShownVersion {
    version: u32,
    active: bool,
    create_time: String,
}

impl Shown {
    fn new(path: PathBuf, keyring: &Keyring) -> Self {
        let versions = keyring.versions().into_iter().map(|info| ShownVersion {
            version: info.version,
            active: info.active,
            create_time: info.created_at.to_string(),
        });
        Self {
            ring: keyring.ring().as_str(),
            id: keyring.id().to_owned(),
            path,
            versions: versions.collect(),
        }
    }
}

fn show(dir: &Path, form: Form, out: &mut Out) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for ring in present(dir) {
        let path = dir.join(keyfile::file_name(ring));
        let keyring = keyfile::load_file(&path, ring).map_err(failure)?;
        shown.push(Shown::new(path, &keyring));
    }
    match form {
        Form::Json | Form::Yaml => {
            output::document(out, form, &serde_json::json!({"keyrings": shown}))
        }
        Form::Name => shown.iter().try_for_each(|keyring| out.line(keyring.ring)),
        Form::Table => shown.iter().try_for_each(|keyring| {
            out.line(format_args!(
                "{} (id {})",
                keyring.path.display(),
                keyring.id
            ))?;
            keyring.versions.iter().try_for_each(|info| {
                let state = match (keyring.ring, info.active) {
                    ("signing", true) => "newest",
                    ("signing", false) => "older",
                    (_, true) => "active",
                    (_, false) => "opens only",
                };
                out.line(format_args!(
                    "  version {}  {state}  made {}",
                    info.version, info.create_time
                ))
            })
        }),
    }
}
