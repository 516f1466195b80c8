//! Keys of a table: one request a row, of one tenant or of many, held against the rules before any of it is sent.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::cli::client::Client;
use crate::cli::csv::cells::rule;
use crate::cli::csv::{self, Columns, Row};
use crate::cli::progress::Progress;
use crate::cli::{Failure, batches, name_of, preflight};
use crate::clock::Timestamp;
use crate::crypto::token::HINT_LEN;
use crate::domain::name::TenantId;
use crate::proto::admin as pb;

/// A request that makes a key.
pub(super) trait KeyRequest: prost::Message + Clone {
    fn parent(&self) -> &str;
    fn key(&self) -> Option<&pb::Key>;
    /// The beginning of its token, where that is known.
    fn hint(&self) -> Option<&str>;
}

impl KeyRequest for pb::CreateKeyRequest {
    fn parent(&self) -> &str {
        &self.parent
    }
    fn key(&self) -> Option<&pb::Key> {
        self.key.as_ref()
    }
    fn hint(&self) -> Option<&str> {
        None
    }
}

impl KeyRequest for pb::ImportKeyRequest {
    fn parent(&self) -> &str {
        &self.parent
    }
    fn key(&self) -> Option<&pb::Key> {
        self.key.as_ref()
    }
    fn hint(&self) -> Option<&str> {
        self.token.get(..HINT_LEN)
    }
}

/// What to send, each with its line.
pub(super) struct Work<R> {
    /// None for a single key.
    table: Option<PathBuf>,
    parent: String,
    rows: Vec<(u64, R)>,
}

impl<R: KeyRequest> Work<R> {
    /// A single key.
    pub(super) fn one(tenant: Option<&str>, request: R) -> Self {
        Self {
            table: None,
            parent: name_of(tenant.unwrap_or("-")),
            rows: vec![(1, request)],
        }
    }

    /// Reads a table, and refuses it if anything in it is wrong.
    pub(super) fn of_table(
        tenant: Option<&str>,
        path: &Path,
        columns: &Columns,
        mut read: impl FnMut(&mut Row<'_>) -> R,
    ) -> Result<Self, Failure> {
        Ok(Self {
            table: Some(path.to_owned()),
            parent: name_of(tenant.unwrap_or("-")),
            rows: csv::read(path, columns, |row| Some((row.line, read(row))))?,
        })
    }

    pub(super) fn is_table(&self) -> bool {
        self.table.is_some()
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &R> {
        self.rows.iter().map(|(_, request)| request)
    }

    /// Refuses the table if rows of it would be refused by limits on keys or rules of expiry.
    pub(super) async fn check(&self, client: &Client, now: Timestamp) -> Result<(), Failure> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        let wanted = self.rows.iter().filter_map(|(line, request)| {
            Some(preflight::Wanted {
                line: *line,
                tenant: preflight::tenant_of(request.parent(), &self.parent),
                key: request.key()?,
                hint: request.hint(),
            })
        });
        preflight::check(client, table, &wanted.collect::<Vec<_>>(), now).await
    }

    /// Sends all of it, by `send` to the parent of a batch, and keeps what came of each row.
    pub(super) async fn send<D>(
        &self,
        done: &'static str,
        send: impl AsyncFn(String, Vec<R>) -> Result<Vec<D>, Failure>,
        keep: impl FnMut(Vec<(u64, D)>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let progress = self
            .is_table()
            .then(|| Progress::new(done, self.rows.len()));
        let size = |(_, request): &(u64, R)| request.encoded_len();
        let send = async |rows: &[(u64, R)]| {
            let requests = rows.iter().map(|(_, request)| request.clone()).collect();
            let results = send(self.parent.clone(), requests).await?;
            if results.len() != rows.len() {
                let (got, sent) = (results.len(), rows.len());
                return Err(Failure::failed(anyhow!(
                    "the server gave {got} results for {sent} keys"
                )));
            }
            let lines = rows.iter().map(|(line, _)| *line);
            Ok(lines.zip(results).collect::<Vec<_>>())
        };
        batches::each(&self.rows, size, progress, send, keep).await
    }
}

/// The tenant of a row, and the parent that its request names: none where the batch says it.
pub(super) fn tenant_of(tenant: Option<&str>, row: &mut Row<'_>) -> (String, String) {
    let Some(named) = tenant else {
        let tenant = row.text("tenant", "", |text| rule(TenantId::parse(text)));
        let parent = name_of(&tenant);
        return (tenant, parent);
    };
    if !["", named].contains(&row.cell("tenant")) {
        row.mistake(
            "tenant",
            format_args!("is not {named}, which the command names"),
        );
    }
    (named.to_owned(), String::new())
}
