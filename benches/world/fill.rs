//! Tenants with keys, as many as asked for.

use keystile::domain::change::Actor;
use keystile::domain::name::{DisplayName, Owner, PlanName, Scope, TenantId};
use keystile::domain::role::Role;
use keystile::registry::{NewKey, NewTenant, Registry};
use tokio::task::JoinSet;

/// Makes the tenants and their keys; the tokens come in random order.
pub(crate) async fn fill(registry: &Registry, tenants: usize, keys_each: usize) -> Vec<String> {
    let mut tasks = JoinSet::new();
    for number in 0..tenants {
        let registry = registry.clone();
        tasks.spawn(async move { fill_tenant(&registry, number, keys_each).await });
        if tasks.len() >= 64 {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    drop(tasks.join_all().await);
    let mut tokens = Vec::with_capacity(tenants * keys_each);
    std::mem::swap(&mut tokens, &mut MADE.lock());
    shuffle(&mut tokens);
    tokens
}

/// Tokens as they are made, from all tasks.
static MADE: parking_lot::Mutex<Vec<String>> = parking_lot::Mutex::new(Vec::new());

async fn fill_tenant(registry: &Registry, number: usize, keys_each: usize) {
    let id = TenantId::parse(&format!("tenant-{number}")).unwrap();
    let mut tenant = NewTenant::named(id.clone(), DisplayName::parse("A Customer Inc.").unwrap());
    tenant.plan = Some(PlanName::parse("pro").unwrap());
    registry
        .create_tenant(&Actor::Operator, tenant)
        .await
        .unwrap();
    for key in 0..keys_each {
        let owner = Owner::parse(&format!("user-{key}@example.com")).unwrap();
        let mut new = NewKey::named(DisplayName::parse("bench").unwrap(), owner, Role::User);
        new.scopes = ["read", "write"]
            .map(|scope| Scope::parse(scope).unwrap())
            .into();
        let made = registry
            .create_key(&Actor::Operator, &id, new)
            .await
            .unwrap();
        MADE.lock().push(made.token.expose().to_owned());
    }
}

/// Fisher-Yates with a fixed seed: the same order in every run.
fn shuffle(tokens: &mut [String]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..tokens.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokens.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
    }
}
