//! The `Check` RPC: one message in, one answer out, whatever happens in between.
//!
//! gRPC framing is read here rather than by a codec, because a codec turns a message that is too large or cannot be
//! read into a gRPC error, and to Envoy an error can mean "let it pass". Here it ends in a refusal.

mod body;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tokio::time::Instant;

use crate::authorizer::explain::Checked;
use crate::authorizer::policy::Criterion;
use crate::authorizer::{Allowed, Authorizer, Decision, Grant, Outage};
use crate::clock::Span;
use crate::domain::decision::{Denial, DenyReason};
use crate::domain::limit::{LimitName, LimitState};
use crate::ext_authz::Settings;
use crate::ext_authz::credential;
use crate::ext_authz::request::{BadRule, Incoming};
use crate::ext_authz::response::{self, Answer};
use crate::ext_authz::routes::{Matched, RouteSettings, Routes};
use crate::grpc;
use crate::telemetry::Throttle;
use crate::telemetry::metrics::{Metrics, Outcome};
pub use body::{AnswerBody, Overloaded};
use body::{BoxError, MessageError, read_message};

/// The path of the RPC.
pub const CHECK_PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// The service's name, for health checks.
pub const SERVICE_NAME: &str = "envoy.service.auth.v3.Authorization";
/// A message that takes longer to arrive is not going to: its memory is taken back.
const READ_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5_000 });
/// What of the caller's deadline is left for the way back.
const RETURN_SHARE: u32 = 10;

/// Answers `Check`.
#[derive(Clone)]
pub struct CheckService {
    authorizer: Arc<Authorizer>,
    settings: Arc<Settings>,
    routes: Arc<ArcSwapOption<Routes>>,
    metrics: Arc<Metrics>,
    faults: Arc<Faults>,
    /// Where a key may be, in words.
    places: Arc<str>,
}

/// What every request may meet at once, logged now and then.
#[derive(Debug, Default)]
struct Faults {
    unread: Throttle,
    unknown_rule: Throttle,
    contradiction: Throttle,
    hop: Throttle,
    outage: Throttle,
    /// Checks without pseudo-headers, which Envoy always shows unless it is told to show few headers.
    filtered: AtomicU64,
    overload: Throttle,
}

impl fmt::Debug for CheckService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckService")
    }
}

impl CheckService {
    /// A service over an authorizer.
    pub fn new(authorizer: Arc<Authorizer>, mut settings: Settings, metrics: Arc<Metrics>) -> Self {
        let routes = Routes::new(std::mem::take(&mut settings.routes));
        let faults: Arc<Faults> = Arc::default();
        let counted = Arc::clone(&faults);
        metrics.counter(
            "keystile_filtered_checks",
            "Checks without pseudo-headers: Envoy hides headers (allowed_headers), and forged ones among them pass.",
            move || counted.filtered.load(Ordering::Relaxed),
        );
        Self {
            authorizer,
            routes: Arc::new(ArcSwapOption::from_pointee(routes)),
            places: credential::places(&settings.credentials).into(),
            settings: Arc::new(settings),
            metrics,
            faults,
        }
    }

    /// Replaces the configured rules, in every clone; requests under way keep what they began with.
    pub fn set_routes(&self, settings: RouteSettings) {
        self.routes.store(Routes::new(settings).map(Arc::new));
    }

    /// Answers one RPC. Never fails: an RPC that fails could let the request pass.
    pub async fn call<B>(self, request: Request<B>) -> Result<Response<AnswerBody>, Infallible>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        let time_left = time_left(request.headers());
        let reading = read_message(request.into_body(), self.settings.max_message_bytes);
        let message = tokio::time::timeout(READ_TIMEOUT, reading)
            .await
            .unwrap_or(Err(MessageError::CutShort));
        let started = Instant::now();
        let (answer, outcome) = match message {
            Ok(message) => Caught(Box::pin(self.check(&message, time_left)))
                .await
                .unwrap_or_else(|| refuse(&undecided(), None, false)),
            Err(MessageError::Overloaded) => self.refuse_overloaded(),
            Err(error) => self.refuse_unread(error),
        };
        if let Some(outcome) = outcome {
            self.metrics.decided(outcome, started.elapsed());
        }
        let mut response = Response::new(AnswerBody::new(answer));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        Ok(response)
    }

    /// Decides about one encoded `CheckRequest`. Says how it ended, for counting, unless it is not to be counted.
    pub async fn check(
        &self,
        message: &[u8],
        time_left: Option<Duration>,
    ) -> (Answer, Option<Outcome>) {
        let routes = self.routes.load_full();
        let Ok(mut incoming) = Incoming::read(message, &self.settings) else {
            return self.refuse_unread(MessageError::Unreadable);
        };
        if incoming.filtered {
            self.note_filtered();
        }
        if let Some(routes) = &routes {
            incoming.route(routes);
        }
        if let Some(bad) = incoming.bad_rule {
            self.log_bad_rule(bad);
            self.hide_key_in_request_id(&mut incoming);
            return refuse(&undecided(), Some(&incoming), false);
        }
        self.believe_hop(&mut incoming);
        if incoming.dry_run {
            self.hide_key_in_request_id(&mut incoming);
            return (self.rehearse(&incoming, time_left).await, None);
        }
        match self
            .authorizer
            .authorize(&incoming.access_request(time_left))
            .await
        {
            Ok(Decision::Allow(allowed)) => {
                if let Some(reason) = allowed.shadow {
                    log_shadow_denial(reason, &incoming);
                }
                let outcome = Outcome::Allow {
                    keyless: match &allowed.grant {
                        Grant::Key(_) => None,
                        Grant::Keyless(keyless) => Some(*keyless),
                    },
                    shadow: allowed.shadow,
                };
                (self.allow(&allowed, &incoming), Some(outcome))
            }
            Ok(Decision::Deny(mut denial)) => {
                self.name_places(&mut denial);
                self.hide_key_in_request_id(&mut incoming);
                log_denial(&denial, &incoming);
                refuse(&denial, Some(&incoming), false)
            }
            Err(outage) => {
                self.log_outage(&outage);
                self.hide_key_in_request_id(&mut incoming);
                let defer = self.settings.defer_on_outage && outage.is_of_the_store();
                refuse(&undecided(), Some(&incoming), defer)
            }
        }
    }

    fn allow(&self, allowed: &Allowed, incoming: &Incoming<'_>) -> Answer {
        let now = self.authorizer.time_of_day();
        let prefixes = self.authorizer.prefixes();
        response::allow(allowed, incoming, &self.settings, prefixes, now)
    }

    fn hide_key_in_request_id(&self, incoming: &mut Incoming<'_>) {
        incoming.hide_key_in_request_id(|text| self.authorizer.prefixes().appear_in(text));
    }

    /// Decides as ever, but counts nothing and says how each rule came out.
    ///
    /// Asked for by a context extension: those come from the proxy's configuration, never from its clients. Who asks this
    /// port directly can guess by it no better than otherwise.
    async fn rehearse(&self, incoming: &Incoming<'_>, time_left: Option<Duration>) -> Answer {
        let request = incoming.access_request(time_left);
        let (decision, mut rules) = match self.authorizer.rehearse(&request).await {
            Ok(rehearsed) => rehearsed,
            Err(outage) => {
                self.log_outage(&outage);
                return response::deny(&undecided(), Some(incoming), false);
            }
        };
        let (answer, limits) = match decision {
            Decision::Allow(allowed) => (
                self.allow(&allowed, incoming),
                held_against(&allowed.limits, None),
            ),
            Decision::Deny(mut denial) => {
                self.name_places(&mut denial);
                (
                    response::deny(&denial, Some(incoming), false),
                    held_against(&denial.limits, denial.refused_by),
                )
            }
        };
        rules.extend(limits);
        let replaced = incoming.replaced();
        rules.extend(
            incoming
                .matched
                .map(|matched| matched_rule(matched, &replaced)),
        );
        response::explained(&answer, &incoming.credential_places(), &rules)
    }

    fn believe_hop(&self, incoming: &mut Incoming<'_>) {
        let Some(hop) = &self.settings.trusted_hop else {
            return;
        };
        let now = self.authorizer.now();
        if let Some(Err(outcome)) = incoming.believe(hop, now)
            && let Some(held_back) = self.faults.hop.admit(now)
        {
            tracing::warn!(
                reason = outcome.as_str(),
                held_back,
                "a signed context was not believed: its request goes on as if it had none (docs/SIGNED_CONTEXT.md)"
            );
        }
    }

    /// Who has sent no key learns where one may be.
    fn name_places(&self, denial: &mut Denial) {
        if denial.reason == DenyReason::MissingApiKey {
            denial.detail = Some(self.places.to_string());
        }
    }

    /// Said once: it is a matter of configuration, and holds for every request.
    fn note_filtered(&self) {
        if self.faults.filtered.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "a Check came without pseudo-headers: Envoy shows only some headers (allowed_headers), and what it hides \
                 cannot be removed: forged headers under the reserved prefixes, keys in other places, method overrides \
                 (docs/ENVOY.md); not said again, counted as keystile_filtered_checks_total"
            );
        }
    }

    /// A client can bring this about, so it is a refusal under every failure policy.
    fn refuse_unread(&self, error: MessageError) -> (Answer, Option<Outcome>) {
        if let Some(held_back) = self.faults.unread.admit(self.authorizer.now()) {
            tracing::warn!(%error, held_back, "refused a CheckRequest that could not be read");
        }
        let denial = Denial {
            detail: Some(error.to_string()),
            ..Denial::because(DenyReason::AmbiguousRequest)
        };
        refuse(&denial, None, false)
    }

    /// There was no room for the message. In band, whatever the failure policy: clients can bring this about.
    fn refuse_overloaded(&self) -> (Answer, Option<Outcome>) {
        if let Some(held_back) = self.faults.overload.admit(self.authorizer.now()) {
            tracing::warn!(
                held_back,
                "refused a CheckRequest: too many unfinished ones are held already"
            );
        }
        refuse(&undecided(), None, false)
    }

    fn log_bad_rule(&self, bad: BadRule<'_>) {
        let throttle = match bad {
            BadRule::Unknown(_) => &self.faults.unknown_rule,
            BadRule::OffAndDemands(_) => &self.faults.contradiction,
        };
        let Some(held_back) = throttle.admit(self.authorizer.now()) else {
            return;
        };
        tracing::warn!(
            error = %bad, held_back,
            "a route's context extensions are not understood, so its requests are refused: known are keystile.mode \
             (required, optional, off; with off nothing else), keystile.features, keystile.scopes, keystile.cost \
             (0 to 1000000), keystile.trusted_hop (true, false, rewritten), keystile.dry_run (true, false)"
        );
    }

    fn log_outage(&self, outage: &Outage) {
        if let Some(held_back) = self.faults.outage.admit(self.authorizer.now()) {
            tracing::warn!(
                error = %crate::telemetry::chain(outage),
                held_back,
                "cannot decide"
            );
        }
    }
}

fn undecided() -> Denial {
    Denial::because(DenyReason::AuthorizationUnavailable)
}

/// A refusal, and how it counts.
fn refuse(
    denial: &Denial,
    incoming: Option<&Incoming<'_>>,
    defer: bool,
) -> (Answer, Option<Outcome>) {
    let answer = response::deny(denial, incoming, defer);
    (answer, Some(Outcome::Deny(denial.reason)))
}

fn log_denial(denial: &Denial, incoming: &Incoming<'_>) {
    tracing::debug!(
        reason = denial.reason.as_str(),
        tenant = denial
            .subject
            .as_ref()
            .map(|subject| subject.tenant.as_str()),
        key = denial.subject.as_ref().map(|subject| subject.key.as_str()),
        request_id = incoming.request_id,
        "denied"
    );
}

fn log_shadow_denial(reason: DenyReason, incoming: &Incoming<'_>) {
    tracing::debug!(
        reason = reason.as_str(),
        rule = incoming.matched.and_then(|matched| matched.shadow),
        request_id = incoming.request_id,
        "would be denied but for shadow"
    );
}

/// How each limit stands, for `keystile check`.
fn held_against(limits: &[LimitState], refused_by: Option<LimitName>) -> Vec<Checked> {
    let checked = |state: &LimitState| {
        let refuses = refused_by == Some(state.limit);
        Checked {
            criterion: Criterion::Limit,
            broken: refuses.then(|| state.limit.into()),
            detail: format!(
                "{}: {} of {} left, all of them in {}",
                state.limit.as_str(),
                state.remaining,
                state.amount,
                Span::rounded_up(state.reset)
            ),
        }
    };
    limits.iter().map(checked).collect()
}

/// Which configured rule the request fell under, in the words of the configuration.
fn matched_rule(matched: Matched<usize>, replaced: &str) -> Checked {
    let number = |at: usize| format!("authz.routes[{at}]");
    let enforced = matched
        .enforced
        .map_or_else(|| "no configured rule matches".into(), number);
    let mut detail = enforced;
    if matched.enforced.is_some() && !replaced.is_empty() {
        detail.push_str(&format!(", whose {replaced} the route replaces"));
    }
    if let Some(shadow) = matched.shadow.map(number) {
        detail.push_str(&format!("; in shadow {shadow}"));
    }
    Checked {
        criterion: Criterion::Route,
        broken: None,
        detail,
    }
}

/// The caller's deadline (`grpc-timeout`), less what the way back takes.
fn time_left(headers: &HeaderMap) -> Option<Duration> {
    let whole = grpc::timeout(headers).ok()??;
    Some(whole - whole / RETURN_SHARE)
}

/// A future whose panic is an answer, not a broken stream.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests;
