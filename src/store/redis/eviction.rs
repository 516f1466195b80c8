//! Whether Redis may throw away what is stored there.

use redis::InfoDict;
use redis::aio::MultiplexedConnection;

use super::settings::Address;

/// Says at a connection's begin that a server may evict keys. Where it may not be asked, nothing is said.
pub(super) async fn warn_of(at: &Address, connection: &mut MultiplexedConnection) {
    let mut ask = redis::cmd("INFO");
    ask.arg("memory");
    let memory = match ask.query_async::<InfoDict>(connection).await {
        Ok(memory) => memory,
        Err(error) => {
            tracing::debug!(server = %at, %error, "failed to read the eviction policy");
            return;
        }
    };
    let policy: Option<String> = memory.get("maxmemory_policy");
    let Some(policy) = policy.filter(|policy| policy != "noeviction") else {
        return;
    };
    let limit: u64 = memory.get("maxmemory").unwrap_or(0);
    tracing::warn!(
        server = %at,
        maxmemory_policy = policy,
        maxmemory = limit,
        "Redis may evict keys when its memory is full, and with them API keys and what revokes them: set `maxmemory-policy noeviction`"
    );
}
