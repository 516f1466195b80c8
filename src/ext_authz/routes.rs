//! Which configured rule a request falls under: the first that matches, in the order of the file.
//!
//! A router of path templates prefers the most exact template, which is another order. So templates that a path could
//! match together never share a router: each router has at most one answer, and the earliest of the answers counts.

mod target;

use crate::domain::request::{Mode, Rule};
use crate::domain::route::{PathTemplate, RoutePattern, Segment};
use crate::ext_authz::request::Target;
use target::{Escapable, plain_host, plain_path};

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
        let is_listed = || methods.iter().any(|known| known.as_bytes() == method);
        (methods.is_empty() || is_listed()) && at.as_ref().is_none_or(|at| at.matches(host))
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
}

/// Templates of which no path matches two, each with its rules in order.
#[derive(Debug, Default)]
struct Group {
    templates: Vec<(PathTemplate, Vec<usize>)>,
    router: matchit::Router<usize>,
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
    /// Prepares rules, in their order. None when there are none.
    pub fn new(rules: Vec<RouteRule>) -> Option<Self> {
        if rules.is_empty() {
            return None;
        }
        let paths = || rules.iter().filter_map(|rule| rule.pattern.path.as_ref());
        let mut routes = Self {
            groups: Vec::new(),
            pathless: Vec::new(),
            escapable: paths().next().map(|_| Escapable::in_templates(paths())),
            reads_host: rules.iter().any(|rule| rule.pattern.host.is_some()),
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
    pub(super) fn find(&self, target: &Target<'_>) -> Result<Matched<usize>, &'static str> {
        let path = match &self.escapable {
            Some(escapable) => plain_path(target.path, target.method, escapable)?,
            None => None,
        };
        let host = match self.reads_host {
            true => plain_host(target.authority)?,
            false => &[],
        };
        let mut matched = Matched::default();
        self.narrow(&mut matched, &self.pathless, target.method, host);
        if let Some(path) = path {
            for group in &self.groups {
                self.narrow(&mut matched, group.at(path), target.method, host);
            }
        }
        let before = |at: &usize| matched.enforced.is_none_or(|enforced| *at < enforced);
        matched.shadow = matched.shadow.filter(before);
        Ok(matched)
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
