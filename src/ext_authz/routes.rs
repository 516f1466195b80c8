//! Which configured rule a request falls under: the first that matches, in the order of the file.
//!
//! A router of path templates prefers the most exact template, which is another order. So templates that a path could
//! match together never share a router: each router has at most one answer, and the earliest of the answers counts.

mod overrides;
mod path;
mod variants;

use crate::domain::request::{Mode, Rule};
use crate::domain::route::{PathTemplate, RoutePattern, Segment};
use crate::ext_authz::target::Target;
pub(super) use overrides::{METHOD_OVERRIDES, Overrides, PATH_OVERRIDES};
pub use overrides::{MethodOverride, PathOverride};
use path::{Escapable, plain_host, plain_path};
use variants::Variants;

/// The rules of `authz.routes`, and how requests are held against them.
#[derive(Clone, Debug, Default)]
pub struct RouteSettings {
    /// In the order of the file.
    pub rules: Vec<RouteRule>,
    /// For requests that ask for another method than their own. None: refused as soon as a rule names methods.
    pub method_override: Option<MethodOverride>,
    /// For requests that ask for another path than their own. None: refused as soon as a rule has a path.
    pub path_override: Option<PathOverride>,
    /// Whether a path is refused that is another spelling of one with a stricter rule.
    pub refuse_variants: bool,
}

/// One rule of `authz.routes`.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// The requests that it is for.
    pub pattern: RoutePattern,
    /// Whether a key is needed.
    pub mode: Mode,
    /// Features that the key must have, comma-separated.
    pub features: String,
    /// Scopes that the key must have, comma-separated.
    pub scopes: String,
    /// How much a request counts against limits.
    pub cost: u32,
    /// Counts and reports what it would refuse; another rule decides.
    pub shadow: bool,
}

impl RouteRule {
    fn demands(&self) -> Rule<'_> {
        Rule {
            mode: self.mode,
            features: &self.features,
            scopes: &self.scopes,
            cost: self.cost,
        }
    }

    fn takes(&self, method: &[u8], host: &[u8]) -> bool {
        let RoutePattern {
            methods, host: at, ..
        } = &self.pattern;
        (methods.is_empty() || self.pattern.names_method(method))
            && at.as_ref().is_none_or(|at| at.matches(host))
    }
}

/// The rules, ready to be matched.
#[derive(Debug)]
pub struct Routes {
    rules: Vec<RouteRule>,
    groups: Vec<Group>,
    /// Rules for every path.
    pathless: Vec<usize>,
    /// What is read of the path, if a rule has one.
    escapable: Option<Escapable>,
    reads_host: bool,
    reads_method: bool,
    method_override: MethodOverride,
    path_override: PathOverride,
    variants: Option<Variants>,
}

/// Templates of which no path matches two, each with its rules in order.
#[derive(Debug, Default)]
struct Group {
    templates: Vec<(PathTemplate, Vec<usize>)>,
    router: matchit::Router<usize>,
}

/// What a request falls under.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) matched: Matched<usize>,
    /// Rules that another spelling of its path falls under.
    pub(super) near: Vec<usize>,
}

/// The rules that a request falls under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Matched<T> {
    /// The first that is enforced.
    pub(super) enforced: Option<T>,
    /// The first in shadow, if it stands before that.
    pub(super) shadow: Option<T>,
}

impl Routes {
    /// Prepares rules, in their order. None when there is nothing to hold a request against.
    pub fn new(settings: RouteSettings) -> Option<Self> {
        let rules = settings.rules;
        let refuses = settings.method_override == Some(MethodOverride::Refuse)
            || settings.path_override == Some(PathOverride::Refuse);
        if rules.is_empty() && !refuses {
            return None;
        }
        let paths = || rules.iter().filter_map(|rule| rule.pattern.path.as_ref());
        let reads_method = rules.iter().any(|rule| !rule.pattern.methods.is_empty());
        let by_rule = |reads| {
            if reads {
                MethodOverride::Refuse
            } else {
                MethodOverride::Ignore
            }
        };
        let path_by_rule = |reads| {
            if reads {
                PathOverride::Refuse
            } else {
                PathOverride::Ignore
            }
        };
        let mut routes = Self {
            groups: Vec::new(),
            pathless: Vec::new(),
            escapable: paths().next().map(|_| Escapable::in_templates(paths())),
            reads_host: rules.iter().any(|rule| rule.pattern.host.is_some()),
            reads_method,
            method_override: settings
                .method_override
                .unwrap_or_else(|| by_rule(reads_method)),
            path_override: settings
                .path_override
                .unwrap_or_else(|| path_by_rule(paths().next().is_some())),
            variants: settings.refuse_variants.then(|| Variants::of(&rules)),
            rules,
        };
        for at in 0..routes.rules.len() {
            routes.add(at);
        }
        Some(routes)
    }

    fn add(&mut self, at: usize) {
        let Some(template) = self.rules[at].pattern.path.clone() else {
            self.pathless.push(at);
            return;
        };
        let taken = self.groups.iter_mut().any(|group| group.add(&template, at));
        if !taken {
            let mut group = Group::default();
            let added = group.add(&template, at);
            debug_assert!(added, "a router takes any one template");
            self.groups.push(group);
        }
    }

    /// The numbers of the rules for a request, or why it could be read in two ways.
    pub(super) fn find<'a>(
        &self,
        target: &Target<'a>,
        overrides: &Overrides<'a>,
    ) -> Result<Found, &'static str> {
        let method = self.method(target, overrides)?;
        if self.path_override == PathOverride::Refuse
            && overrides::asks_for_another_path(target, overrides)
        {
            return Err("it asks for another path than its own");
        }
        let path = match &self.escapable {
            Some(escapable) => plain_path(target.path, target.method, escapable)?,
            None => None,
        };
        let host = match self.reads_host {
            true => plain_host(target.authority)?,
            false => &[],
        };
        let mut matched = Matched::default();
        self.narrow(&mut matched, &self.pathless, method, host);
        if let Some(path) = path {
            for group in &self.groups {
                self.narrow(&mut matched, group.at(path), method, host);
            }
        }
        let before = |at: &usize| matched.enforced.is_none_or(|enforced| *at < enforced);
        matched.shadow = matched.shadow.filter(before);
        let mut near = match (&self.variants, path) {
            (Some(variants), Some(path)) => variants.near(path, &self.rules),
            _ => Vec::new(),
        };
        near.retain(|at| !self.rules[*at].shadow && self.rules[*at].takes(method, host));
        Ok(Found { matched, near })
    }

    /// The method that a request is matched by. With rules for methods it is one that every reader knows by this name.
    fn method<'a>(
        &self,
        target: &Target<'a>,
        overrides: &Overrides<'a>,
    ) -> Result<&'a [u8], &'static str> {
        let named = |rule: &RouteRule| rule.pattern.names_method(target.method);
        if self.reads_method
            && !overrides::is_registered(target.method)
            && !self.rules.iter().any(named)
        {
            return Err("its method is none that is registered, in capitals");
        }
        overrides::method(target, overrides, self.method_override)
    }

    /// What the rule of a number demands.
    pub(super) fn demands(&self, at: usize) -> Rule<'_> {
        self.rules
            .get(at)
            .map(RouteRule::demands)
            .unwrap_or_default()
    }

    /// Goes through rules whose path matches until one decides.
    fn narrow(&self, matched: &mut Matched<usize>, rules: &[usize], method: &[u8], host: &[u8]) {
        for at in rules.iter().copied() {
            let rule = &self.rules[at];
            if matched.enforced.is_some_and(|enforced| enforced < at) {
                return;
            }
            if !rule.takes(method, host) {
                continue;
            }
            if !rule.shadow {
                matched.enforced = Some(at);
                return;
            }
            if matched.shadow.is_none_or(|shadow| at < shadow) {
                matched.shadow = Some(at);
            }
        }
    }
}

impl Group {
    /// Takes a rule, unless a path could match its template and another here.
    fn add(&mut self, template: &PathTemplate, rule: usize) -> bool {
        let same = |known: &PathTemplate| {
            known.segments() == template.segments() && known.is_open() == template.is_open()
        };
        if let Some((_, rules)) = self.templates.iter_mut().find(|(known, _)| same(known)) {
            rules.push(rule);
            return true;
        }
        if self
            .templates
            .iter()
            .any(|(known, _)| known.overlaps(template))
        {
            return false;
        }
        let mut router = self.router.clone();
        let mut texts = router_texts(template).into_iter();
        let added = texts.all(|text| router.insert(text, self.templates.len()).is_ok());
        if added {
            self.router = router;
            self.templates.push((template.clone(), vec![rule]));
        }
        added
    }

    fn at(&self, path: &str) -> &[usize] {
        let found = self.router.at(path).ok();
        let entry = found.and_then(|found| self.templates.get(*found.value));
        entry.map_or(&[], |(_, rules)| rules)
    }
}

/// A template as the router writes it, names by place. The router's rest is never empty, so an open template is two.
fn router_texts(template: &PathTemplate) -> Vec<String> {
    let mut text = String::new();
    for (place, segment) in template.segments().iter().enumerate() {
        text.push('/');
        match segment {
            Segment::Text(segment) => text.push_str(segment),
            Segment::Any => text.push_str(&format!("{{p{place}}}")),
        }
    }
    let exact = if text.is_empty() { "/" } else { &text }.to_owned();
    match template.is_open() {
        true => vec![exact, format!("{text}/{{*rest}}")],
        false => vec![exact],
    }
}

#[cfg(test)]
mod tests;
