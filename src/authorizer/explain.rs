//! How each rule comes out for one request, for `keystile check`. Decides nothing: [`policy::decide`] does, and stops
//! at the first rule that is broken, where this goes on.

use crate::authorizer::policy::{self, Criterion, KeyFacts, PolicyCheck};
use crate::authorizer::{Authorizer, Outage, facts};
use crate::clock::Timestamp;
use crate::crypto::token::PresentedToken;
use crate::domain::access::TenantAccess;
use crate::domain::decision::DenyReason;
use crate::domain::pause::PauseEnd;
use crate::domain::request::{AccessRequest, Credential, Mode};

/// One criterion and how the request meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub criterion: Criterion,
    /// If it is broken, what a request is refused for.
    pub broken: Option<DenyReason>,
    /// In words. Holds nothing of a token.
    pub detail: String,
}

impl Checked {
    fn new(criterion: Criterion, broken: Option<DenyReason>, detail: impl Into<String>) -> Self {
        Self {
            criterion,
            broken,
            detail: detail.into(),
        }
    }

    /// `pass`, or the reason of a refusal.
    pub fn verdict(&self) -> &'static str {
        self.broken.map_or("pass", DenyReason::as_str)
    }
}

impl Authorizer {
    /// Holds a request against every rule that can be reached.
    pub async fn explain(&self, request: &AccessRequest<'_>) -> Result<Vec<Checked>, Outage> {
        let (mut rules, token) = before_key(request);
        let Some(token) = token else {
            return Ok(rules);
        };
        let now = self.clock.now();
        let unknown =
            |detail| Checked::new(Criterion::Key, Some(DenyReason::InvalidApiKey), detail);
        if PresentedToken::parse(token, &self.prefixes).is_err() {
            rules.push(unknown(
                "malformed: wrong characters, length or checksum; no look-up was made",
            ));
        } else if let Ok(found) = self.prove(token, now, request).await? {
            rules.extend(of_key(
                found.tenant.access(),
                &facts(&found.key),
                request,
                now,
            ));
        } else {
            rules.push(unknown("no key has this token"));
        }
        Ok(rules)
    }
}

/// The rules before the key is looked up; the token, if they let it come to that.
pub(super) fn before_key<'a>(request: &AccessRequest<'a>) -> (Vec<Checked>, Option<&'a [u8]>) {
    let mut rules = Vec::new();
    let token = token_to_prove(request, &mut rules);
    (rules, token)
}

fn token_to_prove<'a>(request: &AccessRequest<'a>, rules: &mut Vec<Checked>) -> Option<&'a [u8]> {
    let ambiguous = Some(DenyReason::AmbiguousRequest);
    if let Some(why) = request.ambiguity {
        rules.push(Checked::new(Criterion::Request, ambiguous, why));
        return None;
    }
    rules.push(Checked::new(Criterion::Request, None, "one way to read it"));
    let mode = match request.rule.mode {
        Mode::Required => "required: a valid key or nothing",
        Mode::Optional => "optional: a key is checked if there is one",
        Mode::Off => "off: nothing is checked",
    };
    rules.push(Checked::new(Criterion::Mode, None, mode));
    if request.rule.mode == Mode::Off {
        return None;
    }
    let (broken, detail) = match request.credential {
        Credential::One(token) => {
            rules.push(Checked::new(Criterion::Credential, None, "one"));
            return Some(token);
        }
        Credential::None if request.proven.is_some() => {
            (None, "none: proven by another hop, by its signed context")
        }
        Credential::None if request.rule.takes_anonymous() => (None, "none: anonymous"),
        Credential::None => (Some(DenyReason::MissingApiKey), "none"),
        Credential::Ambiguous => (ambiguous, "more than one API key"),
    };
    rules.push(Checked::new(Criterion::Credential, broken, detail));
    None
}

/// Every check of a proven key, in words.
fn of_key(
    tenant: &TenantAccess,
    key: &KeyFacts<'_>,
    request: &AccessRequest<'_>,
    now: Timestamp,
) -> Vec<Checked> {
    policy::checks(tenant, key, request, now)
        .map(|check| {
            let detail = detail(&check, key, request);
            Checked::new(check.criterion, check.broken, detail)
        })
        .collect()
}

fn detail(check: &PolicyCheck<'_>, key: &KeyFacts<'_>, request: &AccessRequest<'_>) -> String {
    let holds = check.broken.is_none();
    match check.criterion {
        Criterion::Key if holds => "known".into(),
        Criterion::Key => "revoked".into(),
        Criterion::Tenant if holds => "active".into(),
        Criterion::Tenant => "suspended".into(),
        Criterion::Expiry => key
            .expires_at
            .map_or_else(|| "never expires".into(), |end| format!("expires {end}")),
        Criterion::Pause => match key.paused {
            Some(PauseEnd::At(end)) => format!("paused until {end}"),
            Some(PauseEnd::Open) => "paused until it is resumed".into(),
            None => "not paused".into(),
        },
        Criterion::Network => networks(key, request),
        Criterion::Feature
        | Criterion::Scope
        | Criterion::Request
        | Criterion::Route
        | Criterion::Mode
        | Criterion::Credential
        | Criterion::Source
        | Criterion::Limit => check.name.unwrap_or_default().to_owned(),
    }
}

fn networks(key: &KeyFacts<'_>, request: &AccessRequest<'_>) -> String {
    if key.networks.is_empty() {
        return "from everywhere".into();
    }
    let networks: Vec<String> = key.networks.iter().map(ToString::to_string).collect();
    let source = request.source.map_or_else(
        || "an unknown address".into(),
        |address| address.to_string(),
    );
    format!("{source}; only from {}", networks.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::domain::request::Charge;
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::name::{DisplayName, TenantId};
    use crate::domain::request;
    use crate::domain::tenant::TenantStatus;

    const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    /// The first broken rule is what `decide` refuses for, over every combination of broken rules.
    #[test]
    fn the_first_broken_rule_is_the_reason_of_the_decision() {
        let elsewhere = ["10.0.0.0/8".parse().unwrap()];
        for broken in 0_u8..128 {
            let is = |bit: u8| broken & (1 << bit) != 0;
            let tenant = TenantAccess {
                id: TenantId::parse("acme").unwrap(),
                display_name: DisplayName::parse("Acme").unwrap(),
                status: [TenantStatus::Active, TenantStatus::Suspended][usize::from(is(1))],
                plan: None,
                features: Default::default(),
                limits: Default::default(),
                plan_in_shadow: false,
                metadata: BTreeMap::new(),
                version: 1.into(),
            };
            let key = KeyFacts {
                revoked: is(0),
                expires_at: is(2).then_some(NOON),
                paused: is(6).then_some(PauseEnd::Open),
                networks: if is(3) { &elsewhere } else { &[] },
                features: None,
                scopes: "read",
            };
            let request = AccessRequest {
                rule: request::Rule {
                    mode: Mode::Required,
                    features: if is(4) { "images" } else { "" },
                    scopes: if is(5) { "read,write" } else { "read" },
                    cost: 1,
                },
                credential: Credential::None,
                shadow: None,
                ambiguity: None,
                source: None,
                caller: None,
                time_left: None,
                charge: Charge::Nothing,
                proven: None,
            };
            let decided = policy::decide(&tenant, &key, &request, NOON);
            let rules = of_key(&tenant, &key, &request, NOON);
            let first = rules.iter().find_map(|checked| checked.broken);
            assert_eq!(
                first,
                decided.err().map(|denial| denial.reason),
                "{rules:?}"
            );
            let count = rules.iter().filter(|checked| checked.broken.is_some());
            assert_eq!(count.count(), broken.count_ones() as usize, "{rules:?}");
        }
    }
}
