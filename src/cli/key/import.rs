//! `keystile key import`: tokens of other systems, one or a table of them.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::json;

use super::bulk::{self, Work};
use super::{FactArgs, digests};
use crate::cli::batches::Refused;
use crate::cli::client::Client;
use crate::cli::csv::cells::KeyColumns;
use crate::cli::csv::{Columns, Row, damage};
use crate::cli::output::{self, Form, Out, printable};
use crate::cli::{Failure, print_hint, prompt, request_id};
use crate::clock::Timestamp;
use crate::crypto::token::{PresentedToken, TokenPrefixes};
use crate::proto::admin as pb;
use crate::proto::admin::import_key_result::Result as Outcome;

const TOKEN_RULE: &str = "must be 16 to 512 characters of A-Z a-z 0-9 - . _ ~ + / with = at its end, \
                          and one of ours must be whole";

const HASH_RULE: &str = "is the hash of a password or token, not what clients send";

const COLUMNS: Columns = Columns {
    known: &[
        "tenant",
        "name",
        "owner",
        "role",
        "admin_access",
        "token",
        "scopes",
        "features",
        "networks",
        "description",
        "expires_at",
        "rate",
        "quota",
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
  admin_access  none, self or role; by the server's rules if empty
  scopes, features, networks   several are separated by blanks
  rate, quota   limits of its own, such as 10/s and 20/day
  description   for people
  expires_at    for example 2027-01-31T00:00:00Z; never if empty
A token is what clients send, character by character: 16 to 512 of A-Z a-z 0-9 - . _ ~ + / with = at its end. A hash
or an encoding of it, as databases and Kubernetes Secrets hold it, is not the token: imported, it would be a working
key for everybody who has seen a dump. Tokens that look so are refused unless --tokens-are-plain is given.

The cells of a table are separated by commas, semicolons, tabs or |. A cell that a spreadsheet has changed (a number
such as 1.2E+31, ####, #REF!) is refused; a ' before = + - @, as in files of ours, is left out.
The whole table is checked before anything is sent. Doing it again is safe: a token that is there already is
reported and left as it is. Of each token that does not work (it belongs to a revoked or expired key, or to another
owner or tenant) it is said why, by its line, and the command ends with 1; -o json has a verdict for each row.

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
        conflicts_with_all = ["name", "token_file", "description", "owner", "role", "admin_access", "expires_in", "scopes", "features", "allow_cidrs"]
    )]
    csv: Option<PathBuf>,
    /// Import tokens although they look like hashes or base64: they are what clients send
    #[arg(long)]
    tokens_are_plain: bool,
    #[command(flatten)]
    facts: FactArgs,
}

impl ImportArgs {
    pub(super) fn read(&self, now: Timestamp) -> Result<Work<pb::ImportKeyRequest>, Failure> {
        let tenant = self.tenant.as_deref();
        let Some(path) = &self.csv else {
            return Ok(Work::one(tenant, self.one()?));
        };
        let mut seen = HashMap::new();
        let work = Work::of_table(tenant, path, &COLUMNS, |row| {
            let request = self.row(row, now);
            if let Some(line) = seen.insert(request.token.clone(), row.line) {
                row.mistake("token", format_args!("is that of line {line}"));
            }
            request
        })?;
        if !self.tokens_are_plain {
            refuse_digests(work.requests().map(|request| request.token.as_str()))?;
        }
        Ok(work)
    }

    fn one(&self) -> Result<pb::ImportKeyRequest, Failure> {
        let path = self.token_file.as_deref();
        let token = prompt::token_from(path.unwrap_or_else(|| "-".as_ref()))?;
        if let Some(problem) = never_a_token(&token) {
            return Err(Failure::failed(anyhow!("the token {problem}")));
        }
        if !self.tokens_are_plain {
            refuse_digests(std::iter::once(token.as_str()))?;
        }
        let name = self.name.as_deref().unwrap_or_default();
        Ok(pb::ImportKeyRequest {
            key: Some(self.facts.key(name)),
            token: token.to_string(),
            request_id: request_id::new(),
            ..pb::ImportKeyRequest::default()
        })
    }

    /// One row as a request, with everything that the server would refuse found here.
    fn row(&self, row: &mut Row<'_>, now: Timestamp) -> pb::ImportKeyRequest {
        pb::ImportKeyRequest {
            parent: bulk::tenant_of(self.tenant.as_deref(), row).1,
            key: Some(KeyColumns::PLAIN.key(row, "", now)),
            token: token(row),
            request_id: request_id::new(),
        }
    }
}

fn token(row: &mut Row<'_>) -> String {
    let token = row.cell("token").to_owned();
    if let Some(problem) = never_a_token(&token) {
        row.mistake("token", problem);
    } else if PresentedToken::parse(token.as_bytes(), &TokenPrefixes::default()).is_err() {
        row.mistake("token", TOKEN_RULE);
    }
    token
}

/// Why a text is no token though it may look like one.
fn never_a_token(text: &str) -> Option<&'static str> {
    let hash = || digests::is_password_hash(text).then_some(HASH_RULE);
    damage::of_token(text).or_else(hash)
}

/// Refuses tokens that all look like what a system keeps of its tokens; of some among others, it only warns.
fn refuse_digests<'a>(tokens: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let (mut all, mut alike, mut first) = (0, 0, None);
    for token in tokens {
        all += 1;
        let found = digests::resembles(token);
        alike += usize::from(found.is_some());
        first = first.or(found);
    }
    let Some(kind) = first else { return Ok(()) };
    if alike < all {
        print_hint(&format!(
            "{alike} of {all} tokens look like hashes or encodings of tokens (the first like {kind}): if they are, whoever has seen them holds working keys"
        ));
        return Ok(());
    }
    let whose = match all {
        1 => "the token looks".to_owned(),
        all => format!("all {all} tokens look"),
    };
    Err(Failure::failed(anyhow!(
        "{whose} like {kind}, not like what clients send; nothing was sent\nhint: import the tokens themselves; if these are, add --tokens-are-plain"
    )))
}

/// What became of it all.
#[derive(Default)]
struct Tally {
    imported: Vec<pb::Key>,
    existing: Vec<u64>,
    refused: Refused,
    /// Of each row whether its token works.
    verdicts: Vec<(u64, pb::ImportVerdict)>,
}

pub(super) async fn run(
    client: &Client,
    work: Work<pb::ImportKeyRequest>,
    now: Timestamp,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    work.check(client, now).await?;
    let mut tally = Tally::default();
    let send = async |parent, requests| {
        let request = pb::ImportKeysRequest { parent, requests };
        let send = |request| async { client.keys().import_keys(request).await };
        Ok(client.call(request, send).await?.results)
    };
    let keep = |results: Vec<_>| {
        (results.into_iter()).for_each(|(line, result)| tally.add(line, result));
        Ok(())
    };
    work.send("imported", send, keep).await?;
    if work.is_table() {
        print(&tally, form, out)
    } else {
        print_one(&tally, form, out)
    }
}

impl Tally {
    fn add(&mut self, line: u64, result: pb::ImportKeyResult) {
        let verdict = result.verdict();
        self.verdicts.push((line, verdict));
        match result.result {
            Some(Outcome::Key(key)) => self.imported.push(key),
            Some(Outcome::Error(_)) if verdict == pb::ImportVerdict::SameKeyActive => {
                self.existing.push(line);
            }
            Some(Outcome::Error(status)) => self.refused.push(line, printable(&status.message)),
            None => self.refused.push(line, "the server gave no result".into()),
        }
    }
}

fn print_one(tally: &Tally, form: Form, out: &mut Out) -> Result<(), Failure> {
    match (tally.imported.as_slice(), tally.refused.first()) {
        ([key, ..], _) => output::one(out, form, key),
        (_, Some(problem)) => Err(Failure::failed(anyhow!("{problem}"))),
        ([], None) => Err(Failure::failed(anyhow!(
            "this token is that of a key already\nhint: `keystile key verify --token-file FILE` says of which, if you may know"
        ))),
    }
}

/// `IMPORT_VERDICT_SAME_KEY_ACTIVE` is `same_key_active`.
fn word(verdict: pb::ImportVerdict) -> String {
    let name = verdict.as_str_name();
    let name = name.strip_prefix("IMPORT_VERDICT_").unwrap_or(name);
    name.to_ascii_lowercase()
}

fn print(tally: &Tally, form: Form, out: &mut Out) -> Result<(), Failure> {
    let Tally {
        imported,
        existing,
        refused,
        verdicts,
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
            let rows = verdicts.iter();
            let rows = rows.map(|(line, verdict)| json!({"line": line, "verdict": word(*verdict)}));
            let all = json!({
                "keys": keys?,
                "existing_lines": existing,
                "refused": refused.json(),
                "rows": rows.collect::<Vec<_>>(),
            });
            output::document(out, form, &all)?;
        }
    }
    refused.check()
}
