//! Talking to a control plane: where it is, who we are, and what its refusals mean.

use std::error::Error as _;
use std::time::Duration;

use anyhow::anyhow;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::cli::endpoint::{Address, ClientArgs, io_cause};
use crate::cli::output::printable;
use crate::cli::target::Target;
use crate::cli::tls;
use crate::clock::Span;
use crate::oidc;
use crate::proto::admin as pb;
use crate::proto::admin::block_service_client::BlockServiceClient;
use crate::proto::admin::fleet_service_client::FleetServiceClient;
use crate::proto::admin::key_service_client::KeyServiceClient;
use crate::proto::admin::limit_service_client::LimitServiceClient;
use crate::proto::admin::tenant_service_client::TenantServiceClient;

/// What a call with a whole batch may take, if it may not take longer anyway.
const BATCH_DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait before a call is sent again: this, then twice as long each time, up to a bound.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often a call is sent again though the connection was lost: with the pauses, time enough for a restart.
const LOST_MAX: u32 = 4;

/// A connection, and the key that opens it.
pub(super) struct Client {
    channel: Channel,
    bearer: Bearer,
    address: Address,
}

const NO_JWTS: &str = "use an API key; the server accepts JWTs when its configuration has `admin.strict_api_key_mode: false` and `admin.oidc`";

/// Adds our key, if we have one, and the deadline to each call.
#[derive(Clone)]
pub(super) struct Bearer {
    value: Option<MetadataValue<Ascii>>,
    is_jwt: bool,
    deadline: Duration,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.value {
            request.metadata_mut().insert("authorization", key.clone());
        }
        request.set_timeout(self.deadline);
        Ok(request)
    }
}

type Authorized = InterceptedService<Channel, Bearer>;

impl Client {
    /// Connects to where flags, environment and contexts point.
    pub(super) async fn connect(args: &ClientArgs) -> Result<Self, Failure> {
        Self::open(Target::resolve(args)?, args).await
    }

    /// Connects to one control plane.
    pub(super) async fn open(target: Target, args: &ClientArgs) -> Result<Self, Failure> {
        let bearer = bearer(target.token.as_deref(), args.timeout)?;
        Ok(Self {
            channel: target.address.dial(&target.tls, args.timeout).await?,
            bearer,
            address: target.address,
        })
    }

    /// For calls that carry a whole batch.
    pub(super) fn with_long_timeout(mut self) -> Self {
        self.bearer.deadline = self.bearer.deadline.max(BATCH_DEADLINE);
        self
    }

    /// For calls that the server is asked to hold back for as long as that.
    pub(super) fn waiting(mut self, wait: Duration) -> Self {
        self.bearer.deadline += wait;
        self
    }

    /// Sends a request that may arrive twice without harm, again and again while the server is unavailable.
    pub(super) async fn call<Q: Clone, A, F>(
        &self,
        request: Q,
        send: impl Fn(Q) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let end = tokio::time::Instant::now() + self.bearer.deadline;
        let mut pause = BACKOFF;
        let mut lost = 0;
        loop {
            let status = match tokio::time::timeout_at(end, send(request.clone())).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(""),
            };
            // A server that says that it is unavailable will be back; of one that says nothing we are less sure.
            lost += u32::from(status.get_details_error_info().is_none());
            // A certificate that was refused will be refused again.
            let again = is_lost(&status) && tls_cause(&status).is_none() && lost <= LOST_MAX;
            let too_late = tokio::time::Instant::now() + pause >= end;
            if !again || too_late {
                return Err(self.refused(status));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Sends a request once, because sent twice it could be refused for what it has done itself.
    pub(super) async fn call_once<A>(
        &self,
        send: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, Failure> {
        let answer = match tokio::time::timeout(self.bearer.deadline, send).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("")),
        };
        Ok(answer.map_err(|status| self.refused(status))?.into_inner())
    }

    /// Sends a change: again like [`Self::call`], unless it is made against an etag. Whether a lost answer to that was a
    /// yes cannot be found out by sending it again.
    pub(super) async fn change<Q: Clone, A, F>(
        &self,
        etag: &str,
        request: Q,
        send: impl Fn(Q) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        if etag.is_empty() {
            self.call(request, send).await
        } else {
            self.call_once(send(request)).await
        }
    }

    pub(super) fn tenants(&self) -> TenantServiceClient<Authorized> {
        TenantServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn blocks(&self) -> BlockServiceClient<Authorized> {
        BlockServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn fleet(&self) -> FleetServiceClient<Authorized> {
        FleetServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn limits(&self) -> LimitServiceClient<Authorized> {
        LimitServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn keys(&self) -> KeyServiceClient<Authorized> {
        KeyServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Whether the server knows us, whatever our role.
    pub(super) async fn is_known(&self) -> Result<bool, Failure> {
        // Of no token at all: everybody whom the server knows is answered.
        let request = pb::VerifyKeyRequest::default();
        match self.keys().verify_key(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::Unauthenticated => Ok(false),
            Err(status) => Err(self.refused(status)),
        }
    }

    /// What the server said, and what to do about it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it is the function of a map_err"
    )]
    fn refused(&self, status: Status) -> Failure {
        let mut text = explain(&self.address.shown, self.bearer.deadline, &status);
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        if self.bearer.is_jwt && reason == Some("INVALID_API_KEY") {
            text = format!(
                "{} does not accept this JWT\nhint: {NO_JWTS}",
                self.address.shown
            );
        }
        Failure::Failed(anyhow::Error::msg(text))
    }
}

fn bearer(token: Option<&String>, deadline: Duration) -> Result<Bearer, Failure> {
    let Some(token) = token else {
        return Ok(Bearer {
            value: None,
            is_jwt: false,
            deadline,
        });
    };
    let text = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| {
        Failure::failed(anyhow!("the API key holds a character that no API key has"))
    })?;
    value.set_sensitive(true);
    Ok(Bearer {
        value: Some(value),
        is_jwt: oidc::is_jwt(token.trim().as_bytes()),
        deadline,
    })
}

/// What TLS has to do with a call that failed.
pub(super) fn tls_cause(status: &Status) -> Option<String> {
    let first = status.source()?;
    tls::cause(first).or_else(|| {
        let mut next = Some(first);
        while let Some(error) = next {
            if let Some(cause) = tls::cause_in_words(&error.to_string()) {
                return Some(cause);
            }
            next = error.source();
        }
        None
    })
}

/// A line that says what is wrong, and one that says what to do.
fn explain(address: &str, deadline: Duration, status: &Status) -> String {
    let message = printable(status.message());
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    match (status.code(), reason) {
        (Code::InvalidArgument, _) => with_fields(message, &details),
        (_, Some(reason)) => match advice(reason) {
            Some(advice) => format!("{message}\nhint: {advice}"),
            None => message,
        },
        (_, None) if is_late(status) => format!(
            "{address} did not answer within {}\nhint: look at its log, or give it longer with --timeout",
            Span(deadline)
        ),
        (Code::Unimplemented, None) => format!(
            "{address} does not serve this part of the admin API\nhint: is it the `admin` listener, and as new as this program?"
        ),
        (_, None) if tls_cause(status).is_some() => {
            let cause = tls_cause(status).unwrap_or_default();
            format!("cannot talk to {address}: {cause}")
        }
        (_, None) if is_lost(status) => {
            let cause = status
                .source()
                .map(|source| format!(": {}", printable(&io_cause(source))));
            format!(
                "lost the connection to {address}{}\nhint: is `keystile serve` still running there, and does it want TLS?",
                cause.unwrap_or_default()
            )
        }
        (code, None) => {
            let cause = status.source().map_or_else(|| message.clone(), io_cause);
            format!(
                "{address} did not answer as the admin API does ({code:?}: {})\nhint: is it the `admin` listener, and does it want TLS?",
                printable(&cause)
            )
        }
    }
}

/// Whether there was no answer in time, here or there. A call is cancelled by a broken connection too.
pub(super) fn is_late(status: &Status) -> bool {
    let expired = status.code() == Code::Cancelled && status.message() == "Timeout expired";
    status.code() == Code::DeadlineExceeded || expired
}

/// Whether there is nobody to answer just now. A server that goes away cancels what it has not begun.
fn is_lost(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Cancelled => !is_late(status),
        _ => false,
    }
}

fn with_fields(message: String, details: &ErrorDetails) -> String {
    let fields = details
        .bad_request()
        .map(|bad| bad.field_violations.as_slice());
    match fields.unwrap_or_default() {
        [] | [_] => message,
        all => all.iter().fold(message, |text, violation| {
            let field = printable(&violation.field);
            format!("{text}\n  {field}: {}", printable(&violation.description))
        }),
    }
}

/// What to do about a refusal, by its stable reason.
fn advice(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "MISSING_API_KEY" | "INVALID_API_KEY" => {
            "check the key of the context, KEYSTILE_API_KEY or --api-key-file; `keystile login` takes another"
        }
        "INVALID_JWT" | "JWT_EXPIRED" => {
            "get a new one from its issuer, for KEYSTILE_API_KEY, --api-key-file or `keystile login`"
        }
        "API_KEY_EXPIRED" => "ask an administrator for another key, then `keystile login`",
        "TENANT_SUSPENDED" => "an administrator can undo that: `keystile tenant resume`",
        "PERMISSION_DENIED" => "use the key of somebody whose role allows it",
        "TENANT_NOT_FOUND" => "`keystile tenant list` shows those that there are",
        "KEY_NOT_FOUND" => "`keystile key list TENANT` shows those that there are",
        "KEY_EXPIRED" => "`keystile key renew --expires-in 90d TENANT KEY` lets it work again",
        "ALREADY_CLAIMED" => {
            "if you did not claim it, somebody else has the old token: `keystile key rotate TENANT KEY` without --grace ends both"
        }
        "TENANT_ALREADY_EXISTS" => "`keystile tenant update` changes it",
        "ETAG_MISMATCH" => {
            "look at it again, then repeat the command without --etag or with the new one"
        }
        "API_KEY_LIMIT_EXCEEDED" => {
            "revoke a key that is not needed, or raise the limit; `keystile limits explain TENANT` shows where it comes from"
        }
        "API_KEYS_DISABLED" => "an operator can set `api_keys.enabled` in the configuration",
        "TENANT_OVERRIDE_DISABLED" => {
            "ask a global_admin, or for `api_keys.allow_tenant_override` in the configuration"
        }
        "ADMIN_OVERRIDE_DISABLED" => {
            "the limits are changed in the configuration: `api_keys.tenant_limits`"
        }
        "STORE_UNAVAILABLE" | "AUTHORIZATION_UNAVAILABLE" => {
            "try again shortly; the server's log says more"
        }
        "INTERNAL" => "the server's log says more",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
