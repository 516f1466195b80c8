//! Requests that were done, inside a write transaction.

use redb::{ReadableTable, StorageError, Table, TableError, WriteTransaction};

use crate::store::redb::operation::Stop;
use crate::store::redb::tables as t;
use crate::store::{CommitError, IdempotencyRecord};

/// How many expired rows one commit removes. More than one: what has expired goes faster than new ones come.
const FORGOTTEN_MAX: usize = 8;

/// Both tables, open for writing.
pub(super) struct Requests<'txn> {
    rows: Table<'txn, (&'static str, &'static [u8; 16]), t::RequestValue>,
    due: Table<'txn, (i64, &'static str, &'static [u8; 16]), ()>,
}

impl<'txn> Requests<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            rows: txn.open_table(t::REQUESTS)?,
            due: txn.open_table(t::REQUESTS_DUE)?,
        })
    }

    /// Refuses what was done before.
    pub(super) fn check(
        &self,
        tenant: &str,
        request: Option<&IdempotencyRecord>,
    ) -> Result<(), Stop> {
        let Some(request) = request else {
            return Ok(());
        };
        match self.rows.get((tenant, &request.tag))? {
            Some(found) if found.value().1 > request.made_at.as_millis() => {
                Err(CommitError::Repeated.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers a request and forgets some that have expired.
    pub(super) fn write(
        &mut self,
        tenant: &str,
        request: Option<&IdempotencyRecord>,
    ) -> Result<(), StorageError> {
        let Some(request) = request else {
            return Ok(());
        };
        let made_at = request.made_at.as_millis();
        self.forget(made_at)?;
        let expires_at = request.expires_at.as_millis();
        let value = (made_at, expires_at, request.body.as_slice());
        let expired = self.rows.insert((tenant, &request.tag), value)?;
        if let Some(expired) = expired.map(|old| old.value().1) {
            self.due.remove((expired, tenant, &request.tag))?;
        }
        self.due.insert((expires_at, tenant, &request.tag), ())?;
        Ok(())
    }

    fn forget(&mut self, now: i64) -> Result<(), StorageError> {
        for _ in 0..FORGOTTEN_MAX {
            let Some((at, _)) = self.due.first()? else {
                return Ok(());
            };
            let (expires_at, tenant, tag) = at.value();
            if expires_at > now {
                return Ok(());
            }
            self.rows.remove((tenant, tag))?;
            drop(at);
            self.due.pop_first()?;
        }
        Ok(())
    }

    /// Forgets all of a tenant; its range ends before `end`.
    pub(super) fn delete(&mut self, tenant: &str, end: &str) -> Result<(), StorageError> {
        let mut gone = Vec::new();
        let range = (tenant, &[0; 16])..(end, &[0; 16]);
        self.rows.retain_in(range, |(_, tag), (_, expires_at, _)| {
            gone.push((expires_at, *tag));
            false
        })?;
        for (expires_at, tag) in gone {
            self.due.remove((expires_at, tenant, &tag))?;
        }
        Ok(())
    }
}
