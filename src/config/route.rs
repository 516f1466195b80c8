//! The rules of `authz.routes`: what they say together.

use super::RouteMode;
use super::mistake::Mistake;
use super::raw::RawRoute;
use crate::domain::route::RoutePattern;

/// What requests of one kind need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    pub pattern: RoutePattern,
    pub mode: RouteMode,
    pub features: Vec<String>,
    pub scopes: Vec<String>,
    pub cost: u32,
    /// Reports, never decides.
    pub shadow: bool,
}

pub(super) fn config(raw: &RawRoute) -> RouteConfig {
    RouteConfig {
        pattern: RoutePattern {
            methods: raw.methods.iter().map(ToString::to_string).collect(),
            host: raw.host.as_ref().and_then(|host| host.to_pattern()),
            path: raw.path.as_ref().and_then(|path| path.to_template()),
        },
        mode: raw.mode,
        features: raw.features.iter().map(ToString::to_string).collect(),
        scopes: raw.scopes.iter().map(ToString::to_string).collect(),
        cost: raw.cost,
        shadow: raw.shadow,
    }
}

pub(super) fn check(raw: &[RawRoute], mistakes: &mut Vec<Mistake>) {
    let rules: Vec<RouteConfig> = raw.iter().map(config).collect();
    for (at, rule) in rules.iter().enumerate() {
        let path = format!("authz.routes[{at}]");
        if rule.mode == RouteMode::Off && !(rule.features.is_empty() && rule.scopes.is_empty()) {
            let message = "`off` checks nothing and this rule asks for features or scopes; take those out or write `required` or `optional`";
            mistakes.push(Mistake::new(format!("{path}.mode"), message));
        }
        let earlier = rules.iter().take(at);
        if let Some(first) = earlier.clone().position(|earlier| hides(earlier, rule)) {
            let message = format!(
                "never reached: routes[{first}] matches everything that it does; put it before that one or take it out"
            );
            mistakes.push(Mistake::new(path, message));
        }
    }
}

/// Whether an earlier rule leaves nothing to a later one. One in shadow hides only its like: of those the first counts.
fn hides(earlier: &RouteConfig, later: &RouteConfig) -> bool {
    (!earlier.shadow || later.shadow) && earlier.pattern.covers(&later.pattern)
}
