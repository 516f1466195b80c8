//! `keystile key create --csv`: many new keys of one table, of one tenant or of many.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::anyhow;
use prost::Message as _;
use serde_json::json;

use super::CreateArgs;
use crate::cli::batches::{self, Refused};
use crate::cli::client::Client;
use crate::cli::csv::cells::{KeyColumns, rule};
use crate::cli::csv::{self, Columns, Row};
use crate::cli::name_of;
use crate::cli::output::{self, Form, Out, printable};
use crate::cli::progress::Progress;
use crate::cli::tokens::TokensFile;
use crate::cli::{Failure, preflight, request_id};
use crate::clock::Timestamp;
use crate::domain::name::TenantId;
use crate::proto::admin as pb;
use crate::proto::admin::batch_create_keys_result::Result as Outcome;

const COLUMNS: Columns = Columns {
    known: &[
        "tenant",
        "name",
        "owner",
        "role",
        "admin_access",
        "scopes",
        "features",
        "networks",
        "description",
        "expires_at",
        "rate",
        "quota",
    ],
    required: &["name"],
};

/// What to make, each with its line.
pub(super) struct Work {
    table: PathBuf,
    parent: String,
    rows: Vec<(u64, pb::CreateKeyRequest)>,
}

impl CreateArgs {
    /// Reads the table, and refuses it if anything in it is wrong or the tokens would have nowhere to go.
    pub(super) fn table(&self, form: Form, now: Timestamp) -> Result<Option<Work>, Failure> {
        let Some(path) = &self.csv else {
            return Ok(None);
        };
        let mut seen = HashMap::new();
        let rows = csv::read(path, &COLUMNS, |row| {
            let request = self.row(row, now);
            if let Some(line) = seen.insert(request.request_id.clone(), row.line) {
                let problem = format!("and owner are those of line {line}, for the same tenant");
                row.mistake("name", problem);
            }
            Some((row.line, request))
        })?;
        let shown = matches!(form, Form::Json | Form::Yaml);
        if self.tokens_file.is_none() && !shown {
            return Err(Failure::usage(
                "the tokens of the keys have nowhere to go\nhint: add --tokens-file FILE or -o json",
            ));
        }
        let parent = name_of(self.tenant.as_deref().unwrap_or("-"));
        let table = path.clone();
        Ok(Some(Work {
            table,
            parent,
            rows,
        }))
    }

    fn row(&self, row: &mut Row<'_>, now: Timestamp) -> pb::CreateKeyRequest {
        let named = row.cell("tenant").to_owned();
        let (tenant, parent) = match &self.tenant {
            Some(tenant) => {
                if !named.is_empty() && named != *tenant {
                    let problem = format!("is not {tenant}, which the command names");
                    row.mistake("tenant", problem);
                }
                // The batch says it.
                (tenant.clone(), String::new())
            }
            None => {
                let tenant = row.text("tenant", "", |text| rule(TenantId::parse(text)));
                let parent = name_of(&tenant);
                (tenant, parent)
            }
        };
        let key = KeyColumns::PLAIN.key(row, "", now);
        let words = ["key create", &tenant, &key.display_name, &key.owner];
        pb::CreateKeyRequest {
            parent,
            // The same in another run: what an interrupted one made is given again with its token.
            request_id: request_id::of_words(&words),
            key: Some(key),
        }
    }
}

impl Work {
    fn wanted(&self) -> Vec<preflight::Wanted<'_>> {
        let rows = self.rows.iter();
        let rows = rows.filter_map(|(line, request)| Some((line, request, request.key.as_ref()?)));
        rows.map(|(line, request, key)| preflight::Wanted {
            line: *line,
            tenant: preflight::tenant_of(&request.parent, &self.parent),
            key,
            hint: None,
        })
        .collect()
    }
}

#[derive(Default)]
struct Tally {
    file: Option<TokensFile>,
    made: Vec<pb::CreateKeyResponse>,
    refused: Refused,
}

pub(super) async fn run(
    client: &Client,
    args: &CreateArgs,
    work: Work,
    now: Timestamp,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    preflight::check(client, &work.table, &work.wanted(), now).await?;
    let file = args.tokens_file.as_deref().map(TokensFile::make);
    let mut tally = Tally {
        file: file.transpose()?,
        ..Tally::default()
    };
    let progress = Some(Progress::new("made", work.rows.len()));
    let size = |(_, request): &(u64, pb::CreateKeyRequest)| request.encoded_len();
    let send = async |rows: &[(u64, pb::CreateKeyRequest)]| {
        let request = pb::BatchCreateKeysRequest {
            parent: work.parent.clone(),
            requests: rows.iter().map(|(_, request)| request.clone()).collect(),
        };
        let send = |request| async { client.keys().batch_create_keys(request).await };
        let results = client.call(request, send).await?.results;
        if results.len() != rows.len() {
            let (got, sent) = (results.len(), rows.len());
            return Err(Failure::failed(anyhow!(
                "the server gave {got} results for {sent} keys"
            )));
        }
        let lines = rows.iter().map(|(line, _)| *line);
        Ok(lines.zip(results).collect::<Vec<_>>())
    };
    let ended = batches::each(&work.rows, size, progress, send, |all| tally.keep(all)).await;
    // What was made before something stopped us is told all the same.
    tally.tell(form, out)?;
    ended?;
    tally.refused.check()
}

impl Tally {
    fn keep(&mut self, batch: Vec<(u64, pb::BatchCreateKeysResult)>) -> Result<(), Failure> {
        for (line, result) in batch {
            match result.result {
                Some(Outcome::Created(made)) => self.keep_key(made)?,
                Some(Outcome::Error(status)) => {
                    self.refused.push(line, printable(&status.message));
                }
                None => self.refused.push(line, "the server gave no result".into()),
            }
        }
        self.file.as_mut().map_or(Ok(()), TokensFile::keep)
    }

    fn keep_key(&mut self, mut made: pb::CreateKeyResponse) -> Result<(), Failure> {
        if let Some(file) = &mut self.file {
            file.add(&made)?;
            made.plaintext.clear();
        }
        self.made.push(made);
        Ok(())
    }

    fn tell(&self, form: Form, out: &mut Out) -> Result<(), Failure> {
        let keys = || self.made.iter().filter_map(|made| made.key.as_ref());
        match form {
            Form::Table => {
                let (made, refused) = (self.made.len(), self.refused.len());
                out.line(format_args!("{made} made, {refused} refused"))?;
                match &self.file {
                    Some(file) => out.line(file.summary()),
                    None => Ok(()),
                }
            }
            Form::Name => keys().try_for_each(|key| out.line(printable(&key.name))),
            Form::Json | Form::Yaml => {
                let made: Result<Vec<_>, Failure> =
                    self.made.iter().map(output::created_json).collect();
                let all = json!({"keys": made?, "refused": self.refused.json()});
                output::document(out, form, &all)
            }
        }
    }
}
