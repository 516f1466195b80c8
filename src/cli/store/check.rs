//! `keystile store check`: compares everything in a store, and puts it right.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::{Value, json};

use crate::check::{Check, Finding, Mode, Outcome, Report};
use crate::cli::output::{self, Form, Out};
use crate::cli::progress::Progress;
use crate::cli::{Failure, bad_start, block_on};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{self, Config};
use crate::crypto::keyring::{Keyring, Ring};
use crate::crypto::token::TokenPrefixes;
use crate::keyfile;
use crate::registry::{self, Registry};
use crate::server::stores::Opened;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Compares records, index entries, counts and lists, and names what is wrong. The exit code is 1 when
anything is, else 0. On Redis control planes may run beside it, with the login of one; an embedded store
belongs to one process: stop its `keystile serve` first.

With --repair it makes index entries, counts and lists again from the records. A key that works and whose own
record is lost is revoked, with the audit entry that says so; an index entry that is nobody's is removed. Run
it without --repair first: it says what that would do. Run it again to resume after an interruption.
The exit code is then 1 when something is left that only an operator can put right, such as a tenant's record
that has to come from a backup.

Examples:
  keystile store check -c keystile.yaml
  keystile store check -c keystile.yaml --repair -o json"
)]
pub(super) struct CheckArgs {
    /// Config file that names the store and the keyring; without it, defaults and the environment alone
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Put right what can be put right safely
    #[arg(long)]
    repair: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

pub(super) fn run(args: &CheckArgs, out: &mut Out) -> Result<(), Failure> {
    let loaded = Config::load(args.config.as_deref(), config::environment());
    let config = loaded.map_err(Failure::config)?.config;
    let data = keyfile::load(config.keyring.data(), Ring::Data).map_err(Failure::config)?;
    let mode = match args.repair {
        true => Mode::Repair,
        false => Mode::Check,
    };
    let report = block_on(check(&config, Arc::new(data), mode))?;
    show(&report, mode, args.output, out)?;
    match report.unrepaired {
        0 => Ok(()),
        count => Err(Failure::failed(anyhow!("{}", left(count, mode)))),
    }
}

fn left(count: u64, mode: Mode) -> String {
    let what = match count {
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    match mode {
        Mode::Check => format!("{what}; --repair puts right what is marked as repairable"),
        Mode::Repair => format!("{what} left that a repair cannot put right, or not yet"),
    }
}

async fn check(config: &Config, data: Arc<Keyring>, mode: Mode) -> Result<Report, Failure> {
    let lookup = data
        .lookup_key()
        .ok_or_else(|| Failure::config(anyhow!("the data keyring has no lookup key")))?;
    let opened = match mode {
        Mode::Check => Opened::to_read(&config.store.place(), &data).await,
        Mode::Repair => Opened::to_write(&config.store.place(), &data).await,
    };
    let opened = opened.map_err(bad_start)?;
    let settings = registry::Settings {
        prefixes: TokenPrefixes {
            live: config.tokens.live_prefix.to_string(),
            test: config.tokens.test_prefix.to_string(),
        },
    };
    // No token is made or shown: the vault is not needed.
    let registry = Registry::new(
        Arc::clone(&opened.store),
        Arc::clone(&data),
        None,
        Arc::new(lookup),
        Arc::new(SystemClock),
        settings,
    );
    let bar = RefCell::new(None);
    let done = |_: usize, total: usize| {
        let mut bar = bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| Progress::new("tenants", total));
        bar.add(1);
    };
    let check = Check::new(registry, data, mode, SystemClock.now());
    let report = check.run(&done).await;
    report.map_err(|error| {
        Failure::failed(error)
            .context("stopped; run it again to go on: what was put right stays so".to_owned())
    })
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Repaired => "repaired",
        Outcome::Repairable => "repairable",
        Outcome::ByHand => "by hand",
    }
}

/// The name of what is wrong, as far as it is known.
fn name(finding: &Finding) -> String {
    match (&finding.tenant, &finding.key, finding.lookup_id) {
        (Some(tenant), Some(key), _) => format!("tenants/{tenant}/keys/{key}"),
        (Some(tenant), None, _) => format!("tenants/{tenant}"),
        (None, _, Some(lookup_id)) => lookup_id.to_string(),
        (None, _, None) => "-".to_owned(),
    }
}

fn show(report: &Report, mode: Mode, form: Form, out: &mut Out) -> Result<(), Failure> {
    match form {
        Form::Json | Form::Yaml => output::document(out, form, &document(report, mode)),
        Form::Name => {
            let mut names = report.findings.iter().map(name);
            names.try_for_each(|name| out.line(format_args!("{name}")))
        }
        Form::Table => table(report, out),
    }
}

fn table(report: &Report, out: &mut Out) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = (report.findings.iter())
        .map(|finding| {
            let entry = finding.entry.as_str().to_owned();
            let outcome = outcome(finding.outcome).to_owned();
            vec![name(finding), entry, outcome, finding.problem.clone()]
        })
        .collect();
    if !rows.is_empty() {
        output::rows(out, &["NAME", "ENTRY", "OUTCOME", "PROBLEM"], &rows)?;
    }
    if report.more > 0 {
        out.line(format_args!("and {} more", report.more))?;
    }
    out.line(format_args!(
        "looked at: tenants {}, keys {}, index entries {}; findings: {}",
        report.tenants,
        report.keys,
        report.index_entries,
        report.findings.len() as u64 + report.more
    ))
}

fn document(report: &Report, mode: Mode) -> Value {
    let findings: Vec<Value> = (report.findings.iter())
        .map(|finding| {
            json!({
                "entry": finding.entry.as_str(),
                "tenant": finding.tenant.as_ref().map(ToString::to_string),
                "key": finding.key.as_ref().map(ToString::to_string),
                "lookup_id": finding.lookup_id.map(|id| id.to_string()),
                "problem": finding.problem,
                "outcome": outcome(finding.outcome).replace(' ', "_"),
            })
        })
        .collect();
    json!({
        "repair": mode == Mode::Repair,
        "tenants": report.tenants,
        "keys": report.keys,
        "index_entries": report.index_entries,
        "findings": findings,
        "more_findings": report.more,
        "unrepaired": report.unrepaired,
    })
}
