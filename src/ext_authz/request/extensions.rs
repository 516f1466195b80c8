//! What a route says of its own by `keystile.…` context extensions, and how that and the configured rules settle what it
//! demands: field by field. Only what the route names is replaced.
//!
//! Envoy merges the extensions of virtual host and route before we see them. What they contradict each other in is no
//! rule: nothing may pass by it.

use std::fmt;

use crate::domain::limit::COST_MAX;
use crate::domain::request::{Mode, Rule};
use crate::ext_authz::hop::Trust;

/// What our names begin with.
const OURS: &[u8] = b"keystile";
/// How much of a misspelt name is shown.
const NAME_SHOWN_MAX: usize = 64;

/// The extensions as they came. Of one that comes twice the last counts, as everywhere in protobuf.
#[derive(Debug, Default)]
pub(super) struct Extensions<'a> {
    mode: Option<&'a [u8]>,
    features: Option<&'a [u8]>,
    scopes: Option<&'a [u8]>,
    cost: Option<&'a [u8]>,
    dry_run: Option<&'a [u8]>,
    trusted_hop: Option<&'a [u8]>,
    unknown: Option<&'a [u8]>,
}

/// What the route says, once it is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own<'a> {
    mode: Option<Mode>,
    features: Option<&'a str>,
    scopes: Option<&'a str>,
    cost: Option<u32>,
    /// Nobody is waiting for the answer but somebody who wants it explained.
    pub(super) dry_run: bool,
    /// Whether another hop's signed context is believed here; none: as configured.
    pub(super) trust: Option<Trust>,
}

/// Why a route's demands are no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ext_authz) enum BadRule<'a> {
    /// A name, which is unknown or has a value that is.
    Unknown(&'a [u8]),
    /// `off` checks nothing, and this asks for something.
    OffAndDemands(&'static str),
}

impl fmt::Display for BadRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                let shown = String::from_utf8_lossy(&name[..name.len().min(NAME_SHOWN_MAX)]);
                write!(f, "{} is not understood", shown.escape_debug())
            }
            Self::OffAndDemands(name) => {
                write!(f, "the mode is off and keystile.{name} asks for something")
            }
        }
    }
}

impl<'a> Extensions<'a> {
    /// Takes one extension; those of other products are left alone.
    pub(super) fn add(&mut self, name: &'a [u8], value: &'a [u8]) {
        let field = match name {
            b"keystile.mode" => &mut self.mode,
            b"keystile.features" => &mut self.features,
            b"keystile.scopes" => &mut self.scopes,
            b"keystile.cost" => &mut self.cost,
            b"keystile.dry_run" => &mut self.dry_run,
            b"keystile.trusted_hop" => &mut self.trusted_hop,
            // A misspelt demand must not be a demand dropped: nor `Keystile.scopes`, nor `keystile_scopes`.
            _ => {
                let start = name.get(..OURS.len());
                if start.is_some_and(|start| start.eq_ignore_ascii_case(OURS)) {
                    self.unknown.get_or_insert(name);
                }
                return;
            }
        };
        *field = Some(value);
    }

    /// What they say together.
    pub(super) fn read(&self) -> Result<Own<'a>, BadRule<'a>> {
        if let Some(name) = self.unknown {
            return Err(BadRule::Unknown(name));
        }
        let own = Own {
            mode: word(self.mode, "keystile.mode", Mode::parse)?,
            features: word(self.features, "keystile.features", Some)?,
            scopes: word(self.scopes, "keystile.scopes", Some)?,
            cost: word(self.cost, "keystile.cost", cost)?,
            dry_run: word(self.dry_run, "keystile.dry_run", flag)?.unwrap_or(false),
            trust: word(self.trusted_hop, "keystile.trusted_hop", trust)?,
        };
        match own.demand() {
            Some(name) if own.mode == Some(Mode::Off) => Err(BadRule::OffAndDemands(name)),
            Some(_) | None => Ok(own),
        }
    }
}

impl<'a> Own<'a> {
    /// Lays it over the configured rule. A route that says `off` has switched the configured rule off; one that asks
    /// for something under a configured rule that is off contradicts it.
    pub(super) fn over(&self, configured: &Rule<'a>) -> Result<Rule<'a>, BadRule<'a>> {
        if self.mode.is_none()
            && configured.mode == Mode::Off
            && let Some(name) = self.demand()
        {
            return Err(BadRule::OffAndDemands(name));
        }
        Ok(Rule {
            mode: self.mode.unwrap_or(configured.mode),
            features: self.features.unwrap_or(configured.features),
            scopes: self.scopes.unwrap_or(configured.scopes),
            cost: self.cost.unwrap_or(configured.cost),
        })
    }

    /// What it asks for, by name.
    fn demand(&self) -> Option<&'static str> {
        let asks = |list: Option<&str>| list.is_some_and(|list| !list.is_empty());
        if asks(self.features) {
            return Some("features");
        }
        if asks(self.scopes) {
            return Some("scopes");
        }
        self.cost.is_some_and(|cost| cost > 0).then_some("cost")
    }

    /// The fields that it replaces, for people.
    pub(super) fn named(&self) -> impl Iterator<Item = &'static str> {
        [
            self.mode.map(|_| "mode"),
            self.features.map(|_| "features"),
            self.scopes.map(|_| "scopes"),
            self.cost.map(|_| "cost"),
        ]
        .into_iter()
        .flatten()
    }
}

fn word<'a, T>(
    value: Option<&'a [u8]>,
    name: &'static str,
    parse: impl FnOnce(&'a str) -> Option<T>,
) -> Result<Option<T>, BadRule<'a>> {
    let Some(value) = value else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value).ok().map(str::trim);
    let parsed = text.and_then(parse);
    parsed.map(Some).ok_or(BadRule::Unknown(name.as_bytes()))
}

fn cost(text: &str) -> Option<u32> {
    text.parse().ok().filter(|cost| *cost <= COST_MAX)
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn trust(text: &str) -> Option<Trust> {
    match text {
        "rewritten" => Some(Trust::Rewritten),
        _ => flag(text).map(|trusted| if trusted { Trust::Exact } else { Trust::No }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(pairs: &[(&'a str, &'a str)]) -> Result<Own<'a>, String> {
        let mut extensions = Extensions::default();
        for (name, value) in pairs {
            extensions.add(name.as_bytes(), value.as_bytes());
        }
        extensions.read().map_err(|bad| bad.to_string())
    }

    #[test]
    fn a_misspelt_or_contradictory_demand_is_no_rule() {
        for (pairs, bad) in [
            (&[("keystile.mode", "off")][..], None),
            (&[("keystile.mode", "off"), ("keystile.cost", "0")], None),
            (&[("keystile.mode", "off"), ("keystile.scopes", " ")], None),
            (
                &[("keystile.mode", "optional"), ("keystile.scopes", "a")],
                None,
            ),
            (&[("scope", "read"), ("keystile.cost", "1000000")], None),
            (&[("keystile.dry_run", "true")], None),
            // Of one that comes twice the last counts.
            (&[("keystile.mode", "offf"), ("keystile.mode", "off")], None),
            (
                &[("keystile.mode", "off"), ("keystile.mode", "offf")],
                Some("mode"),
            ),
            (&[("keystile.dry_run", "perhaps")], Some("dry_run")),
            (&[("keystile.trusted_hop", "rewritten")], None),
            (&[("keystile.trusted_hop", "yes")], Some("trusted_hop")),
            (&[("keystile.cost", "-1")], Some("cost")),
            (&[("keystile.cost", "1000001")], Some("cost")),
            (&[("keystile.scope", "read")], Some("scope")),
            (&[("keystile.", "")], Some("keystile.")),
            (&[("Keystile.scopes", "a")], Some("Keystile.scopes")),
            (&[("keystile_scopes", "a")], Some("keystile_scopes")),
            (&[("keystone.scopes", "a")], None),
            (
                &[("keystile.mode", "off"), ("keystile.scopes", "a")],
                Some("off and keystile.scopes"),
            ),
            (
                &[("keystile.features", "a"), ("keystile.mode", " off ")],
                Some("off and keystile.features"),
            ),
            (
                &[("keystile.mode", "off"), ("keystile.cost", "2")],
                Some("off and keystile.cost"),
            ),
            (
                &[("keystile.mode", "off"), ("keystile.scopes", ",")],
                Some("off and keystile.scopes"),
            ),
        ] {
            let found = read(pairs);
            match bad {
                None => assert!(found.is_ok(), "{pairs:?}: {found:?}"),
                Some(part) => assert!(found.unwrap_err().contains(part), "{pairs:?}"),
            }
        }
    }

    #[test]
    fn only_what_a_route_names_is_replaced() {
        let configured = Rule {
            mode: Mode::Optional,
            features: "f",
            scopes: "s",
            cost: 5,
        };
        let off = Rule {
            mode: Mode::Off,
            ..Rule::default()
        };
        let rule = |mode, features, scopes, cost| {
            Some(Rule {
                mode,
                features,
                scopes,
                cost,
            })
        };
        for (pairs, under, expected) in [
            (&[][..], &configured, Some(configured.clone())),
            (
                &[("keystile.cost", "9")],
                &configured,
                rule(Mode::Optional, "f", "s", 9),
            ),
            (
                &[("keystile.scopes", "")],
                &configured,
                rule(Mode::Optional, "f", "", 5),
            ),
            (
                &[("keystile.features", "g")],
                &configured,
                rule(Mode::Optional, "g", "s", 5),
            ),
            (
                &[("keystile.mode", "required")],
                &configured,
                rule(Mode::Required, "f", "s", 5),
            ),
            (
                &[("keystile.mode", "off")],
                &configured,
                rule(Mode::Off, "f", "s", 5),
            ),
            (&[("keystile.cost", "0")], &off, rule(Mode::Off, "", "", 0)),
            (&[("keystile.cost", "9")], &off, None),
            (&[("keystile.scopes", "a")], &off, None),
            (
                &[("keystile.scopes", "a"), ("keystile.mode", "required")],
                &off,
                rule(Mode::Required, "", "a", 1),
            ),
        ] {
            let settled = read(pairs).unwrap().over(under).ok();
            assert_eq!(settled, expected, "{pairs:?} over {under:?}");
        }
    }
}
