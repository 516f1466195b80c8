//! Who calls, and what the caller's role lets it do (the table of DESIGN section 7).

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::domain::block::{Presenter, Source};
use crate::domain::change::Actor;
use crate::domain::key::Key;
use crate::domain::name::{Issuer, KeyId, Owner, Scope, Subject, TenantId};
use crate::domain::role::Role;
use crate::domain::san::San;
use crate::registry::ReadKey;
use crate::status::{self, Reason};

/// The holder of a valid key, or of a certificate or a JWT that has a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it may do here.
    pub role: Role,
    /// What it showed.
    pub credential: Credential,
}

/// Who makes a call that may be made: as it was recognised, and with its own key as that now is.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) identity: Identity,
    /// None for a certificate or a JWT.
    pub(super) own: Option<ReadKey>,
}

impl Deref for Admitted {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

/// By what a caller was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// One of our keys.
    Key {
        /// The key's tenant.
        tenant: TenantId,
        /// The key.
        key: KeyId,
        /// Which of its tokens was shown.
        generation: u32,
        /// The user it belongs to.
        owner: Owner,
    },
    /// A client certificate.
    Certificate {
        /// The name in it that has a role.
        san: San,
        /// The tenant that it administers; none when it administers all.
        tenant: Option<TenantId>,
    },
    /// A JWT.
    Jwt {
        /// Who signed it.
        issuer: Issuer,
        /// Whom it is about.
        subject: Subject,
        /// Where it belongs; none for a `global_admin`.
        tenant: Option<TenantId>,
        /// Whose keys are its own; always there for a `user`.
        owner: Option<Owner>,
        /// What keys that it makes may do.
        scopes: BTreeSet<Scope>,
    },
}

/// The names in the certificate of a connection's client, attached to each request. Empty without a certificate.
#[derive(Clone, Debug, Default)]
pub struct ClientNames(pub Arc<[San]>);

/// Where a request's connection comes from, attached to each: none for a Unix socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer(pub Option<Source>);

impl Peer {
    /// Where a call came from.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }
}

/// Why nobody was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// Malformed, unknown, revoked or wrong.
    Refused,
    /// Right, and past its expiry.
    Expired,
    /// Right, and paused.
    Paused,
    /// Right, and its tenant is suspended.
    TenantSuspended,
    /// Too many credentials from there were wrong; how long none is looked at.
    Blocked(Duration),
    /// We could not find out.
    Unavailable,
}

/// Why the holder of a JWT is nobody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtFailure {
    /// Not signed by the issuer, not whole, or of a tenant that is not there.
    Refused,
    /// Signed by the issuer, and past its end.
    Expired,
    /// Signed by the issuer, and not acceptable here, for this reason.
    NotAcceptable(&'static str),
    /// Acceptable, and nothing in it has a role here, for this reason.
    NoRole(&'static str),
    /// Its tenant is suspended.
    TenantSuspended,
    /// We could not find out.
    Unavailable,
}

/// The answer to who calls, to be awaited.
pub type AuthFuture<'a, E = AuthFailure> =
    Pin<Box<dyn Future<Output = Result<Identity, E>> + Send + 'a>>;

/// Recognises callers by what they show.
pub trait Authenticate: Send + Sync + 'static {
    /// Who holds the key with this token, which is counted against whoever shows it if it is wrong. The token is a secret:
    /// it must not be logged.
    fn authenticate<'a>(&'a self, token: &'a [u8], presenter: Presenter) -> AuthFuture<'a>;

    /// Whether whoever shows credentials is refused for a while, because too many were wrong.
    fn check_blocked(&self, presenter: Presenter) -> Result<(), AuthFailure> {
        let _ = presenter;
        Ok(())
    }

    /// Counts a wrong credential that was found to be so elsewhere.
    fn presented_wrong(&self, presenter: Presenter) {
        let _ = presenter;
    }

    /// Who the holder of a certificate with these names is.
    fn recognise<'a>(&'a self, names: &'a [San]) -> AuthFuture<'a> {
        let _ = names;
        Box::pin(async { Err(AuthFailure::Refused) })
    }

    /// Who the holder of a JWT is. None where no JWT is accepted, and for what is none. It is a secret too.
    fn jwt<'a>(&'a self, token: &'a [u8]) -> Option<AuthFuture<'a, JwtFailure>> {
        let _ = token;
        None
    }
}

/// Who calls, when it has been found out before, attached to the call.
#[derive(Clone, Debug)]
pub(super) struct Identified(pub(super) Identity);

/// Finds out who calls: by the key or the JWT that the call brings, else by the certificate of its connection.
pub async fn identify<T>(
    auth: &dyn Authenticate,
    request: &Request<T>,
) -> Result<Identity, Status> {
    if let Some(Identified(identity)) = request.extensions().get() {
        return Ok(identity.clone());
    }
    let stranger = Presenter::Stranger(Peer::of(request).0);
    let token = credential(request.metadata()).inspect_err(|_| auth.presented_wrong(stranger))?;
    if let Some(token) = token {
        return bearer_of(auth, token, stranger).await;
    }
    match request.extensions().get::<ClientNames>() {
        Some(ClientNames(names)) if !names.is_empty() => {
            auth.recognise(names).await.map_err(certificate_refused)
        }
        Some(_) | None => Err(Reason::MissingApiKey.status(
            "an API key is needed: send it as `authorization: Bearer <key>` or `x-api-key`",
        )),
    }
}

async fn bearer_of(
    auth: &dyn Authenticate,
    token: &[u8],
    stranger: Presenter,
) -> Result<Identity, Status> {
    let Some(verifying) = auth.jwt(token) else {
        return auth.authenticate(token, stranger).await.map_err(refused);
    };
    match verifying.await {
        Ok(identity) => Ok(identity),
        // The token of another system may look like a JWT and be a key of ours all the same: it was imported.
        Err(failure) => {
            let key = auth.authenticate(token, stranger).await;
            key.map_err(|why| match why {
                AuthFailure::Blocked(_) => refused(why),
                _ => jwt_refused(failure),
            })
        }
    }
}

/// The error for who showed a key that is not accepted.
pub(super) fn refused(failure: AuthFailure) -> Status {
    match failure {
        AuthFailure::Refused => Reason::InvalidApiKey.status("the API key is not valid"),
        AuthFailure::Expired => Reason::ApiKeyExpired.status("the API key has expired"),
        AuthFailure::Paused => Reason::ApiKeyPaused.status("the API key is paused"),
        AuthFailure::TenantSuspended => {
            Reason::TenantSuspended.status("the tenant of the API key is suspended")
        }
        AuthFailure::Blocked(wait) => status::temporarily_blocked(wait),
        AuthFailure::Unavailable => {
            Reason::AuthorizationUnavailable.status(
                "cannot check the API key now: the key store does not answer, or is without its data; the log of the control plane says which",
            )
        }
    }
}

fn jwt_refused(failure: JwtFailure) -> Status {
    match failure {
        JwtFailure::Refused => Reason::InvalidJwt.status("the JWT is not valid"),
        JwtFailure::Expired => {
            Reason::JwtExpired.status("the JWT has expired: get a new one from its issuer")
        }
        JwtFailure::NotAcceptable(why) => {
            Reason::InvalidJwt.status(format!("the JWT is not accepted: {why}"))
        }
        JwtFailure::NoRole(why) => {
            Reason::PermissionDenied.status(format!("the JWT gives no role: {why}"))
        }
        JwtFailure::TenantSuspended => {
            Reason::TenantSuspended.status("the tenant of the JWT is suspended")
        }
        JwtFailure::Unavailable => {
            Reason::AuthorizationUnavailable.status("cannot check the JWT now; try again")
        }
    }
}

fn certificate_refused(failure: AuthFailure) -> Status {
    match failure {
        AuthFailure::Blocked(wait) => status::temporarily_blocked(wait),
        AuthFailure::Refused | AuthFailure::Expired | AuthFailure::Paused => Reason::MissingApiKey
            .status(
                "an API key is needed: `admin.client_roles` gives the client certificate no role",
            ),
        AuthFailure::TenantSuspended => {
            Reason::TenantSuspended.status("the tenant of the client certificate is suspended")
        }
        AuthFailure::Unavailable => Reason::AuthorizationUnavailable
            .status("cannot check the client certificate now; try again"),
    }
}

/// The one key of the call, if it brings any.
pub(super) fn credential(metadata: &MetadataMap) -> Result<Option<&[u8]>, Status> {
    let keys = metadata
        .get_all("x-api-key")
        .iter()
        .map(|value| Some(value.as_encoded_bytes()));
    let bearers = metadata
        .get_all("authorization")
        .iter()
        .map(|value| bearer(value.as_encoded_bytes()));
    let mut all = keys.chain(bearers);
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => {
            Err(Reason::AmbiguousRequest.status("more than one credential was sent"))
        }
        (Some(Some(token)), None) => Ok(Some(token)),
        (Some(None), None) => {
            Err(Reason::InvalidApiKey.status("the `authorization` metadata must be `Bearer <key>`"))
        }
    }
}

/// The token of an `authorization` value, if it has the form of RFC 6750.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// `apikey.manage`: own keys.
    OwnKeys,
    /// `apikey.admin`: everything of the own tenant.
    OwnTenant,
    /// `apikey.global_admin`: everything.
    Global,
}

impl Permission {
    fn least_role(self) -> Role {
        match self {
            Self::OwnKeys => Role::User,
            Self::OwnTenant => Role::TenantAdmin,
            Self::Global => Role::GlobalAdmin,
        }
    }
}

/// Lets the caller on, or answers what it may know: of another tenant, nothing.
///
/// `tenant` is the one that is reached; none for what belongs to no tenant.
pub fn require(
    caller: &Identity,
    permission: Permission,
    tenant: Option<&TenantId>,
) -> Result<(), Status> {
    if caller.role == Role::GlobalAdmin {
        return Ok(());
    }
    if tenant.is_some_and(|tenant| Some(tenant) != caller.tenant()) {
        return Err(status::not_found("tenant"));
    }
    if caller.role >= permission.least_role() {
        return Ok(());
    }
    Err(Reason::PermissionDenied.status(format!(
        "the role `{}` is needed, this {} has `{}`",
        permission.least_role().as_str(),
        caller.credential.word(),
        caller.role.as_str()
    )))
}

impl Credential {
    /// What people call it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Key { .. } => "key",
            Self::Certificate { .. } => "certificate",
            Self::Jwt { .. } => "JWT",
        }
    }
}

impl Identity {
    /// Where it belongs; none for a certificate or a JWT that administers every tenant.
    pub fn tenant(&self) -> Option<&TenantId> {
        match &self.credential {
            Credential::Key { tenant, .. } => Some(tenant),
            Credential::Certificate { tenant, .. } | Credential::Jwt { tenant, .. } => {
                tenant.as_ref()
            }
        }
    }

    /// The user that it acts as; none for a certificate, and for a JWT that names none.
    pub fn owner(&self) -> Option<&Owner> {
        match &self.credential {
            Credential::Key { owner, .. } => Some(owner),
            Credential::Certificate { .. } => None,
            Credential::Jwt { owner, .. } => owner.as_ref(),
        }
    }

    /// Which of the tokens of `key` it was recognised by, if it was by one.
    pub fn generation_of(&self, key: &Key) -> Option<u32> {
        match &self.credential {
            Credential::Key { generation, .. } if self.holds(key) => Some(*generation),
            Credential::Key { .. } | Credential::Certificate { .. } | Credential::Jwt { .. } => {
                None
            }
        }
    }

    /// Whether `key` is what it was recognised by.
    pub fn holds(&self, key: &Key) -> bool {
        match &self.credential {
            Credential::Key {
                tenant, key: id, ..
            } => *tenant == key.tenant && *id == key.id,
            Credential::Certificate { .. } | Credential::Jwt { .. } => false,
        }
    }

    /// The owner whose keys alone it reaches; none when it reaches every owner's.
    pub fn only_owner(&self) -> Option<&Owner> {
        self.owner().filter(|_| self.role == Role::User)
    }

    /// How the audit names it.
    pub fn actor(&self) -> Actor {
        match &self.credential {
            Credential::Key { tenant, key, .. } => Actor::Key {
                tenant: tenant.clone(),
                key: key.clone(),
            },
            Credential::Certificate { san, .. } => Actor::Certificate { san: san.clone() },
            Credential::Jwt {
                issuer, subject, ..
            } => Actor::Jwt {
                issuer: issuer.clone(),
                subject: subject.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
