//! Plans: limits and features that many tenants share, and what is left of them where a tenant has its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::limit::{Limits, Own, Quota, Rate};
use crate::domain::name::{Feature, PlanName};

/// The plans of the configuration.
pub type Plans = BTreeMap<PlanName, Plan>;

/// What a tenant has that has nothing of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Features of its tenants.
    pub features: BTreeSet<Feature>,
    /// Limits of each of its tenants.
    pub limits: Limits,
    /// Its limits, and the features that its tenants lack, are only reported.
    pub shadow: bool,
    /// How its tenants' keys are rotated by themselves, if they are.
    pub rotation: Option<Rotation>,
}

/// A rotation by schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// How old a token becomes.
    pub every: Duration,
    /// How long it works on, and the next one waits to be claimed.
    pub grace: Duration,
}

impl Plan {
    /// Its limits as they are enforced.
    pub fn limits(&self) -> Limits {
        if self.shadow {
            self.limits.in_shadow()
        } else {
            self.limits
        }
    }
}

/// What a tenant says for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Features beyond the plan's.
    pub features: BTreeSet<Feature>,
    /// Features that it does not have, though its plan does.
    pub denied_features: BTreeSet<Feature>,
    /// A rate in place of the plan's.
    pub rate: Own<Rate>,
    /// A quota in place of the plan's.
    pub quota: Own<Quota>,
}

/// What holds for a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// Plan features + its own - denials.
    pub features: BTreeSet<Feature>,
    /// Its own limits, else the plan's.
    pub limits: Limits,
    /// A feature that it lacks is only reported.
    pub plan_in_shadow: bool,
}

impl Overrides {
    /// Laid over a plan.
    pub fn over(&self, plan: Option<&Plan>) -> Effective {
        let features = plan.iter().flat_map(|plan| &plan.features);
        let features = features
            .chain(&self.features)
            .filter(|feature| !self.denied_features.contains(*feature));
        let of_plan = plan.map(Plan::limits).unwrap_or_default();
        Effective {
            features: features.cloned().collect(),
            limits: Limits {
                rate: self.rate.over(of_plan.rate),
                quota: self.quota.over(of_plan.quota),
            },
            plan_in_shadow: plan.is_some_and(|plan| plan.shadow),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Option<Rate> {
        Some(Rate::parse(text).unwrap())
    }

    fn plan() -> Plan {
        Plan {
            limits: Limits {
                rate: rate("100/s"),
                quota: Some(Quota::parse("1000/day").unwrap()),
            },
            ..Plan::default()
        }
    }

    #[test]
    fn a_tenants_own_limit_stands_in_place_of_its_plans() {
        let own = Overrides {
            rate: Own::At(Rate::parse("5/s").unwrap()),
            quota: Own::Unlimited,
            ..Overrides::default()
        };
        assert_eq!(
            Overrides::default().over(Some(&plan())).limits,
            plan().limits
        );
        let limits = own.over(Some(&plan())).limits;
        assert_eq!((limits.rate, limits.quota), (rate("5/s"), None));
        assert_eq!(own.over(None).limits.rate, rate("5/s"));
        assert!(Overrides::default().over(None).limits.is_empty());
    }

    #[test]
    fn a_plan_in_shadow_shades_what_comes_from_it_alone() {
        let shaded = Plan {
            shadow: true,
            ..plan()
        };
        let own = Overrides {
            rate: Own::At(Rate::parse("5/s").unwrap()),
            ..Overrides::default()
        };
        let holds = own.over(Some(&shaded));
        assert!(holds.plan_in_shadow);
        assert!(!holds.limits.rate.unwrap().is_shadow());
        let day = crate::domain::limit::Window::Day;
        assert!(holds.limits.quota.unwrap().cap(day).unwrap().is_shadow());
    }

    proptest! {
        /// Against the sentence of the contract, feature by feature.
        #[test]
        fn features_are_the_plans_and_its_own_without_what_is_denied(
            sets in prop::array::uniform3(prop::collection::btree_set("[abc]", 0..4)),
        ) {
            let parse = |set: &BTreeSet<String>| -> BTreeSet<Feature> {
                set.iter().map(|name| Feature::parse(name).unwrap()).collect()
            };
            let [of_plan, own, denied] = &sets;
            let plan = Plan { features: parse(of_plan), ..Plan::default() };
            let overrides = Overrides {
                features: parse(own),
                denied_features: parse(denied),
                ..Overrides::default()
            };
            let holds = overrides.over(Some(&plan)).features;
            for name in ["a", "b", "c"] {
                let wanted = (of_plan.contains(name) || own.contains(name)) && !denied.contains(name);
                prop_assert_eq!(holds.contains(&Feature::parse(name).unwrap()), wanted);
            }
        }
    }
}
