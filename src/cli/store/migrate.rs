//! `keystile store migrate`: everything of one store into another, as often as it takes.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::place;
use crate::cli::output::{self, Form, Out};
use crate::cli::progress::Progress;
use crate::cli::{Failure, bad_start, block_on, load_config, print_hint};
use crate::config::StorePlace;
use crate::crypto::keyring::{Keyring, Ring};
use crate::keyfile;
use crate::migrate::{Census, Copied, Findings, Migration, Mode};
use crate::server::stores::Opened;
use crate::store::redis::Settings;

/// How long a destination may take to complete what an interrupted run has begun there.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
const COUNT_EVERY: Duration = Duration::from_millis(500);
/// The most tenants that are told of one by one; `-o json` has them all.
const TOLD_MAX: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "STORE is one of
  embedded:PATH                the file of the embedded store
  redis://HOST:PORT[/DB]       one Redis server; rediss:// with TLS, unix:/PATH for a socket
  PATH                         a config file, of which the section `store` counts (login, TLS, Sentinel,
                               Cluster); the environment does not change it
Stop every control plane of both stores first. Sidecars may go on. The keyrings stay as they are:
records are copied as they are sealed, and both stores belong to the same keyring.

Existing entries are skipped: run it again to resume after an interruption; a second run changes nothing. A tenant that is not the same there (another version, another
audit, made again) is named and left alone. At the end both sides are counted; the exit code is 0
when they are equal, else 1. What is remembered of requests (their ids, for a day) is not copied.

Examples:
  keystile store migrate --from embedded:keystile.redb --to redis://127.0.0.1:6379 -c keystile.yaml --dry-run
  keystile store migrate --from embedded:keystile.redb --to new.yaml -c keystile.yaml
  keystile store migrate --from new.yaml --to embedded:back.redb -c keystile.yaml")]
pub(super) struct MigrateArgs {
    /// The store to copy; it is only read
    #[arg(long, value_name = "STORE")]
    from: String,
    /// The store to copy to; it is made if it is not there
    #[arg(long, value_name = "STORE")]
    to: String,
    /// Config file that names the keyring; without it, defaults and the environment alone
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what would be copied, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

pub(super) fn run(args: &MigrateArgs, out: &mut Out) -> Result<(), Failure> {
    let from = place::parse("--from", &args.from)?;
    let to = place::parse("--to", &args.to)?;
    if is_same(&from, &to) {
        return Err(Failure::usage("--from and --to name the same store"));
    }
    let keyring = &load_config(args.config.as_deref())?.keyring;
    let data = keyfile::load(keyring.data(), Ring::Data).map_err(Failure::config)?;
    let mode = if args.dry_run { Mode::Try } else { Mode::Write };
    let outcome = block_on(migrate(&from, &to, Arc::new(data), mode))?;
    outcome.show(args.output, out)?;
    outcome.check()
}

fn is_same(from: &StorePlace, to: &StorePlace) -> bool {
    match (from, to) {
        (StorePlace::Embedded { path: from }, StorePlace::Embedded { path: to }) => {
            let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
            real(from) == real(to)
        }
        (StorePlace::Redis(from), StorePlace::Redis(to)) => {
            let which = |redis: &Settings| (redis.location(), redis.database, redis.prefix.clone());
            which(from) == which(to)
        }
        (StorePlace::Embedded { .. }, StorePlace::Redis(_))
        | (StorePlace::Redis(_), StorePlace::Embedded { .. }) => false,
    }
}

async fn migrate(
    from: &StorePlace,
    to: &StorePlace,
    data: Arc<Keyring>,
    mode: Mode,
) -> Result<Outcome, Failure> {
    let lookup = data
        .lookup_key()
        .ok_or_else(|| Failure::config(anyhow!("the data keyring has no lookup key")))?;
    let opened = |option: &'static str| {
        move |error: anyhow::Error| bad_start(error).context(option.to_owned())
    };
    let source = Opened::to_read(from, &data)
        .await
        .map_err(opened("--from"))?;
    let destination = match mode {
        Mode::Try => Opened::to_try(to, &data).await,
        Mode::Write => Opened::to_write(to, &data).await,
    };
    let destination = destination.map_err(opened("--to"))?;
    let (from, to) = (&source.store, &destination.store);
    let migration = Migration::new(Arc::clone(from), Arc::clone(to), data, lookup);
    copy_and_count(&migration, mode).await
}

async fn copy_and_count(migration: &Migration, mode: Mode) -> Result<Outcome, Failure> {
    let (source, unusable) = migration.count_source().await.map_err(Failure::failed)?;
    let bar = Bar::new(mode, source);
    let (copied, mut findings) =
        (migration.copy(mode, &|count| bar.add(count)).await).map_err(|error| {
            Failure::failed(error).context(
                "stopped; run it again to go on: what is there already is left as it is".to_owned(),
            )
        })?;
    drop(bar);
    keep(&mut findings, unusable);
    let time_limit = match mode {
        Mode::Write if findings.is_empty() => SETTLED_WITHIN,
        Mode::Write | Mode::Try => Duration::ZERO,
    };
    let (destination, wrong) = settled(migration, source, time_limit).await?;
    keep(&mut findings, wrong);
    if destination.tenants + missing(mode, copied) > source.tenants {
        let strangers = migration.strangers(TOLD_MAX).await;
        keep(&mut findings, strangers.map_err(Failure::failed)?);
    }
    Ok(Outcome {
        mode,
        copied,
        source,
        destination,
        findings,
    })
}

/// Adds findings of tenants of which nothing was found before.
fn keep(findings: &mut Findings, more: Findings) {
    for (tenant, why) in more {
        findings.entry(tenant).or_insert(why);
    }
}

/// Tenants that the destination does not have because nothing was written.
fn missing(mode: Mode, copied: Copied) -> u64 {
    match mode {
        Mode::Try => copied.tenants,
        Mode::Write => 0,
    }
}

/// Counts the destination until it has what the source has, or for as long as there is time_limit.
async fn settled(
    migration: &Migration,
    source: Census,
    time_limit: Duration,
) -> Result<(Census, Findings), Failure> {
    let begun = Instant::now();
    loop {
        let (census, wrong) = (migration.count_destination().await).map_err(Failure::failed)?;
        let is_settled = census == source && wrong.is_empty();
        if is_settled || begun.elapsed() >= time_limit {
            return Ok((census, wrong));
        }
        sleep(COUNT_EVERY).await;
    }
}

/// The progress of all tenants together, shown now and then.
struct Bar(RefCell<Shown>);

struct Shown {
    progress: Progress,
    unshown: usize,
    step: usize,
}

impl Bar {
    fn new(mode: Mode, source: Census) -> Self {
        let what = match mode {
            Mode::Try => "compared",
            Mode::Write => "done",
        };
        let total = usize::try_from(source.tenants + source.keys).unwrap_or(usize::MAX);
        Self(RefCell::new(Shown {
            progress: Progress::new(what, total),
            unshown: 0,
            step: (total / 100).max(1),
        }))
    }

    fn add(&self, count: usize) {
        let mut shown = self.0.borrow_mut();
        shown.unshown += count;
        if shown.unshown >= shown.step {
            shown.print();
        }
    }
}

impl Shown {
    fn print(&mut self) {
        let count = std::mem::take(&mut self.unshown);
        self.progress.add(count);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.unshown > 0 {
            self.print();
        }
    }
}

struct Outcome {
    mode: Mode,
    copied: Copied,
    source: Census,
    destination: Census,
    findings: Findings,
}

impl Outcome {
    fn counts(&self) -> [(&'static str, u64, u64); 5] {
        let (from, to) = (self.source, self.destination);
        [
            ("tenants", from.tenants, to.tenants),
            ("keys", from.keys, to.keys),
            ("live keys", from.live_keys, to.live_keys),
            ("index entries", from.index_entries, to.index_entries),
            ("audit entries", from.audit_entries, to.audit_entries),
        ]
    }

    fn show(&self, form: Form, out: &mut Out) -> Result<(), Failure> {
        match form {
            Form::Json | Form::Yaml => output::document(out, form, &self.document()),
            Form::Name => {
                let mut differing = self.findings.keys();
                differing.try_for_each(|tenant| out.line(format_args!("tenants/{tenant}")))
            }
            Form::Table => {
                let verb = match self.mode {
                    Mode::Try => "to be copied",
                    Mode::Write => "copied",
                };
                let Copied {
                    tenants,
                    keys,
                    audit_entries,
                } = self.copied;
                out.line(format_args!(
                    "{verb}: tenants {tenants}, keys {keys}, audit entries {audit_entries}"
                ))?;
                let rows: Vec<Vec<String>> = (self.counts().iter())
                    .map(|(what, from, to)| {
                        vec![(*what).to_owned(), from.to_string(), to.to_string()]
                    })
                    .collect();
                output::rows(out, &["COUNTED", "SOURCE", "DESTINATION"], &rows)
            }
        }
    }

    fn document(&self) -> Value {
        let side = |at: fn(&(&str, u64, u64)) -> u64| -> Value {
            let counts = self.counts();
            let fields = counts
                .iter()
                .map(|row| (row.0.replace(' ', "_"), at(row).into()));
            Value::Object(fields.collect())
        };
        let findings = self.findings.iter();
        json!({
            "dry_run": self.mode == Mode::Try,
            "copied": {
                "tenants": self.copied.tenants,
                "keys": self.copied.keys,
                "audit_entries": self.copied.audit_entries,
            },
            "source": side(|row| row.1),
            "destination": side(|row| row.2),
            "differing": findings
                .map(|(tenant, why)| json!({"tenant": tenant.as_str(), "why": why}))
                .collect::<Vec<_>>(),
        })
    }

    fn check(&self) -> Result<(), Failure> {
        for (tenant, why) in self.findings.iter().take(TOLD_MAX) {
            print_hint(&format!("tenant {tenant}: {why}"));
        }
        let count = self.findings.len();
        if count > TOLD_MAX {
            print_hint(&format!(
                "and {} more; -o json names them all",
                count - TOLD_MAX
            ));
        }
        if count > 0 {
            return Err(Failure::failed(anyhow!(
                "{count} {} not the same on both sides; nothing of what the destination had was overwritten",
                if count == 1 {
                    "tenant is"
                } else {
                    "tenants are"
                }
            )));
        }
        if self.mode == Mode::Write && self.source != self.destination {
            return Err(Failure::failed(anyhow!(
                "the counts differ: somebody has written to one of the stores meanwhile; stop what writes and run it again"
            )));
        }
        Ok(())
    }
}
