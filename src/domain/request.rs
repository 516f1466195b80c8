//! What a decision may know of a request: facts, already bounded, nothing of the wire.

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::block::Source;
use crate::domain::key::LookupId;

/// Whether a route needs a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A valid key or nothing.
    #[default]
    Required,
    /// A key is checked if there is one; without one the request passes as anonymous.
    Optional,
    /// No key is looked for; reserved headers are still removed.
    Off,
}

impl Mode {
    /// The mode of that word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "required" => Some(Self::Required),
            "optional" => Some(Self::Optional),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// What the route demands of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Whether a key is needed.
    pub mode: Mode,
    /// Features that the key must have, comma-separated; all of them.
    pub features: &'a str,
    /// Scopes that the key must have, comma-separated; all of them.
    pub scopes: &'a str,
    /// How much the request counts against limits, from 0 to [`crate::domain::limit::COST_MAX`].
    pub cost: u32,
}

impl Default for Rule<'_> {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            features: "",
            scopes: "",
            cost: 1,
        }
    }
}

impl Rule<'_> {
    /// Whether a request without a key may pass. What demands a feature or scope demands a key, whatever its mode says.
    pub fn takes_anonymous(&self) -> bool {
        self.mode == Mode::Optional && self.features.is_empty() && self.scopes.is_empty()
    }

    /// Whether it asks for anything that `other` does not.
    pub fn asks_more_than(&self, other: &Self) -> bool {
        if self.mode == Mode::Off {
            return false;
        }
        if other.mode == Mode::Off || (other.takes_anonymous() && !self.takes_anonymous()) {
            return true;
        }
        let lacks = |theirs, own| parts(own).any(|part| !parts(theirs).any(|known| known == part));
        self.cost > other.cost
            || lacks(other.features, self.features)
            || lacks(other.scopes, self.scopes)
    }
}

/// Splits a comma-separated demand into its parts.
pub fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// The credential that a request carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// None of the configured places has one.
    None,
    /// One, not yet parsed. May hold a secret: never printed.
    One(&'a [u8]),
    /// Two readers of the request could see two different ones.
    Ambiguous,
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "Credential::None",
            Self::One(_) => "Credential::One(..)",
            Self::Ambiguous => "Credential::Ambiguous",
        })
    }
}

/// What a request is charged to the limits of its tenant and key if it passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charge {
    /// The cost of its route.
    #[default]
    Cost,
    /// Nothing, but it is refused if its cost would not fit.
    Look,
    /// Nothing, and it is not held against them.
    Nothing,
}

/// That another hop of ours has proven a request's key a moment ago. Nothing else of the key is taken from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Where the key's generation is found.
    pub lookup_id: LookupId,
    /// Whose it must be.
    pub tenant: String,
    /// Which key it must be.
    pub key: String,
    /// The request has been charged there, and this is the first time that it shows here.
    pub first_use: bool,
}

/// The facts of one request.
#[derive(Clone, Debug)]
pub struct AccessRequest<'a> {
    /// What the route demands.
    pub rule: Rule<'a>,
    /// A rule that is only tried out: what it would refuse is reported, not refused.
    pub shadow: Option<Rule<'a>>,
    /// The credential, if any.
    pub credential: Credential<'a>,
    /// Why nothing else matters: the request can be read in two ways.
    pub ambiguity: Option<&'static str>,
    /// Where the caller is, as the proxy saw the connection.
    pub source: Option<IpAddr>,
    /// Whom failures are counted against: the source, or whom trusted proxies name. None: nobody.
    pub caller: Option<Source>,
    /// How long the answer may take, from the caller's deadline.
    pub time_left: Option<Duration>,
    /// What it is charged.
    pub charge: Charge,
    /// Whose request another hop has found it to be.
    pub proven: Option<&'a Proven>,
}
