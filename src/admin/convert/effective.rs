//! What holds for a tenant or a key, and who says so.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::domain::key::Key;
use crate::domain::limit::Own;
use crate::domain::name::Feature;
use crate::domain::plan::{Plan, Plans};
use crate::domain::tenant::Tenant;
use crate::proto::admin as pb;

fn effective(tenant: &Tenant, plans: &Plans) -> BTreeSet<Feature> {
    let plan = tenant.plan.as_ref().and_then(|plan| plans.get(plan));
    tenant.overrides().over(plan).features
}

/// The features of a tenant.
pub(super) fn features(tenant: &Tenant, plans: &Plans) -> Vec<String> {
    let holds = effective(tenant, plans);
    holds.iter().map(ToString::to_string).collect()
}

/// The rate and the quota of a tenant.
pub(super) fn limits(tenant: &Tenant, plans: &Plans) -> Vec<pb::EffectiveLimit> {
    fn one<T: Display>(name: &str, own: &Own<T>, of_plan: Option<T>) -> pb::EffectiveLimit {
        match (own, of_plan) {
            (Own::Plan, None) => limit(name, Own::<T>::UNLIMITED, "default"),
            (Own::Plan, Some(value)) => limit(name, value, "plan"),
            (Own::Unlimited | Own::At(_), _) => limit(name, own, "tenant"),
        }
    }
    let plan = tenant.plan.as_ref().and_then(|plan| plans.get(plan));
    let of_plan = plan.map(Plan::limits).unwrap_or_default();
    vec![
        one("rate", &tenant.rate, of_plan.rate),
        one("quota", &tenant.quota, of_plan.quota),
    ]
}

/// Adds what a key's requests are held against: its tenant's limits and its own, its tenant's features as far as it
/// keeps them.
pub(in crate::admin) fn explain_key(
    shown: &mut pb::Key,
    key: &Key,
    tenant: &Tenant,
    plans: &Plans,
) {
    shown.effective_limits = limits(tenant, plans);
    shown
        .effective_limits
        .retain(|limit| limit.source != "default");
    let own = [
        key.limits.rate.map(|rate| limit("rate", rate, "key")),
        key.limits.quota.map(|quota| limit("quota", quota, "key")),
    ];
    shown.effective_limits.extend(own.into_iter().flatten());
    let mut features = effective(tenant, plans);
    if let Some(kept) = &key.features {
        features.retain(|feature| kept.contains(feature));
    }
    shown.effective_features = features.iter().map(ToString::to_string).collect();
}

fn limit(name: &str, value: impl Display, source: &str) -> pb::EffectiveLimit {
    pb::EffectiveLimit {
        name: name.to_owned(),
        value: value.to_string(),
        source: source.to_owned(),
    }
}
