//! `keystile tenant import`: a table of tenants, and a first key for each if it asks for one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use serde_json::json;
use tonic::Code;

use crate::cli::batches::{self, Refused};
use crate::cli::client::Client;
use crate::cli::csv::cells::{KeyColumns, features, rule};
use crate::cli::csv::{self, Columns, Row};
use crate::cli::name_of;
use crate::cli::output::{self, Form, Out, printable};
use crate::cli::progress::Progress;
use crate::cli::tokens::MadeKeys;
use crate::cli::{Failure, preflight, print_hint, request_id};
use crate::clock::Timestamp;
use crate::domain::limit::{Own, Quota, Rate};
use crate::domain::name::{Description, DisplayName, MetadataName, PlanName, TenantId};
use crate::domain::tenant::METADATA_MAX;
use crate::proto::admin as pb;
use crate::proto::admin::batch_create_keys_result::Result as KeyResult;
use crate::proto::admin::batch_create_tenants_result::Result as TenantResult;

/// A key that is younger can be asked for again with its token. The server remembers who asked for 24 hours; half of
/// that leaves room for clocks that differ.
const ASK_AGAIN: Duration = Duration::from_secs(12 * 60 * 60);
/// How many tenants are looked at together for the keys that they have.
const LOOKS: usize = 16;
/// What a server of ours never does.
const NO_RESULT: &str = "the server gave no result";

const COLUMNS: Columns = Columns {
    known: &[
        "tenant",
        "display_name",
        "plan",
        "rate",
        "quota",
        "features",
        "denied_features",
        "metadata",
        "key_name",
        "key_description",
        "key_owner",
        "key_role",
        "key_admin_access",
        "key_scopes",
        "key_features",
        "key_networks",
        "key_expires_at",
        "key_rate",
        "key_quota",
    ],
    required: &["tenant"],
};

const KEY: KeyColumns = KeyColumns {
    name: "key_name",
    description: "key_description",
    owner: "key_owner",
    role: "key_role",
    admin_access: "key_admin_access",
    scopes: "key_scopes",
    features: "key_features",
    networks: "key_networks",
    expires_at: "key_expires_at",
    rate: "key_rate",
    quota: "key_quota",
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The table has a first line that names its columns, in any order:
  tenant           required: the id, 1 to 63 of a-z, 0-9 and -
  display_name     for people; the id if empty
  plan             the plan whose features and limits it has
  rate, quota      in place of its plan's, such as 100/s and 1000000/month, or unlimited
  features         beyond the plan's; several are separated by blanks
  denied_features  not had, though the plan has them
  metadata         NAME=VALUE, several are separated by blanks
  key_name         makes a first key of that name; without it and --key, none is made
  key_owner        `default` if empty
  key_role         user, tenant_admin or global_admin; user if empty
  key_admin_access none, self or role; by the server's rules if empty
  key_scopes, key_features, key_networks   several are separated by blanks
  key_rate, key_quota   limits of the key's own
  key_description  for people
  key_expires_at   for example 2027-01-31T00:00:00Z; never if empty
The cells are separated by commas, semicolons, tabs or |. A cell that a spreadsheet has changed (1.2E+31, ####,
#REF!) is refused; a ' before = + - @, as in files of ours, is left out.
The whole table is checked before anything is sent. It is safe to run it again: existing
tenants are skipped, and so are first keys of the same name and owner. The token of a key that the
same caller made less than 12 hours ago is returned again, so that an interrupted import can resume.

Examples:
  keystile tenant import --csv tenants.csv
  keystile tenant import --csv tenants.csv --key first --tokens-file tokens.csv
  keystile tenant import --csv tenants.csv --key first -o json | jq -r '.keys[].plaintext'"
)]
pub(super) struct ImportArgs {
    /// The table, - for standard input
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    /// Make a first key of this name for each tenant whose row does not name one
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// File to make for the tokens of the keys, a table with mode 0600, with a ' before what a spreadsheet would calculate; it must not be there yet
    #[arg(long, value_name = "FILE")]
    tokens_file: Option<PathBuf>,
}

/// A row of the table as requests.
pub(super) struct Wanted {
    line: u64,
    tenant: pb::CreateTenantRequest,
    key: Option<pb::CreateKeyRequest>,
}

impl ImportArgs {
    /// Reads the table, and refuses it if anything in it is wrong or the tokens would have nowhere to go.
    pub(super) fn read(&self, form: Form, now: Timestamp) -> Result<Vec<Wanted>, Failure> {
        let mut seen = HashMap::new();
        let rows = csv::read(&self.csv, &COLUMNS, |row| {
            let wanted = self.row(row, now);
            if let Some(line) = seen.insert(wanted.tenant.tenant_id.clone(), wanted.line) {
                row.mistake("tenant", format_args!("is that of line {line}"));
            }
            Some(wanted)
        })?;
        let shown = matches!(form, Form::Json | Form::Yaml);
        if self.tokens_file.is_none() && !shown && rows.iter().any(|row| row.key.is_some()) {
            return Err(Failure::usage(
                "keys are asked for, and their tokens have nowhere to go\nhint: add --tokens-file FILE or -o json",
            ));
        }
        Ok(rows)
    }

    fn row(&self, row: &mut Row<'_>, now: Timestamp) -> Wanted {
        let id = row.text("tenant", "", |text| rule(TenantId::parse(text)));
        let tenant = pb::Tenant {
            display_name: row.text("display_name", "", |text| match text {
                "" => Ok(()),
                text => rule(DisplayName::parse(text)),
            }),
            plan: row.text("plan", "", |text| match text {
                "" => Ok(()),
                text => rule(PlanName::parse(text)),
            }),
            rate: row.text("rate", "", |text| rule(Own::parse(text, Rate::parse))),
            quota: row.text("quota", "", |text| rule(Own::parse(text, Quota::parse))),
            features: features(row, "features"),
            denied_features: features(row, "denied_features"),
            metadata: row
                .texts("metadata", METADATA_MAX, fact)
                .iter()
                .filter_map(|text| super::pair(text).ok())
                .collect(),
            ..pb::Tenant::default()
        };
        Wanted {
            line: row.line,
            key: self.key(row, &id, now),
            tenant: pb::CreateTenantRequest {
                tenant_id: id,
                tenant: Some(tenant),
                // Of this run alone: another run is told that the tenant exists.
                request_id: request_id::new(),
            },
        }
    }

    fn key(&self, row: &mut Row<'_>, tenant: &str, now: Timestamp) -> Option<pb::CreateKeyRequest> {
        let name = self.key.as_deref().unwrap_or_default();
        if name.is_empty() && row.cell(KEY.name).is_empty() {
            let of_a_key = COLUMNS.known.iter().filter(|name| name.starts_with("key_"));
            for column in of_a_key {
                if !row.cell(column).is_empty() {
                    row.mistake(column, "is of a key, and key_name is empty");
                }
            }
            return None;
        }
        let key = KEY.key(row, name, now);
        let words = ["tenant import", tenant, &key.display_name, &key.owner];
        Some(pb::CreateKeyRequest {
            parent: name_of(tenant),
            request_id: request_id::of_words(&words),
            key: Some(key),
        })
    }
}

fn fact(text: &str) -> Result<(), String> {
    let (name, value) = super::pair(text)?;
    rule(MetadataName::parse(&name)).map_err(|problem| format!("names {problem}"))?;
    rule(Description::parse(&value)).map_err(|problem| format!("values {problem}"))
}

/// What became of one thing that was asked for.
enum Became<T> {
    Made(T),
    /// It was there already; a key that the server gives again comes with its token.
    There(Option<T>),
    Refused(String),
}

/// What became of one row.
struct Done {
    line: u64,
    tenant: Became<pb::Tenant>,
    key: Option<Became<pb::CreateKeyResponse>>,
}

pub(super) async fn run(
    client: &Client,
    args: &ImportArgs,
    rows: &[Wanted],
    now: Timestamp,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    let keys = rows.iter().filter_map(|row| {
        Some(preflight::Wanted {
            line: row.line,
            tenant: &row.tenant.tenant_id,
            key: row.key.as_ref()?.key.as_ref()?,
            hint: None,
        })
    });
    preflight::check_expiry(client, &args.csv, &keys.collect::<Vec<_>>(), now).await?;
    let mut tally = Tally {
        keys: MadeKeys::into_file(args.tokens_file.as_deref())?,
        ..Tally::default()
    };
    let size = |row: &Wanted| {
        let key = row
            .key
            .as_ref()
            .map_or(0, pb::CreateKeyRequest::encoded_len);
        row.tenant.encoded_len().max(key)
    };
    let progress = Some(Progress::new("onboarded", rows.len()));
    let send = async |rows: &[Wanted]| onboard(client, rows, now).await;
    let ended = batches::each(rows, size, progress, send, |done| tally.keep(done)).await;
    // What was made before something stopped us is told all the same.
    tally.print(form, out)?;
    ended?;
    tally.refused.check()
}

/// Makes the tenants of a batch, then their keys.
async fn onboard(client: &Client, rows: &[Wanted], now: Timestamp) -> Result<Vec<Done>, Failure> {
    let tenants = make_tenants(client, rows).await?;
    let before = stream::iter(rows.iter().zip(&tenants))
        .map(|(row, tenant)| async move {
            match (&row.key, tenant) {
                (Some(key), Became::There(_)) => keys_like(client, key).await,
                _ => Ok(Vec::new()),
            }
        })
        .buffered(LOOKS);
    let before: Vec<_> = before.try_collect().await?;
    let is_asked = |row: &Wanted, tenant: &Became<_>, before: &[pb::Key]| {
        let reachable = row.key.is_some() && !matches!(tenant, Became::Refused(_));
        reachable && (before.is_empty() || before.iter().any(|key| can_be_given_again(key, now)))
    };
    let each = || rows.iter().zip(&tenants).zip(&before);
    let asked: Vec<bool> = each()
        .map(|((row, tenant), before)| is_asked(row, tenant, before))
        .collect();
    let requests = rows.iter().zip(&asked).filter(|(_, asked)| **asked);
    let requests = requests.filter_map(|(row, _)| row.key.clone()).collect();
    let mut made = make_keys(client, requests).await?.into_iter();
    let mut all = Vec::with_capacity(rows.len());
    for (((row, tenant), before), asked) in rows.iter().zip(tenants).zip(before).zip(asked) {
        let key = match (asked, before.is_empty()) {
            (true, _) => Some(key(client, &before, made.next()).await?),
            (false, false) => Some(Became::There(None)),
            (false, true) => None,
        };
        let line = row.line;
        all.push(Done { line, tenant, key });
    }
    Ok(all)
}

async fn make_tenants(
    client: &Client,
    rows: &[Wanted],
) -> Result<Vec<Became<pb::Tenant>>, Failure> {
    let request = pb::BatchCreateTenantsRequest {
        requests: rows.iter().map(|row| row.tenant.clone()).collect(),
    };
    let send = |request| async { client.tenants().batch_create_tenants(request).await };
    let results = client.call(request, send).await?.results.into_iter();
    let became = |result: pb::BatchCreateTenantsResult| match result.result {
        Some(TenantResult::Tenant(tenant)) => Became::Made(tenant),
        Some(TenantResult::Error(status)) if status.code == Code::AlreadyExists as i32 => {
            Became::There(None)
        }
        Some(TenantResult::Error(status)) => Became::Refused(printable(&status.message)),
        None => Became::Refused(NO_RESULT.into()),
    };
    Ok(results.map(became).collect())
}

async fn make_keys(
    client: &Client,
    requests: Vec<pb::CreateKeyRequest>,
) -> Result<Vec<pb::BatchCreateKeysResult>, Failure> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let parent = name_of("-");
    let request = pb::BatchCreateKeysRequest { parent, requests };
    let send = |request| async { client.keys().batch_create_keys(request).await };
    Ok(client.call(request, send).await?.results)
}

/// The keys of the tenant that have the name and the owner of the one that is wanted.
async fn keys_like(
    client: &Client,
    wanted: &pb::CreateKeyRequest,
) -> Result<Vec<pb::Key>, Failure> {
    let (owner, name) = (wanted.key.as_ref())
        .map(|key| (key.owner.as_str(), key.display_name.as_str()))
        .unwrap_or_default();
    let mut like = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListKeysRequest {
            parent: wanted.parent.clone(),
            page_size: 1000,
            page_token,
            filter: format!("owner = \"{owner}\""),
        };
        let send = |request| async { client.keys().list_keys(request).await };
        let page = client.call(request, send).await?;
        like.extend(page.keys.into_iter().filter(|key| key.display_name == name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(like);
        }
    }
}

/// Whether the server still knows the request that made the key, if it was one of ours.
fn can_be_given_again(key: &pb::Key, now: Timestamp) -> bool {
    let made_at = key.create_time.as_ref().map_or(0, |time| time.seconds);
    let oldest = now.as_millis() / 1000 - i64::try_from(ASK_AGAIN.as_secs()).unwrap_or(i64::MAX);
    key.state == i32::from(pb::KeyState::Active) && made_at > oldest
}

async fn key(
    client: &Client,
    before: &[pb::Key],
    result: Option<pb::BatchCreateKeysResult>,
) -> Result<Became<pb::CreateKeyResponse>, Failure> {
    let made = match result.and_then(|result| result.result) {
        Some(KeyResult::Created(made)) => made,
        Some(KeyResult::Error(status)) => {
            let there = !before.is_empty() || status.code == Code::AlreadyExists as i32;
            return Ok(match there {
                true => Became::There(None),
                false => Became::Refused(printable(&status.message)),
            });
        }
        None => return Ok(Became::Refused(NO_RESULT.into())),
    };
    let name = made.key.as_ref().map_or("", |key| key.name.as_str());
    if before.is_empty() {
        return Ok(Became::Made(made));
    }
    if before.iter().any(|key| key.name == name) {
        return Ok(Became::There(Some(made)));
    }
    // Somebody else made the one that was there, so this is a second one, which nobody asked for.
    let request = pb::RevokeKeyRequest {
        name: name.to_owned(),
        reason: "made twice by an import".into(),
        ..pb::RevokeKeyRequest::default()
    };
    let send = |request| async { client.keys().revoke_key(request).await };
    client.call(request, send).await?;
    Ok(Became::There(None))
}

/// What became of it all.
#[derive(Default)]
struct Tally {
    tenants: Vec<pb::Tenant>,
    tenants_there: Vec<u64>,
    /// With the tokens that are to be shown.
    keys: MadeKeys,
    keys_there: Vec<u64>,
    /// Of those, how many came without their tokens.
    tokens_missing: usize,
    refused: Refused,
}

impl Tally {
    fn keep(&mut self, batch: Vec<Done>) -> Result<(), Failure> {
        for Done { line, tenant, key } in batch {
            match tenant {
                Became::Made(tenant) => self.tenants.push(tenant),
                Became::There(_) => self.tenants_there.push(line),
                Became::Refused(problem) => self.refused.push(line, problem),
            }
            match key {
                None => {}
                Some(Became::Made(made)) => self.keys.add(made)?,
                Some(Became::There(made)) => {
                    self.keys_there.push(line);
                    self.tokens_missing += usize::from(made.is_none());
                    made.map_or(Ok(()), |made| self.keys.add(made))?;
                }
                Some(Became::Refused(problem)) => {
                    self.refused.push(line, format!("key: {problem}"));
                }
            }
        }
        self.keys.keep()
    }

    fn print(&self, form: Form, out: &mut Out) -> Result<(), Failure> {
        match form {
            Form::Table => self.print_table(out)?,
            Form::Name => self.print_names(out)?,
            Form::Json | Form::Yaml => self.print_data(form, out)?,
        }
        if self.tokens_missing > 0 {
            print_hint(&format!(
                "{} keys were there already and their tokens cannot be given again: whoever made them has them",
                self.tokens_missing
            ));
        }
        Ok(())
    }

    fn print_table(&self, out: &mut Out) -> Result<(), Failure> {
        let (tenants, there) = (self.tenants.len(), self.tenants_there.len());
        out.line(format_args!(
            "tenants: {tenants} made, {there} there already"
        ))?;
        let there = self.keys_there.len();
        let made = self.keys.len() + self.tokens_missing - there;
        if made + there > 0 {
            out.line(format_args!("keys: {made} made, {there} there already"))?;
        }
        self.keys.print_file(out)
    }

    fn print_names(&self, out: &mut Out) -> Result<(), Failure> {
        let names = self.tenants.iter().map(|tenant| &tenant.name);
        let mut names = names.chain(self.keys.keys().map(|key| &key.name));
        names.try_for_each(|name| out.line(printable(name)))
    }

    fn print_data(&self, form: Form, out: &mut Out) -> Result<(), Failure> {
        let tenants: Result<Vec<_>, Failure> = self.tenants.iter().map(output::json_of).collect();
        let all = json!({
            "tenants": tenants?,
            "keys": self.keys.json()?,
            "existing_tenant_lines": self.tenants_there,
            "existing_key_lines": self.keys_there,
            "refused": self.refused.json(),
        });
        output::document(out, form, &all)
    }
}
