//! `keystile key create --csv`: many new keys of one table, of one tenant or of many.

use std::collections::HashMap;

use serde_json::json;

use super::CreateArgs;
use super::bulk::{self, Work};
use crate::cli::batches::Refused;
use crate::cli::client::Client;
use crate::cli::csv::cells::KeyColumns;
use crate::cli::csv::{Columns, Row};
use crate::cli::output::{self, Form, Out, printable};
use crate::cli::tokens::MadeKeys;
use crate::cli::{Failure, request_id};
use crate::clock::Timestamp;
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

impl CreateArgs {
    /// Reads the table, and refuses it if anything in it is wrong or the tokens would have nowhere to go.
    pub(super) fn table(
        &self,
        form: Form,
        now: Timestamp,
    ) -> Result<Option<Work<pb::CreateKeyRequest>>, Failure> {
        let Some(path) = &self.csv else {
            return Ok(None);
        };
        let mut seen = HashMap::new();
        let work = Work::of_table(self.tenant.as_deref(), path, &COLUMNS, |row| {
            let request = self.row(row, now);
            if let Some(line) = seen.insert(request.request_id.clone(), row.line) {
                let problem = format!("and owner are those of line {line}, for the same tenant");
                row.mistake("name", problem);
            }
            request
        })?;
        let shown = matches!(form, Form::Json | Form::Yaml);
        if self.tokens_file.is_none() && !shown {
            return Err(Failure::usage(
                "the tokens of the keys have nowhere to go\nhint: add --tokens-file FILE or -o json",
            ));
        }
        Ok(Some(work))
    }

    fn row(&self, row: &mut Row<'_>, now: Timestamp) -> pb::CreateKeyRequest {
        let (tenant, parent) = bulk::tenant_of(self.tenant.as_deref(), row);
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

struct Tally {
    made: MadeKeys,
    refused: Refused,
}

pub(super) async fn run(
    client: &Client,
    args: &CreateArgs,
    work: Work<pb::CreateKeyRequest>,
    now: Timestamp,
    form: Form,
    out: &mut Out,
) -> Result<(), Failure> {
    work.check(client, now).await?;
    let mut tally = Tally {
        made: MadeKeys::into_file(args.tokens_file.as_deref())?,
        refused: Refused::default(),
    };
    let send = async |parent, requests| {
        let request = pb::BatchCreateKeysRequest { parent, requests };
        let send = |request| async { client.keys().batch_create_keys(request).await };
        Ok(client.call(request, send).await?.results)
    };
    let ended = work.send("made", send, |batch| tally.keep(batch)).await;
    // What was made before something stopped us is told all the same.
    tally.print(form, out)?;
    ended?;
    tally.refused.check()
}

impl Tally {
    fn keep(&mut self, batch: Vec<(u64, pb::BatchCreateKeysResult)>) -> Result<(), Failure> {
        for (line, result) in batch {
            match result.result {
                Some(Outcome::Created(made)) => self.made.add(made)?,
                Some(Outcome::Error(status)) => {
                    self.refused.push(line, printable(&status.message));
                }
                None => self.refused.push(line, "the server gave no result".into()),
            }
        }
        self.made.keep()
    }

    fn print(&self, form: Form, out: &mut Out) -> Result<(), Failure> {
        match form {
            Form::Table => {
                let (made, refused) = (self.made.len(), self.refused.len());
                out.line(format_args!("{made} made, {refused} refused"))?;
                self.made.print_file(out)
            }
            Form::Name => {
                let mut keys = self.made.keys();
                keys.try_for_each(|key| out.line(printable(&key.name)))
            }
            Form::Json | Form::Yaml => {
                let all = json!({"keys": self.made.json()?, "refused": self.refused.json()});
                output::document(out, form, &all)
            }
        }
    }
}
