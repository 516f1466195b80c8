//! `keystile key import`: tokens of other systems, one or a table of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::anyhow;
use ipnet::IpNet;
use serde_json::json;
use tonic::Code;

use super::FactArgs;
use crate::cli::client::Client;
use crate::cli::csv::{self, Columns, Row};
use crate::cli::output::{self, Form, Out, printable};
use crate::cli::progress::Progress;
use crate::cli::tenant::name_of;
use crate::cli::{Failure, prompt, request_id};
use crate::clock::Timestamp;
use crate::crypto::token::{PresentedToken, TokenPrefixes};
use crate::domain::name::{Description, DisplayName, Feature, InvalidName, Owner, Scope, TenantId};
use crate::proto::admin as pb;
use crate::proto::admin::import_key_result::Result as Outcome;

/// Keys a call: enough to share a commit, few enough to show progress.
const BATCH: usize = 200;

const TOKEN_RULE: &str = "must be 16 to 512 characters of A-Z a-z 0-9 - . _ ~ + / with = at its end, \
                          and one of ours must be whole";

const COLUMNS: Columns = Columns {
    known: &[
        "tenant",
        "name",
        "owner",
        "role",
        "token",
        "scopes",
        "features",
        "networks",
        "description",
        "expires_at",
    ],
    required: &["name", "token"],
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A table (--csv) has a first line that names its columns, in any order:
  name, token   required
  tenant        unless it is named on the command line
  owner         `default` if empty
  role          user, tenant_admin or global_admin; user if empty
  scopes, features, networks   several are separated by blanks
  description   for people
  expires_at    for example 2027-01-31T00:00:00Z; never if empty
The whole table is checked before anything is sent. Doing it again is safe: a token that is there already is
reported and left as it is.

Examples:
  keystile key import acme --name legacy --token-file old.txt
  keystile key import acme --csv keys.csv
  keystile key import --csv tenants-and-keys.csv -o json"
)]
pub(super) struct ImportArgs {
    /// The tenant's id; without it, the table's column `tenant`
    #[arg(required_unless_present = "csv")]
    tenant: Option<String>,
    /// What people call it
    #[arg(long, required_unless_present = "csv")]
    name: Option<String>,
    /// File that holds the token, - for standard input
    #[arg(long, value_name = "FILE", required_unless_present = "csv")]
    token_file: Option<PathBuf>,
    /// A table of many keys, - for standard input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["name", "token_file", "description", "owner", "role", "expires_in", "scopes", "features", "allow_cidrs"]
    )]
    csv: Option<PathBuf>,
    #[command(flatten)]
    facts: FactArgs,
}

/// What to import, each with its line if it comes from a table.
pub(super) struct Work {
    parent: String,
    rows: Vec<(u64, pb::ImportKeyRequest)>,
    table: bool,
}

impl ImportArgs {
    pub(super) fn read(&self, now: Timestamp) -> Result<Work, Failure> {
        let parent = name_of(self.tenant.as_deref().unwrap_or("-"));
        let (Some(path), table) = (&self.csv, true) else {
            let request = self.one(now)?;
            return Ok(Work {
                parent,
                rows: vec![(1, request)],
                table: false,
            });
        };
        let mut seen = HashMap::new();
        let rows = csv::read(path, &COLUMNS, |row| {
            let request = self.row(row, now);
            if let Some(line) = seen.insert(request.token.clone(), row.line) {
                row.mistake("token", format_args!("is that of line {line}"));
            }
            Some((row.line, request))
        })?;
        Ok(Work {
            parent,
            rows,
            table,
        })
    }

    fn one(&self, now: Timestamp) -> Result<pb::ImportKeyRequest, Failure> {
        let path = self.token_file.as_deref();
        let token = prompt::token_from(path.unwrap_or_else(|| "-".as_ref()))?;
        let name = self.name.as_deref().unwrap_or_default();
        Ok(pb::ImportKeyRequest {
            key: Some(self.facts.key(name, now)),
            token: token.to_string(),
            request_id: request_id::new(),
            ..pb::ImportKeyRequest::default()
        })
    }

    /// One row as a request, with everything that the server would refuse found here.
    fn row(&self, row: &mut Row<'_>, now: Timestamp) -> pb::ImportKeyRequest {
        let parent = self.parent_of(row);
        let texts = |row: &Row<'_>, column: &str| vec![row.cell(column).to_owned()];
        let (names, description) = (texts(row, "name"), texts(row, "description"));
        let mut owners = texts(row, "owner");
        if owners[0].is_empty() {
            owners = vec!["default".into()];
        }
        row.check("name", &names, |text| rule(DisplayName::parse(text)));
        row.check("description", &description, |text| {
            rule(Description::parse(text))
        });
        row.check("owner", &owners, |text| rule(Owner::parse(text)));
        let (scopes, features) = (row.list("scopes"), row.list("features"));
        let networks = row.list("networks");
        row.check("scopes", &scopes, |text| rule(Scope::parse(text)));
        row.check("features", &features, |text| rule(Feature::parse(text)));
        row.check("networks", &networks, network);
        let token = token(row);
        let key = pb::Key {
            display_name: names.concat(),
            description: description.concat(),
            owner: owners.concat(),
            role: role(row).into(),
            scopes,
            features: (!features.is_empty()).then_some(pb::FeatureList { names: features }),
            allow_cidrs: networks,
            expire_time: expiry(row, now),
            ..pb::Key::default()
        };
        pb::ImportKeyRequest {
            parent,
            key: Some(key),
            token,
            request_id: request_id::new(),
        }
    }

    /// Empty when the batch says it.
    fn parent_of(&self, row: &mut Row<'_>) -> String {
        let tenant = row.cell("tenant").to_owned();
        match &self.tenant {
            Some(named) if tenant.is_empty() || *named == tenant => String::new(),
            Some(named) => {
                row.mistake(
                    "tenant",
                    format_args!("is not {named}, which the command names"),
                );
                String::new()
            }
            None => {
                row.check("tenant", std::slice::from_ref(&tenant), |text| {
                    rule(TenantId::parse(text))
                });
                name_of(&tenant)
            }
        }
    }
}

fn rule<T>(parsed: Result<T, InvalidName>) -> Result<(), String> {
    parsed
        .map(drop)
        .map_err(|broken| format!("must be {}", broken.rule))
}

fn network(text: &str) -> Result<(), &'static str> {
    let good = text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
    good.then_some(())
        .ok_or("must be networks such as 10.0.0.0/8")
}

fn token(row: &mut Row<'_>) -> String {
    let token = row.cell("token").to_owned();
    if PresentedToken::parse(token.as_bytes(), &TokenPrefixes::default()).is_err() {
        row.mistake("token", TOKEN_RULE);
    }
    token
}

fn role(row: &mut Row<'_>) -> pb::Role {
    match row.cell("role") {
        "" | "user" => pb::Role::User,
        "tenant_admin" => pb::Role::TenantAdmin,
        "global_admin" => pb::Role::GlobalAdmin,
        _ => {
            row.mistake("role", "must be user, tenant_admin or global_admin");
            pb::Role::User
        }
    }
}

fn expiry(row: &mut Row<'_>, now: Timestamp) -> Option<prost_types::Timestamp> {
    let text = row.cell("expires_at");
    if text.is_empty() {
        return None;
    }
    let parsed = text.parse::<jiff::Timestamp>();
    match parsed {
        Ok(end) if end.as_millisecond() > now.as_millis() => Some(prost_types::Timestamp {
            seconds: end.as_second(),
            nanos: 0,
        }),
        Ok(_) => {
            row.mistake("expires_at", "must be in the future");
            None
        }
        Err(_) => {
            row.mistake("expires_at", "must be a time such as 2027-01-31T00:00:00Z");
            None
        }
    }
}

/// What became of it all.
#[derive(Default)]
struct Tally {
    imported: Vec<pb::Key>,
    existing: Vec<u64>,
    refused: Vec<(u64, String)>,
}

pub(super) async fn run(
    client: &Client,
    work: Work,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let total = work.rows.len();
    let mut tally = Tally::default();
    let mut progress = work.table.then(|| Progress::new("imported", total));
    for rows in work.rows.chunks(BATCH) {
        let sent = send(client, &work.parent, rows, &mut tally).await;
        if let Err(failure) = sent {
            drop(progress);
            return Err(stopped(failure, &tally, total));
        }
        if let Some(progress) = &mut progress {
            progress.add(rows.len());
        }
    }
    drop(progress);
    if work.table {
        tell(&tally, form, out)
    } else {
        tell_one(&tally, form, out)
    }
}

async fn send(
    client: &Client,
    parent: &str,
    rows: &[(u64, pb::ImportKeyRequest)],
    tally: &mut Tally,
) -> Result<(), Failure> {
    let request = pb::ImportKeysRequest {
        parent: parent.to_owned(),
        requests: rows.iter().map(|(_, request)| request.clone()).collect(),
    };
    let send = |request| async { client.keys().import_keys(request).await };
    let answer = client.call(request, send).await?;
    for ((line, _), result) in rows.iter().zip(answer.results) {
        match result.result {
            Some(Outcome::Key(key)) => tally.imported.push(key),
            Some(Outcome::Error(status)) if status.code == Code::AlreadyExists as i32 => {
                tally.existing.push(*line);
            }
            Some(Outcome::Error(status)) => {
                tally.refused.push((*line, printable(&status.message)));
            }
            None => tally
                .refused
                .push((*line, "the server gave no result".into())),
        }
    }
    Ok(())
}

fn stopped(failure: Failure, tally: &Tally, total: usize) -> Failure {
    let done = tally.imported.len() + tally.existing.len() + tally.refused.len();
    failure.context(format!(
        "stopped after {done} of {total} rows; do it again to go on: what is there already is left as it is"
    ))
}

fn tell_one(tally: &Tally, form: Form, out: &mut Out) -> Result<(), Failure> {
    match (tally.imported.as_slice(), tally.refused.as_slice()) {
        ([key, ..], _) => output::one(out, form, key),
        (_, [(_, problem), ..]) => Err(Failure::failed(anyhow!("{problem}"))),
        ([], []) => Err(Failure::failed(anyhow!(
            "this token is or was that of a key already\nhint: `keystile key verify --token-file FILE` says of which, if you may know"
        ))),
    }
}

fn tell(tally: &Tally, form: Form, out: &mut Out) -> Result<(), Failure> {
    let Tally {
        imported,
        existing,
        refused,
    } = tally;
    match form {
        Form::Table => {
            let (new, old, bad) = (imported.len(), existing.len(), refused.len());
            out.line(format_args!(
                "{new} imported, {old} there already, {bad} refused"
            ))?;
        }
        Form::Name => imported
            .iter()
            .try_for_each(|key| out.line(printable(&key.name)))?,
        Form::Json | Form::Yaml => {
            let keys: Result<Vec<_>, _> = imported.iter().map(output::json_of).collect();
            let refused = refused
                .iter()
                .map(|(line, problem)| json!({"line": line, "problem": problem}));
            let refused: Vec<_> = refused.collect();
            let all = json!({"keys": keys?, "existing_lines": existing, "refused": refused});
            output::document(out, form, &all)?;
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let lines = refused
        .iter()
        .map(|(line, problem)| format!("\n  line {line}: {problem}"));
    Err(Failure::failed(anyhow!(
        "{} rows were refused{}",
        refused.len(),
        lines.collect::<String>()
    )))
}
