//! Whether a key opens this API at all, and with which of its tokens: asked of the key itself at every call, whatever is
//! cached, before anything else is looked at.

use tonic::Status;

use crate::admin::Admin;
use crate::admin::caller::{AuthFailure, Credential, Identity, refused};
use crate::domain::decision::is_past;
use crate::domain::key::Key;
use crate::domain::role::AdminAccess;
use crate::registry::{ReadKey, RegistryError};
use crate::status::{Reason, from_registry};

/// What a call does, as far as that decides whether a key with less than all of its rights may make it. What has no word
/// here is of a role: a new call is closed to such keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed<'a> {
    /// Anything.
    OfRole,
    /// It reads the key of this name.
    Read(&'a str),
    /// It gives the key of this name another token.
    Rotate(&'a str),
    /// The same under a request id: it may have been done before, and its answer lost.
    RotateOnce(&'a str),
    /// It revokes the key of this name.
    Revoke(&'a str),
    /// It revokes the calling key.
    RevokeItself,
    /// It gets the token that has taken the place of the calling one.
    Claim,
}

/// Why a key may not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    /// It does not open this API.
    ToKey,
    /// It may act on itself alone.
    BeyondItself,
    /// The token has been replaced.
    ToOldToken,
}

impl Closed {
    fn status(self) -> Status {
        Reason::PermissionDenied.status(match self {
            Self::ToKey => "this API key does not open the admin API: it may revoke itself, and nothing else",
            Self::BeyondItself => {
                "this API key may read, claim, rotate and revoke itself, and nothing else"
            }
            Self::ToOldToken => {
                "this token has been replaced: in its grace it may claim the next one, and read and revoke its key, \
                 and nothing else"
            }
        })
    }
}

/// Whether a key may do it.
fn permit(access: AdminAccess, is_current: bool, own: &str, deed: Deed<'_>) -> Result<(), Closed> {
    // Who has a token of the key by theft harms nobody by ending it, and who finds one can.
    if access == AdminAccess::None && deed != Deed::RevokeItself {
        return Err(Closed::ToKey);
    }
    let (on_itself, by_old_token) = match deed {
        Deed::OfRole => (false, false),
        Deed::Read(name) | Deed::Revoke(name) | Deed::RotateOnce(name) => {
            (name == own, name == own)
        }
        Deed::Rotate(name) => (name == own, false),
        Deed::RevokeItself | Deed::Claim => (true, true),
    };
    if !is_current && !by_old_token {
        return Err(Closed::ToOldToken);
    }
    if access == AdminAccess::Itself && !on_itself {
        return Err(Closed::BeyondItself);
    }
    Ok(())
}

impl Admin {
    /// Refuses a caller that was recognised by a key which may not do this. Answers the key, if it was one.
    pub(super) async fn check_access(
        &self,
        caller: &Identity,
        deed: Deed<'_>,
    ) -> Result<Option<ReadKey>, Status> {
        let Credential::Key {
            tenant,
            key,
            generation,
            ..
        } = &caller.credential
        else {
            return Ok(None);
        };
        let read = match self.registry.read_key(tenant, key).await {
            Ok(read) => read,
            // It was there a moment ago, when the caller was recognised: now it is as good as revoked.
            Err(RegistryError::NotFound { .. }) => return Err(refused(AuthFailure::Refused)),
            Err(error) => return Err(from_registry("key")(error)),
        };
        let key = read.key();
        self.check_works(key, *generation)?;
        let name = format!("tenants/{tenant}/keys/{}", key.id);
        let is_current = is_current(key, *generation);
        permit(key.admin_access, is_current, &name, deed).map_err(|closed| {
            self.log_closed(key, closed);
            closed.status()
        })?;
        Ok(Some(read))
    }

    /// Refuses a key that has been revoked, or has expired, since it was recognised.
    fn check_works(&self, key: &Key, generation: u32) -> Result<(), Status> {
        if !key.is_live() {
            return Err(refused(AuthFailure::Refused));
        }
        let now = self.clock.now();
        let mut generations = key.generations.iter();
        let shown = generations.find(|one| one.number == generation);
        let grace = shown
            .ok_or_else(|| refused(AuthFailure::Refused))?
            .retires_at;
        if is_past(key.expires_at, now) || is_past(grace, now) {
            return Err(refused(AuthFailure::Expired));
        }
        if key.is_paused(now) {
            return Err(refused(AuthFailure::Paused));
        }
        Ok(())
    }

    /// The caller is not told more than it must know; the log says why.
    fn log_closed(&self, key: &Key, closed: Closed) {
        if let Some(held_back) = self.closed.admit(self.clock.now()) {
            tracing::info!(
                tenant = %key.tenant, key = %key.id, admin_access = key.admin_access.as_str(),
                old_token = closed == Closed::ToOldToken, held_back,
                "a call of the admin API was refused: the key may not make it"
            );
        }
    }
}

/// Whether that is the token of the key that no other has replaced.
pub(super) fn is_current(key: &Key, generation: u32) -> bool {
    key.current()
        .is_some_and(|current| current.number == generation)
}

/// What is said of a token that has been replaced.
pub(super) fn replaced() -> Status {
    Closed::ToOldToken.status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_less_than_its_role_gives_acts_on_itself_alone() {
        use AdminAccess::{Itself, None, Role};
        let (own, other) = ("tenants/a/keys/own", "tenants/a/keys/other");
        let (key, beyond, old) = (
            Err(Closed::ToKey),
            Err(Closed::BeyondItself),
            Err(Closed::ToOldToken),
        );
        for (deed, itself, by_old, itself_by_old) in [
            (Deed::OfRole, beyond, old, old),
            (Deed::Read(own), Ok(()), Ok(()), Ok(())),
            (Deed::Read(other), beyond, old, old),
            (Deed::Rotate(own), Ok(()), old, old),
            (Deed::Rotate(other), beyond, old, old),
            // Whether it was done before is found out by who does it.
            (Deed::RotateOnce(own), Ok(()), Ok(()), Ok(())),
            (Deed::RotateOnce(other), beyond, old, old),
            (Deed::Revoke(own), Ok(()), Ok(()), Ok(())),
            (Deed::Revoke(other), beyond, old, old),
            (Deed::Revoke(""), beyond, old, old),
            (Deed::RevokeItself, Ok(()), Ok(()), Ok(())),
            (Deed::Claim, Ok(()), Ok(()), Ok(())),
        ] {
            assert_eq!(permit(Role, true, own, deed), Ok(()), "{deed:?}");
            assert_eq!(permit(Itself, true, own, deed), itself, "{deed:?}");
            assert_eq!(permit(Role, false, own, deed), by_old, "{deed:?}");
            assert_eq!(permit(Itself, false, own, deed), itself_by_old, "{deed:?}");
            for is_current in [true, false] {
                let expected = match deed {
                    Deed::RevokeItself => Ok(()),
                    _ => key,
                };
                assert_eq!(permit(None, is_current, own, deed), expected, "{deed:?}");
            }
        }
    }
}
