//! What every `list` has: a filter, a limit, pages, and `--watch`.

use crate::cli::Failure;
use crate::cli::watch::WatchArg;

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those that match, for example 'state = ACTIVE AND display_name = "ci"'
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) filter: String,
    /// Stop after this many
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// How many to fetch with one call
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=1000))]
    page_size: i32,
    #[command(flatten)]
    pub(super) watch: WatchArg,
}

impl ListArgs {
    /// Every page up to the limit; `fetch` gets a page size and a page token, and gives items and the next token.
    pub(super) async fn all<T>(
        &self,
        fetch: impl AsyncFn(i32, String) -> Result<(Vec<T>, String), Failure>,
    ) -> Result<Vec<T>, Failure> {
        let limit = self.limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let left = i32::try_from(limit - all.len()).unwrap_or(i32::MAX);
            let (items, next) = fetch(self.page_size.min(left), token).await?;
            all.extend(items);
            all.truncate(limit);
            if next.is_empty() || all.len() == limit {
                return Ok(all);
            }
            token = next;
        }
    }
}
