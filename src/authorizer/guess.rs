//! Tokens that are not a request's: shown to the admin API, or tried in a rehearsal. Whoever can reach those could guess
//! there, so a wrong one counts there too.

use std::time::Duration;

use crate::abuse::guesses::Guesses;
use crate::authorizer::explain::{Checked, before_key};
use crate::authorizer::policy::Criterion;
use crate::authorizer::{Authorizer, Decision, Grant, Outage};
use crate::cache::Found;
use crate::crypto::token::PresentedToken;
use crate::domain::block::{Presenter, Source};
use crate::domain::decision::{Denial, DenyReason};
use crate::domain::limit::Rate;
use crate::domain::request::{AccessRequest, Charge, Credential};

/// How often a rehearsal may be wrong, whoever asks: an operator's table of keys, not a list of guesses.
const REHEARSALS: &str = "1/s burst 100";

pub(super) fn rehearsals() -> Guesses {
    Guesses::new(Rate::parse(REHEARSALS).expect("it is a rate"))
}

pub(super) fn blocked_for(wait: Duration) -> Denial {
    Denial {
        retry_after: Some(wait),
        ..Denial::because(DenyReason::TemporarilyBlocked)
    }
}

impl Authorizer {
    /// Whose token this is that somebody shows to the admin API: decided as for a route that demands nothing, and counted
    /// against whoever shows it.
    pub async fn authenticate(
        &self,
        token: &[u8],
        presenter: Presenter,
    ) -> Result<Result<Found, Denial>, Outage> {
        let guesses = match presenter {
            Presenter::Stranger(_) if self.blocks.is_none() => self.guesses.as_ref(),
            Presenter::Stranger(_) | Presenter::Recognised(_) => None,
        };
        let request = AccessRequest {
            rule: Default::default(),
            credential: Credential::One(token),
            shadow: None,
            ambiguity: None,
            source: None,
            caller: presenter.source(),
            time_left: None,
            charge: Charge::Nothing,
            proven: None,
        };
        let guesses = guesses.map(|guesses| (guesses, presenter.source()));
        let decision = self.guess(guesses, token, &request).await?;
        Ok(match decision {
            Decision::Allow(allowed) => match allowed.grant {
                Grant::Key(found) => Ok(found),
                Grant::Keyless(_) => Err(Denial::because(DenyReason::MissingApiKey)),
            },
            Decision::Deny(denial) => Err(denial),
        })
    }

    /// Decides as ever, charges and counts nothing, and says how each rule comes out.
    pub async fn rehearse(
        &self,
        request: &AccessRequest<'_>,
    ) -> Result<(Decision, Vec<Checked>), Outage> {
        let Credential::One(token) = request.credential else {
            let decision = self.authorize(request).await?;
            return Ok((decision, self.explain(request).await?));
        };
        // Whoever asks says where the request comes from: all are measured as one.
        let decision = self
            .guess(Some((&self.rehearsals, None)), token, request)
            .await?;
        if let Decision::Deny(denial) = &decision
            && denial.reason == DenyReason::TemporarilyBlocked
        {
            let rules = before_key(request).0.into_iter();
            let rules = rules.chain([source_is_blocked(denial)]).collect();
            return Ok((decision, rules));
        }
        Ok((decision, self.explain(request).await?))
    }

    /// How long whoever shows credentials is not served, whatever they are.
    pub fn blocked_presenter(&self, presenter: Presenter) -> Option<Duration> {
        let blocks = self.blocks.as_ref()?;
        blocks.wait(presenter.source()?, self.clock.now())
    }

    /// Counts a credential that was wrong and that nobody was asked for.
    pub fn presented_wrong(&self, presenter: Presenter) {
        if let Some((blocks, source)) = self.blocks.as_ref().zip(presenter.source()) {
            blocks.failed(source, self.clock.now());
        }
    }

    /// Decides about a token that may be a guess. One that is a key's in memory needs no look-up and is never held back.
    async fn guess(
        &self,
        guesses: Option<(&Guesses, Option<Source>)>,
        token: &[u8],
        request: &AccessRequest<'_>,
    ) -> Result<Decision, Outage> {
        let Some((guesses, source)) = guesses.filter(|_| !self.knows(token)) else {
            return self.authorize(request).await;
        };
        if let Err(wait) = guesses.admit(source, self.clock.now()) {
            return Ok(Decision::Deny(blocked_for(wait)));
        }
        let decision = self.authorize(request).await;
        if !is_wrong(&decision) {
            guesses.give_back(source, self.clock.now());
        }
        decision
    }

    fn knows(&self, token: &[u8]) -> bool {
        let token = PresentedToken::parse(token, &self.prefixes);
        let digest = token.map(|token| self.lookup.digest(token.expose()));
        digest.is_ok_and(|digest| self.cache.knows(digest.lookup_id()))
    }
}

fn is_wrong(decision: &Result<Decision, Outage>) -> bool {
    matches!(decision, Ok(Decision::Deny(denial)) if denial.reason == DenyReason::InvalidApiKey)
}

fn source_is_blocked(denial: &Denial) -> Checked {
    let wait = denial.retry_after.unwrap_or_default().as_secs_f64().ceil();
    Checked {
        criterion: Criterion::Source,
        broken: Some(DenyReason::TemporarilyBlocked),
        detail: format!("too many wrong keys came from it: nobody is asked for another {wait} s"),
    }
}
