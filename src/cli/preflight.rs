//! The rules on keys, held against a whole table before any of it is sent: else the server would make as many keys as
//! fit, and which these are would be chance.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Code, Response, Status};

use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::csv;
use crate::cli::name_of;
use crate::clock::Timestamp;
use crate::domain::governance::{ExpiryProblem, ExpiryRules};
use crate::proto::admin as pb;

/// How many tenants are asked about together.
const TENANTS_TOGETHER: usize = 16;
const PAGE_SIZE: i32 = 1000;
/// How long the server knows requests that were made.
const REQUESTS_KEPT_SECONDS: i64 = 24 * 60 * 60;
const WHAT_TO_DO: &str = "give the rows other owners (a column `owner`; without one, all keys are of `default`), raise the limit with `keystile limits set`, or leave rows out";

/// A key that a row asks for.
pub(super) struct Wanted<'a> {
    pub(super) line: u64,
    pub(super) tenant: &'a str,
    pub(super) key: &'a pb::Key,
    /// The beginning of its token, where that is known.
    pub(super) hint: Option<&'a str>,
}

/// The id of the tenant that a request or its batch names.
pub(super) fn tenant_of<'a>(parent: &'a str, batch: &'a str) -> &'a str {
    let name = if parent.is_empty() { batch } else { parent };
    name.strip_prefix("tenants/").unwrap_or(name)
}

/// What holds for a tenant, and the keys that it has.
struct Tenant {
    limits: pb::KeyLimits,
    keys: Vec<pb::Key>,
}

/// Refuses the table if rows of it would be refused by limits on keys or rules of expiry.
pub(super) async fn check(
    client: &Client,
    table: &Path,
    rows: &[Wanted<'_>],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut by_tenant: BTreeMap<&str, Vec<&Wanted<'_>>> = BTreeMap::new();
    for row in rows {
        by_tenant.entry(row.tenant).or_default().push(row);
    }
    let found = stream::iter(by_tenant)
        .map(|(tenant, rows)| async move {
            // Of a tenant that is not there or is hidden from us, the server says so for each row.
            let Some(tenant) = facts(client, tenant).await? else {
                return Ok(Vec::new());
            };
            Ok::<_, Failure>(problems(&tenant, &rows, now))
        })
        .buffer_unordered(TENANTS_TOGETHER);
    let found: Vec<Vec<Problem>> = found.try_collect().await?;
    let mut found: Vec<Problem> = found.into_iter().flatten().collect();
    found.sort_by_key(|problem| problem.line);
    refuse(table, &found)
}

struct Problem {
    line: u64,
    text: String,
    of_count: bool,
}

fn refuse(table: &Path, found: &[Problem]) -> Result<(), Failure> {
    if found.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = found
        .iter()
        .map(|problem| format!("line {}: {}", problem.line, problem.text))
        .collect();
    let hint = found.iter().any(|problem| problem.of_count);
    Err(csv::refuse(table, &lines, hint.then_some(WHAT_TO_DO)))
}

async fn facts(client: &Client, tenant: &str) -> Result<Option<Tenant>, Failure> {
    let name = format!("{}/keyLimits", name_of(tenant));
    let send = |request| async { hidden(client.limits().get_key_limits(request).await) };
    let limits = client.call(pb::GetKeyLimitsRequest { name }, send).await?;
    let Some(limits) = limits else {
        return Ok(None);
    };
    let mut keys = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListKeysRequest {
            parent: name_of(tenant),
            page_size: PAGE_SIZE,
            page_token,
            filter: "state != REVOKED".to_owned(),
        };
        let send = |request| async { hidden(client.keys().list_keys(request).await) };
        let Some(page) = client.call(request, send).await? else {
            return Ok(None);
        };
        keys.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Some(Tenant { limits, keys }));
        }
    }
}

/// Nothing, where the caller may not know or there is nothing to know.
fn hidden<T>(answer: Result<Response<T>, Status>) -> Result<Response<Option<T>>, Status> {
    match answer {
        Ok(found) => Ok(found.map(Some)),
        Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => {
            Ok(Response::new(None))
        }
        Err(status) => Err(status),
    }
}

/// What is wrong with the rows of one tenant, in their order.
fn problems(tenant: &Tenant, rows: &[&Wanted<'_>], now: Timestamp) -> Vec<Problem> {
    let frame = tenant.limits.configuration.clone().unwrap_or_default();
    let rules = expiry_rules(&frame);
    let mut count: HashMap<&str, u64> = HashMap::new();
    let mut there: HashMap<Identity<'_>, Vec<&pb::Key>> = HashMap::new();
    for key in &tenant.keys {
        *count.entry(&key.owner).or_default() += 1;
        there.entry(identity(key)).or_default().push(key);
    }
    let mut found = Vec::new();
    for row in rows {
        // What an earlier run of the table has made is not made again.
        if take_existing(&mut there, row, now) {
            continue;
        }
        if let Some(problem) = expiry_problem(rules, row.key, now) {
            found.push(Problem {
                line: row.line,
                text: format!("expires_at: {problem}"),
                of_count: false,
            });
        }
        let owned = count.entry(&row.key.owner).or_default();
        *owned += 1;
        if let Some(max) = limit_for(&tenant.limits, row.key.role()).filter(|max| *owned > *max) {
            found.push(Problem {
                line: row.line,
                text: format!(
                    "owner {} would have {owned} keys, and at most {max} are allowed for one more with that role",
                    row.key.owner
                ),
                of_count: true,
            });
        }
    }
    found
}

/// What tells a key of a table from the others of its tenant.
type Identity<'a> = (&'a str, &'a str);

fn identity(key: &pb::Key) -> Identity<'_> {
    (&key.owner, &key.display_name)
}

/// Whether the row's key is one of those that are there; each is the key of one row alone.
fn take_existing<'a>(
    there: &mut HashMap<Identity<'a>, Vec<&pb::Key>>,
    row: &Wanted<'a>,
    now: Timestamp,
) -> bool {
    let is_same = |key: &&pb::Key| match row.hint {
        Some(hint) => key.key_prefix == hint,
        None => is_given_again(key, now),
    };
    let Some(like) = there.get_mut(&identity(row.key)) else {
        return false;
    };
    let at = like.iter().position(is_same);
    at.map(|at| like.swap_remove(at)).is_some()
}

/// Whether the server still knows the request that made a key, and so makes no second one.
fn is_given_again(key: &pb::Key, now: Timestamp) -> bool {
    let made = key.create_time.as_ref().map_or(0, |time| time.seconds);
    now.as_millis() / 1000 - made < REQUESTS_KEPT_SECONDS
}

fn expiry_rules(frame: &pb::LimitConfiguration) -> ExpiryRules {
    ExpiryRules {
        enforce: frame.enforce_expiry,
        min_days: frame.min_expiry_days,
        max_days: frame.max_expiry_days,
    }
}

fn expiry_problem(rules: ExpiryRules, key: &pb::Key, now: Timestamp) -> Option<ExpiryProblem> {
    let end = key.expire_time.as_ref();
    let end = end.map(|end| Timestamp::from_millis(end.seconds.saturating_mul(1000)));
    rules.check(end, now).err()
}

fn limit_for(limits: &pb::KeyLimits, role: pb::Role) -> Option<u64> {
    let name = match role {
        pb::Role::Unspecified | pb::Role::User => "max_keys_per_user",
        pb::Role::TenantAdmin => "max_keys_per_tenant_admin",
        pb::Role::GlobalAdmin => "max_keys_per_global_admin",
    };
    let mut all = limits.effective_limits.iter();
    all.find(|limit| limit.name == name)
        .map(|limit| u64::from(limit.value))
}

/// The rules of expiry alone, which are the same for every tenant: for a table of tenants that are yet to be made.
pub(super) async fn check_expiry(
    client: &Client,
    table: &Path,
    rows: &[Wanted<'_>],
    now: Timestamp,
) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let send = |request| async move { hidden(client.limits().get_system_config(request).await) };
    let Some(config) = client.call(pb::GetSystemConfigRequest {}, send).await? else {
        return Ok(());
    };
    let settings = config.expiry_settings.unwrap_or_default();
    let rules = ExpiryRules {
        enforce: settings.enforce_expiry,
        min_days: settings.min_expiry_days,
        max_days: settings.max_expiry_days,
    };
    let found: Vec<Problem> = rows
        .iter()
        .filter_map(|row| {
            Some(Problem {
                line: row.line,
                text: format!("key_expires_at: {}", expiry_problem(rules, row.key, now)?),
                of_count: false,
            })
        })
        .collect();
    refuse(table, &found)
}
