//! The rules of `authz.routes`: what they say together.

use super::mistake::Mistake;
use super::section::Route;
use crate::domain::request::Mode;
use crate::domain::route::RoutePattern;

pub(super) fn check(rules: &[Route], mistakes: &mut Vec<Mistake>) {
    let patterns: Vec<RoutePattern> = rules.iter().map(Route::pattern).collect();
    for (at, rule) in rules.iter().enumerate() {
        let path = format!("authz.routes[{at}]");
        if rule.mode == Mode::Off && !(rule.features.is_empty() && rule.scopes.is_empty()) {
            let message = "`off` checks nothing and this rule asks for features or scopes; take those out or write `required` or `optional`";
            mistakes.push(Mistake::new(format!("{path}.mode"), message));
        }
        // One in shadow hides only its like: of those the first counts.
        let hides = |earlier: usize| {
            (!rules[earlier].shadow || rule.shadow) && patterns[earlier].covers(&patterns[at])
        };
        if let Some(first) = (0..at).find(|earlier| hides(*earlier)) {
            let message = format!(
                "never reached: routes[{first}] matches everything that it does; put it before that one or take it out"
            );
            mistakes.push(Mistake::new(path, message));
        }
    }
}
