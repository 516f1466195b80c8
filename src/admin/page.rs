//! Pages of a list: as many items as are wanted, and where to go on.

use std::future::Future;

use tonic::Status;

use crate::admin::page_token::PAGE_SIZE_MAX;

/// How many items one call looks at to find those that are wanted.
pub(super) const SCAN_MAX: usize = 5_000;

/// Some items, and the last id that was looked at when there are more.
pub(super) struct Page<T, Id> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<Id>,
}

/// What is listed, and which of it is wanted.
pub(super) trait Listed {
    type Item: Send;
    type Shown: Send;
    type Id: Clone + Send;

    /// Whether nothing is left out.
    fn wants_all(&self) -> bool;

    /// Items in the order of their ids, after `after`, at most `limit`.
    fn fetch(
        &self,
        after: Option<&Self::Id>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Self::Item>, Status>> + Send;

    fn id(item: &Self::Item) -> Self::Id;

    /// The item as the caller sees it; none if it is not wanted.
    fn show(&self, item: &Self::Item) -> Option<Self::Shown>;
}

/// The page of at most `size` items that follows `after`.
pub(super) async fn page<L: Listed + Sync>(
    list: &L,
    mut after: Option<L::Id>,
    size: usize,
) -> Result<Page<L::Shown, L::Id>, Status> {
    // One more than wanted tells whether there is a next page; a filter looks at more at once.
    let batch_len = if list.wants_all() {
        size
    } else {
        PAGE_SIZE_MAX
    } + 1;
    let mut items = Vec::with_capacity(size);
    let mut last_wanted = None;
    let mut looked_at = 0;
    loop {
        let batch = list.fetch(after.as_ref(), batch_len).await?;
        let is_last = batch.len() < batch_len;
        looked_at += batch.len();
        after = batch.last().map(L::id);
        for item in batch {
            let Some(shown) = list.show(&item) else {
                continue;
            };
            if items.len() == size {
                let next = last_wanted;
                return Ok(Page { items, next });
            }
            items.push(shown);
            last_wanted = Some(L::id(&item));
        }
        if is_last || looked_at >= SCAN_MAX {
            let next = after.filter(|_| !is_last);
            return Ok(Page { items, next });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers from 1, of which each so many is wanted.
    struct Numbers {
        count: usize,
        each: usize,
    }

    impl Listed for Numbers {
        type Item = usize;
        type Shown = usize;
        type Id = usize;

        fn wants_all(&self) -> bool {
            self.each == 1
        }

        async fn fetch(&self, after: Option<&usize>, limit: usize) -> Result<Vec<usize>, Status> {
            let first = after.map_or(1, |after| after + 1);
            Ok((first..=self.count).take(limit).collect())
        }

        fn id(item: &usize) -> usize {
            *item
        }

        fn show(&self, item: &usize) -> Option<usize> {
            item.is_multiple_of(self.each).then_some(*item)
        }
    }

    #[tokio::test]
    async fn every_wanted_item_is_on_one_page() {
        for (count, each, size) in [
            (0, 1, 10),
            (10, 1, 10),
            (11, 1, 10),
            (25, 1, 10),
            (2_500, 3, 10),
            (20_000, 6_000, 10),
        ] {
            let numbers = Numbers { count, each };
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = page(&numbers, after, size).await.unwrap();
                assert!(page.items.len() <= size);
                all.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let wanted: Vec<_> = (1..=count)
                .filter(|number| number.is_multiple_of(each))
                .collect();
            assert_eq!(all, wanted, "{count} {each} {size}");
        }
    }
}
