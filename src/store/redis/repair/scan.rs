//! Everything of a kind, a page at a time: by the names themselves, whatever the lists say.

use redis::{Cmd, cmd};

use super::super::connect;
use super::super::keyspace::Keyspace;
use super::super::{RedisStore, change::damaged};
use crate::domain::key::LookupId;
use crate::domain::name::TenantId;
use crate::store::StoreError;
use crate::store::repair::{Cursor, Page};

/// About how many names a server looks at for one page.
const COUNT: usize = 1000;

/// A part of a scan (a server, or a list) and where it is in that.
struct At {
    part: usize,
    cursor: u64,
}

impl At {
    fn of(from: Option<&Cursor>) -> Result<Self, StoreError> {
        let Some(Cursor(text)) = from else {
            return Ok(Self { part: 0, cursor: 0 });
        };
        let parts = text.split_once('/');
        let read =
            parts.and_then(|(part, cursor)| Some((part.parse().ok()?, cursor.parse().ok()?)));
        let (part, cursor) = read.ok_or_else(|| damaged("a cursor"))?;
        Ok(Self { part, cursor })
    }

    /// Where to go on after a page that ended at `cursor`, 0 for the end of the part.
    fn next(&self, cursor: u64, parts: usize) -> Option<Cursor> {
        let part = self.part + usize::from(cursor == 0);
        (part < parts).then(|| Cursor(format!("{part}/{cursor}")))
    }
}

/// `prefix*` with what is special in a pattern taken as it is.
fn pattern(prefix: &str, suffix: &str) -> String {
    let mut pattern = String::new();
    for c in prefix.chars() {
        if "\\*?[]^-".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "*" + suffix
}

impl RedisStore {
    /// A page of names of all primaries.
    async fn scan_names(
        &self,
        pattern: &str,
        at: &At,
    ) -> Result<(Vec<Vec<u8>>, u64, usize), StoreError> {
        let primaries = self.link.primaries().await?;
        let Some(primary) = primaries.get(at.part) else {
            return Ok((Vec::new(), 0, primaries.len()));
        };
        let unavailable = |error: connect::ConnectError| StoreError::Unavailable(error.into());
        let opened = connect::open(self.link.settings(), primary, |_| {}).await;
        let mut connection = opened.map_err(unavailable)?;
        let mut scan = cmd("SCAN");
        scan.arg(at.cursor).arg("MATCH").arg(pattern);
        scan.arg("COUNT").arg(COUNT);
        let found = scan.query_async(&mut connection).await;
        let (cursor, names): (u64, _) =
            found.map_err(|error| unavailable(connect::ConnectError::Redis(error)))?;
        Ok((names, cursor, primaries.len()))
    }

    pub(super) async fn scan_for_entries(
        &self,
        from: Option<Cursor>,
    ) -> Result<Page<LookupId>, StoreError> {
        let at = At::of(from.as_ref())?;
        let pattern = pattern(&self.names.index_prefix(), "");
        let (names, cursor, parts) = self.scan_names(&pattern, &at).await?;
        let ids = names.iter().filter_map(|name| self.names.parse_index(name));
        Ok((ids.collect(), at.next(cursor, parts)))
    }

    /// First the lists of tenants and counts, then records and keys of every server.
    pub(super) async fn scan_for_tenants(
        &self,
        from: Option<Cursor>,
    ) -> Result<Page<TenantId>, StoreError> {
        let at = At::of(from.as_ref())?;
        let (mut listed, mut counted) = (cmd("ZSCAN"), cmd("HSCAN"));
        listed.arg(self.names.directory());
        counted.arg(self.names.live());
        if let Some(list) = [listed, counted].get(at.part) {
            let (members, cursor) = self.scan_list(list.clone(), &at).await?;
            let ids = members.iter().step_by(2).filter_map(|member| {
                let id = std::str::from_utf8(member).ok()?.split('/').next()?;
                TenantId::parse(id).ok()
            });
            return Ok((ids.collect(), at.next(cursor, usize::MAX)));
        }
        // Each server twice: once for records, once for keys.
        let (which, server) = ((at.part - 2) % 2, (at.part - 2) / 2);
        let pattern = match which {
            0 => pattern(&self.names.tenant_prefix(), ""),
            _ => pattern(&self.names.keys_prefix(), ":keys"),
        };
        let on_server = At {
            part: server,
            cursor: at.cursor,
        };
        let (names, cursor, servers) = self.scan_names(&pattern, &on_server).await?;
        let ids = names.iter().filter_map(|name| Keyspace::tenant_of(name));
        Ok((ids.collect(), at.next(cursor, 2 + 2 * servers)))
    }

    pub(super) async fn scan_lookups_of(
        &self,
        tenant: &TenantId,
        from: Option<Cursor>,
    ) -> Result<Page<LookupId>, StoreError> {
        let at = At::of(from.as_ref())?;
        let mut scan = cmd("SSCAN");
        scan.arg(self.names.of_tenant(tenant).lookups());
        let (members, cursor) = self.scan_list(scan, &at).await?;
        let ids = members.iter();
        let ids = ids.filter_map(|id| Some(LookupId(id.as_slice().try_into().ok()?)));
        Ok((ids.collect(), at.next(cursor, 1)))
    }

    /// A page of the members of a sorted set.
    pub(in crate::store::redis) async fn scan_members(
        &self,
        name: &str,
        from: Option<Cursor>,
    ) -> Result<Page<Vec<u8>>, StoreError> {
        let at = At::of(from.as_ref())?;
        let mut scan = cmd("ZSCAN");
        scan.arg(name);
        let (pairs, cursor) = self.scan_list(scan, &at).await?;
        let members = pairs.into_iter().step_by(2).collect();
        Ok((members, at.next(cursor, 1)))
    }

    /// A page of one list. One of another type than ours has nothing in it.
    async fn scan_list(&self, mut scan: Cmd, at: &At) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        scan.arg(at.cursor).arg("COUNT").arg(COUNT);
        match self.link.ask::<(u64, Vec<Vec<u8>>)>(&scan).await {
            Ok((cursor, members)) => Ok((members, cursor)),
            Err(StoreError::Damaged(_)) => Ok((Vec::new(), 0)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(pattern("ks:t:", ""), "ks:t:*");
        assert_eq!(pattern("a*[x]?", ":keys"), "a\\*\\[x\\]\\?*:keys");
    }

    #[test]
    fn a_scan_goes_through_every_part_once() {
        let start = At::of(None).unwrap();
        let mut next = start.next(7, 2);
        let mut way = Vec::new();
        while let Some(cursor) = next {
            let at = At::of(Some(&cursor)).unwrap();
            way.push(cursor.0);
            next = at.next(0, 2);
        }
        assert_eq!(way, ["0/7", "1/0"]);
        assert!(At::of(Some(&Cursor("x".to_owned()))).is_err());
    }
}
