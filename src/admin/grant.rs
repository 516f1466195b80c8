//! Nobody grants what they do not have: a role above their own, or, as a user, more than their own key or JWT may do.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tonic::Status;
use tonic_types::FieldViolation;

use crate::admin::caller::Identity;
use crate::admin::convert::KeyChange;
use crate::domain::key::Key;
use crate::domain::limit::Limits;
use crate::domain::name::{Feature, Owner, Scope};
use crate::domain::role::Role;
use crate::registry::NewKey;
use crate::status::Reason;

/// Whether the caller may hand out `role`, or act on a key that has it.
pub(super) fn check_role(caller: &Identity, role: Role) -> Result<(), Status> {
    if role <= caller.role {
        return Ok(());
    }
    Err(Reason::PermissionDenied.status(format!(
        "a {} with the role `{}` cannot give or change the role `{}`",
        caller.credential.word(),
        caller.role.as_str(),
        role.as_str()
    )))
}

/// What a user has to give.
pub(super) struct Means {
    /// By what it was recognised.
    word: &'static str,
    owner: Owner,
    scopes: BTreeSet<Scope>,
    /// None: all that the tenant has.
    features: Option<BTreeSet<Feature>>,
    /// Empty: every network.
    networks: Vec<IpNet>,
    limits: Limits,
}

impl From<Key> for Means {
    fn from(own: Key) -> Self {
        Self {
            word: "key",
            owner: own.owner,
            scopes: own.scopes,
            features: own.features,
            networks: own.networks,
            limits: own.limits,
        }
    }
}

impl Means {
    /// Of a user with a JWT: the scopes that it names. It restricts nothing else: features, networks and limits are its
    /// tenant's.
    pub(super) fn of_jwt(owner: Owner, scopes: BTreeSet<Scope>) -> Self {
        Self {
            word: "JWT",
            owner,
            scopes,
            features: None,
            networks: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What a key is asked to be able to do; what is none is not asked.
struct Asked<'a> {
    owner: Option<&'a Owner>,
    scopes: Option<&'a BTreeSet<Scope>>,
    features: Option<Option<&'a BTreeSet<Feature>>>,
    networks: Option<&'a [IpNet]>,
    limits: Option<&'a Limits>,
}

/// Whether a user, who may make keys for itself alone, may make this one with `own`.
pub(super) fn check_user(own: &Means, new: &NewKey) -> Result<(), Status> {
    check_asked(
        own,
        &Asked {
            owner: Some(&new.owner),
            scopes: Some(&new.scopes),
            features: Some(new.features.as_ref()),
            networks: Some(&new.networks),
            limits: Some(&new.limits),
        },
    )
}

/// Whether a user may have another token or a longer life of this key of its own with `own`: both give what the key
/// may do. That of the calling key it may, whatever that may do.
pub(super) fn check_user_gets(caller: &Identity, own: &Means, key: &Key) -> Result<(), Status> {
    if caller.holds(key) {
        return Ok(());
    }
    check_asked(
        own,
        &Asked {
            owner: Some(&key.owner),
            scopes: Some(&key.scopes),
            features: Some(key.features.as_ref()),
            networks: Some(&key.networks),
            limits: Some(&key.limits),
        },
    )
}

/// Whether a user may change a key of its own like this with `own`.
pub(super) fn check_user_change(own: &Means, change: &KeyChange) -> Result<(), Status> {
    for (field, set) in [
        ("key.rate", change.rate.is_some()),
        ("key.quota", change.quota.is_some()),
    ] {
        if set {
            return refuse(field, "is for a tenant_admin to change");
        }
    }
    check_asked(
        own,
        &Asked {
            owner: None,
            scopes: change.scopes.as_ref(),
            features: change.features.as_ref().map(Option::as_ref),
            networks: change.networks.as_deref(),
            limits: None,
        },
    )
}

fn check_asked(own: &Means, asked: &Asked<'_>) -> Result<(), Status> {
    let violation = if asked.owner.is_some_and(|owner| *owner != own.owner) {
        Some(("key.owner", "must be the owner of"))
    } else if asked.scopes.is_some_and(|new| !new.is_subset(&own.scopes)) {
        Some(("key.scopes", "must be among the scopes of"))
    } else if asked.features.is_some_and(|new| !features_within(own, new)) {
        Some(("key.features", "must be among the features of"))
    } else if asked
        .networks
        .is_some_and(|new| !networks_within(&own.networks, new))
    {
        Some(("key.allow_cidrs", "must be within the networks of"))
    } else if asked.limits.is_some_and(|new| !new.is_within(&own.limits)) {
        Some(("key.rate", "and key.quota must be within those of"))
    } else {
        None
    };
    let Some((field, problem)) = violation else {
        return Ok(());
    };
    refuse(field, &format!("{problem} the calling {}", own.word))
}

fn refuse(field: &str, problem: &str) -> Result<(), Status> {
    let violation = FieldViolation::new(field, problem);
    Err(Reason::PermissionDenied.with_fields(format!("{field} {problem}"), vec![violation]))
}

fn features_within(own: &Means, new: Option<&BTreeSet<Feature>>) -> bool {
    match (&own.features, new) {
        (None, _) => true,
        (Some(own), Some(new)) => new.is_subset(own),
        (Some(_), None) => false,
    }
}

fn networks_within(own: &[IpNet], new: &[IpNet]) -> bool {
    own.is_empty()
        || !new.is_empty()
            && new
                .iter()
                .all(|new| own.iter().any(|own| own.contains(new)))
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::admin::caller::Credential;
    use crate::clock::Timestamp;
    use crate::domain::key::{KeyKind, KeyStatus};
    use crate::domain::limit::Rate;
    use crate::domain::name::{Description, DisplayName, KeyId, TenantId};
    use crate::domain::role::AdminAccess;

    fn own() -> Key {
        let now = Timestamp::from_millis(0);
        Key {
            tenant: TenantId::parse("acme").unwrap(),
            id: KeyId::parse("key00001").unwrap(),
            display_name: DisplayName::parse("own").unwrap(),
            description: Description::parse("").unwrap(),
            owner: Owner::parse("alice").unwrap(),
            role: Role::User,
            admin_access: AdminAccess::Role,
            kind: KeyKind::Live,
            status: KeyStatus::Active,
            scopes: [Scope::parse("read").unwrap()].into(),
            features: Some([Feature::parse("images").unwrap()].into()),
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            limits: Limits::default(),
            expires_at: None,
            generations: Vec::new(),
            forgotten: Vec::new(),
            created_at: now,
            updated_at: now,
            version: 1.into(),
        }
    }

    /// The holder of `own`.
    fn caller(role: Role) -> Identity {
        let own = own();
        Identity {
            role,
            credential: Credential::Key {
                tenant: own.tenant,
                key: own.id,
                generation: 1,
                owner: own.owner,
            },
        }
    }

    fn new() -> NewKey {
        let name = DisplayName::parse("new").unwrap();
        NewKey {
            features: Some([Feature::parse("images").unwrap()].into()),
            networks: vec!["10.1.0.0/16".parse().unwrap()],
            ..NewKey::named(name, Owner::parse("alice").unwrap(), Role::User)
        }
    }

    #[track_caller]
    fn check(new: &NewKey, refused: Option<&str>) {
        let found = check_user(&own().into(), new).err().map(|status| {
            assert_eq!(status.code(), Code::PermissionDenied);
            status.get_details_bad_request().unwrap().field_violations[0]
                .field
                .clone()
        });
        assert_eq!(found.as_deref(), refused);
    }

    #[test]
    fn a_user_makes_keys_that_may_do_no_more_than_its_own() {
        check(&new(), None);
        check(
            &NewKey {
                owner: Owner::parse("bob").unwrap(),
                ..new()
            },
            Some("key.owner"),
        );
        check(
            &NewKey {
                scopes: [Scope::parse("write").unwrap()].into(),
                ..new()
            },
            Some("key.scopes"),
        );
        check(
            &NewKey {
                features: None,
                ..new()
            },
            Some("key.features"),
        );
        let export = Some([Feature::parse("export").unwrap()].into());
        check(
            &NewKey {
                features: export,
                ..new()
            },
            Some("key.features"),
        );
        check(
            &NewKey {
                networks: Vec::new(),
                ..new()
            },
            Some("key.allow_cidrs"),
        );
        let wider = vec!["0.0.0.0/0".parse().unwrap()];
        check(
            &NewKey {
                networks: wider,
                ..new()
            },
            Some("key.allow_cidrs"),
        );
    }

    #[test]
    fn a_user_with_a_jwt_gives_the_scopes_that_it_names_and_no_others() {
        let alice = || Owner::parse("alice").unwrap();
        let read: BTreeSet<Scope> = [Scope::parse("read").unwrap()].into();
        let with = |scopes| NewKey { scopes, ..new() };
        let means = Means::of_jwt(alice(), read.clone());
        assert!(check_user(&means, &with(read.clone())).is_ok());
        assert!(check_user(&means, &new()).is_ok());
        assert!(
            check_user(
                &Means::of_jwt(alice(), BTreeSet::new()),
                &with(read.clone())
            )
            .is_err()
        );
        let bob = Means::of_jwt(Owner::parse("bob").unwrap(), read);
        let refused = check_user(&bob, &new()).unwrap_err();
        assert_eq!(
            refused.message(),
            "key.owner must be the owner of the calling JWT"
        );
    }

    #[test]
    fn a_user_with_a_limit_of_its_own_makes_keys_that_have_one_too() {
        let rate = |text| Limits {
            rate: Some(Rate::parse(text).unwrap()),
            quota: None,
        };
        let limited = Key {
            limits: rate("10/s"),
            ..own()
        };
        let with = |limits| NewKey { limits, ..new() };
        let limited = Means::from(limited);
        assert!(check_user(&limited, &with(rate("5/s"))).is_ok());
        assert!(check_user(&own().into(), &with(rate("5/s"))).is_ok());
        for wider in [Limits::default(), rate("11/s"), rate("10/s shadow")] {
            assert!(check_user(&limited, &with(wider)).is_err(), "{wider:?}");
        }
    }

    #[test]
    fn a_user_gets_no_token_of_a_key_that_may_do_more_than_its_own() {
        let beside = |change: fn(&mut Key)| {
            let mut key = Key {
                id: KeyId::parse("key00002").unwrap(),
                ..own()
            };
            change(&mut key);
            check_user_gets(&caller(Role::User), &own().into(), &key).is_ok()
        };
        assert!(beside(|_| ()));
        assert!(beside(|key| key.scopes.clear()));
        assert!(!beside(|key| key.features = None));
        assert!(!beside(|key| key.networks.clear()));
        assert!(!beside(|key| {
            key.scopes.insert(Scope::parse("write").unwrap());
        }));
        // Its own token it may change whatever the key may do.
        let itself = Key {
            features: None,
            ..own()
        };
        assert!(check_user_gets(&caller(Role::User), &own().into(), &itself).is_ok());
    }

    #[test]
    fn no_role_above_the_callers_is_given() {
        for own in Role::ALL {
            for given in Role::ALL {
                assert_eq!(
                    check_role(&caller(own), given).is_ok(),
                    given <= own,
                    "{own:?} {given:?}"
                );
            }
        }
    }
}
