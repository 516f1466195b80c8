//! The order of a batch. Its rows are done side by side, but of an owner with more rows than there is room for keys, those
//! that come later in the batch are the ones that are refused.

use std::collections::BTreeMap;

use tonic::Status;

use super::Parent;
use crate::admin::batch;
use crate::admin::convert::role_of;
use crate::admin::keys::Keys;
use crate::domain::governance::PerRole;
use crate::domain::name::{Owner, TenantId};
use crate::proto::admin as pb;

/// Whose key a row is about.
pub(super) type Whose = (TenantId, Owner);

/// Where the rows of a batch are, by whose they are. What cannot be read is refused for that.
fn by_owner<'a>(
    parent: &Parent,
    rows: impl Iterator<Item = (&'a str, Option<&'a pb::Key>)>,
) -> BTreeMap<Whose, Vec<(usize, i32)>> {
    let mut all: BTreeMap<Whose, Vec<(usize, i32)>> = BTreeMap::new();
    for (at, (of, key)) in rows.enumerate() {
        let owner = key.and_then(|key| Some((Owner::parse(&key.owner).ok()?, key.role)));
        if let (Ok(tenant), Some((owner, role))) = (parent.of(of), owner) {
            all.entry((tenant, owner)).or_default().push((at, role));
        }
    }
    all
}

impl Keys {
    /// For each row of a batch (its parent and its key) whose it is, if it may be too many and so waits for those before it.
    pub(super) async fn waiting<'a>(
        &self,
        parent: &Parent,
        rows: impl ExactSizeIterator<Item = (&'a str, Option<&'a pb::Key>)>,
    ) -> Result<Vec<Option<Whose>>, Status> {
        let mut waiting: Vec<Option<Whose>> = vec![None; rows.len()];
        let several = by_owner(parent, rows);
        let several = several.into_iter().filter(|(_, rows)| rows.len() > 1);
        let rooms = batch::each(several.collect(), |(whose, rows)| {
            let registry = self.0.registry.clone();
            async move {
                let room = registry.room_of(&whose.0, &whose.1).await;
                (whose, rows, room)
            }
        });
        for (whose, rows, room) in rooms.await? {
            // Who cannot say, cannot make a key either: each row gets the reason.
            let Ok(room) = room else { continue };
            for (before, (at, role)) in rows.into_iter().enumerate() {
                if is_too_many(before, role, &room) {
                    waiting[at] = Some(whose.clone());
                }
            }
        }
        Ok(waiting)
    }
}

fn is_too_many(before: usize, role: i32, room: &PerRole<u64>) -> bool {
    role_of(role).is_some_and(|role| before as u64 >= *room.of(role))
}
