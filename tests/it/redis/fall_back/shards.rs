//! Parts of a tenant in Redis, and all the states that they had: what a shard of a Cluster holds.

use ::redis::aio::MultiplexedConnection;
use ::redis::cmd;
use keystile::domain::key::LookupId;
use keystile::domain::name::TenantId;

use crate::model::schedule::Part;

/// What is in a part. The tenant's: its record, and all that only control planes have of it. The index' by the last bit
/// of the lookup id's first byte, as in the model.
const NAMES: &str = "
    local function names(part, tenant)
        if part == 'tenant' then
            local all = redis.call('KEYS', 'ks:k:{' .. tenant .. '}:*')
            table.insert(all, 'ks:t:{' .. tenant .. '}')
            return all
        end
        local all = {}
        for _, name in ipairs(redis.call('KEYS', 'ks:i:*')) do
            local byte = tonumber(string.match(name, '{(%x%x)'), 16)
            if byte % 2 == tonumber(part) then table.insert(all, name) end
        end
        return all
    end
    local function lookups(tenant, field)
        local found = {}
        for _, name in ipairs(redis.call('KEYS', 'ks:i:*')) do
            local there = redis.call('HMGET', name, 't', field)
            if there[1] == tenant and there[2] then table.insert(found, name) end
        end
        return found
    end
";

/// ARGV part, tenant. Answers names, the time that each has left, and dumps.
const DUMP: &str = "
    local all = {}
    for _, name in ipairs(names(ARGV[1], ARGV[2])) do
        local dump = redis.call('DUMP', name)
        if dump then
            table.insert(all, name)
            table.insert(all, tostring(math.max(redis.call('PTTL', name), 0)))
            table.insert(all, dump)
        end
    end
    return all
";

/// ARGV part, tenant, and what DUMP has answered. Answers which entries are not revoked any more.
const RESTORE: &str = "
    local before = lookups(ARGV[2], 'r')
    for _, name in ipairs(names(ARGV[1], ARGV[2])) do redis.call('DEL', name) end
    for at = 3, #ARGV, 3 do
        redis.call('RESTORE', ARGV[at], ARGV[at + 1], ARGV[at + 2])
    end
    local lost = {}
    for _, name in ipairs(before) do
        if not redis.call('HGET', name, 'r') then table.insert(lost, name) end
    end
    return lost
";

type State = Vec<Vec<u8>>;

pub(super) struct Shards {
    redis: MultiplexedConnection,
    tenant: TenantId,
    /// The states that each part had, oldest first.
    before: [Vec<State>; Part::ALL.len()],
}

fn word(part: Part) -> &'static str {
    match part {
        Part::Tenant => "tenant",
        Part::Index(0) => "0",
        Part::Index(_) => "1",
    }
}

fn lookup_id(name: &str) -> LookupId {
    let hex = name.trim_start_matches("ks:i:{").trim_end_matches('}');
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    LookupId(bytes.try_into().unwrap())
}

impl Shards {
    pub(super) fn new(redis: MultiplexedConnection, tenant: TenantId) -> Self {
        Self {
            redis,
            tenant,
            before: Default::default(),
        }
    }

    async fn run<T: ::redis::FromRedisValue>(&self, script: &str, args: &[&[u8]]) -> T {
        let mut eval = cmd("EVAL");
        eval.arg(format!("{NAMES}{script}")).arg(0).arg(args);
        eval.query_async(&mut self.redis.clone()).await.unwrap()
    }

    /// Keeps the state of each part, if it is another one than the last.
    pub(super) async fn keep(&mut self) {
        for (at, part) in Part::ALL.into_iter().enumerate() {
            let args = [word(part).as_bytes(), self.tenant.as_str().as_bytes()];
            let state: State = self.run(DUMP, &args).await;
            if self.before[at].last() != Some(&state) {
                self.before[at].push(state);
            }
        }
    }

    /// A part falls back by so many states, and goes on from there. Answers which entries were revoked and are not now.
    pub(super) async fn fall_back(&mut self, part: Part, changes: usize) -> Vec<LookupId> {
        self.keep().await;
        let at = Part::ALL.iter().position(|one| *one == part).unwrap();
        let before = &mut self.before[at];
        before.truncate(before.len().saturating_sub(changes).max(1));
        let state = before.last().unwrap().clone();
        let mut args = vec![word(part).as_bytes(), self.tenant.as_str().as_bytes()];
        args.extend(state.iter().map(Vec::as_slice));
        let lost: Vec<String> = self.run(RESTORE, &args).await;
        lost.iter().map(|name| lookup_id(name)).collect()
    }

    /// Where there is an entry of the tenant; with `r`, a revoked one.
    async fn with_field(&self, field: &str) -> Vec<LookupId> {
        let args = [self.tenant.as_str().as_bytes(), field.as_bytes()];
        let found: Vec<String> = self.run("return lookups(ARGV[1], ARGV[2])", &args).await;
        found.iter().map(|name| lookup_id(name)).collect()
    }

    pub(super) async fn lookup_ids(&self) -> Vec<LookupId> {
        self.with_field("v").await
    }

    pub(super) async fn revoked(&self) -> Vec<LookupId> {
        self.with_field("r").await
    }
}
