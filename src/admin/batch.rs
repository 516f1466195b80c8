//! Batches: many small requests in one call, each with a result of its own.

use std::collections::BTreeMap;
use std::future::Future;

use prost::Message as _;
use tokio::task::JoinSet;
use tonic::Status;
use tonic_types::pb::Status as RpcStatus;

use crate::admin::convert::bad;
use crate::status::Reason;

/// The most requests in a batch.
pub(super) const BATCH_LEN_MAX: usize = 1000;
/// How many are under way at once: as many as the embedded store commits together.
const CONCURRENT_MAX: usize = 256;

/// Refuses a batch of none or too many.
pub(super) fn check_len(len: usize) -> Result<(), Status> {
    match len {
        0 => Err(bad("requests", "must not be empty")),
        len if len > BATCH_LEN_MAX => Err(bad(
            "requests",
            format!("at most {BATCH_LEN_MAX} are allowed"),
        )),
        _ => Ok(()),
    }
}

/// Runs `work` for every item with bounded concurrency; results in the items' order. When the caller is gone, items
/// that have not begun are skipped.
pub(super) async fn each<T, R, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Result<Vec<R>, Status>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    let mut items = items.into_iter().enumerate();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < CONCURRENT_MAX
            && let Some((at, item)) = items.next()
        {
            let work = work(item);
            under_way.spawn(async move { (at, work.await) });
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok((at, result))) => results[at] = Some(result),
            Some(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a batch failed");
                return Err(Reason::Internal.status("internal error"));
            }
        }
    }
    Ok(results.into_iter().flatten().collect())
}

/// The same, but where `may_wait` says so an item waits for all others, and then for those of its group that come before
/// it. So of a group with more than there is room for, the later items are too many.
pub(super) async fn each_in_turn<T, R, F, G>(
    items: Vec<T>,
    may_wait: impl Fn(&T) -> Option<G>,
    work: impl Fn(T) -> F + Clone + Send + 'static,
) -> Result<Vec<R>, Status>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
    G: Ord,
{
    let (mut at_once, mut groups) = (Vec::new(), BTreeMap::<G, Vec<(usize, T)>>::new());
    for (at, item) in items.into_iter().enumerate() {
        match may_wait(&item) {
            None => at_once.push((at, item)),
            Some(group) => groups.entry(group).or_default().push((at, item)),
        }
    }
    let now = work.clone();
    let first = each(at_once, |(at, item)| {
        let work = now(item);
        async move { (at, work.await) }
    });
    let mut results: Vec<(usize, R)> = first.await?;
    let groups: Vec<_> = groups.into_values().collect();
    let then = each(groups, |group| {
        let work = work.clone();
        async move {
            let mut done = Vec::with_capacity(group.len());
            for (at, item) in group {
                done.push((at, work(item).await));
            }
            done
        }
    });
    results.extend(then.await?.into_iter().flatten());
    results.sort_unstable_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// An error as a part of an answer, with all its details.
pub(super) fn rpc_status(status: &Status) -> RpcStatus {
    // The details of a status are that very message, encoded.
    RpcStatus::decode(status.details())
        .ok()
        .filter(|decoded| !decoded.details.is_empty())
        .unwrap_or_else(|| RpcStatus {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Vec::new(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..1000).collect();
        let results = each(items.clone(), |item| async move {
            for _ in 0..item % 7 {
                tokio::task::yield_now().await;
            }
            item
        });
        assert_eq!(results.await.unwrap(), items);
    }

    #[test]
    fn an_error_in_an_answer_has_its_code_message_and_details() {
        let status = rpc_status(&bad("key.owner", "is bad"));
        assert_eq!(
            (status.code, status.message.as_str()),
            (3, "key.owner: is bad")
        );
        let kinds: Vec<_> = status
            .details
            .iter()
            .map(|any| any.type_url.as_str())
            .collect();
        assert_eq!(
            kinds,
            [
                "type.googleapis.com/google.rpc.ErrorInfo",
                "type.googleapis.com/google.rpc.BadRequest"
            ]
        );
    }
}
