use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::admin::caller::Credential;
use crate::domain::key::{KeyKind, KeyStatus};
use crate::domain::limit::Rate;
use crate::domain::name::{Description, DisplayName, TenantId};
use crate::domain::role::AdminAccess;

const NOW: Timestamp = Timestamp::from_millis(0);

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
        pause: None,
        scopes: [Scope::parse("read").unwrap()].into(),
        features: Some([Feature::parse("images").unwrap()].into()),
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        limits: Limits::default(),
        budget: None,
        created_by: None,
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
    let found = check_user(&own().into(), &mut new.clone(), NOW)
        .err()
        .map(|status| {
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
    assert!(check_user(&means, &mut with(read.clone()), NOW).is_ok());
    assert!(check_user(&means, &mut new(), NOW).is_ok());
    assert!(
        check_user(
            &Means::of_jwt(alice(), BTreeSet::new()),
            &mut with(read.clone()),
            NOW
        )
        .is_err()
    );
    let bob = Means::of_jwt(Owner::parse("bob").unwrap(), read);
    let refused = check_user(&bob, &mut new(), NOW).unwrap_err();
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
    assert!(check_user(&limited, &mut with(rate("5/s")), NOW).is_ok());
    assert!(check_user(&own().into(), &mut with(rate("5/s")), NOW).is_ok());
    for wider in [Limits::default(), rate("11/s"), rate("10/s shadow")] {
        assert!(
            check_user(&limited, &mut with(wider), NOW).is_err(),
            "{wider:?}"
        );
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

#[test]
fn no_key_that_a_user_makes_outlives_the_key_that_makes_it() {
    let hour = std::time::Duration::from_secs(3600);
    let ending = || -> Means {
        let end = Some(NOW.plus(hour));
        Key {
            expires_at: end,
            ..own()
        }
        .into()
    };
    let mut unset = new();
    check_user(&ending(), &mut unset, NOW).unwrap();
    assert_eq!(unset.expires_at, Some(NOW.plus(hour)), "inherited");
    for (expires_at, ttl, is_allowed) in [
        (Some(NOW.plus(hour)), None, true),
        (Some(NOW.plus(2 * hour)), None, false),
        (None, Some(hour), true),
        (None, Some(2 * hour), false),
    ] {
        let mut made = NewKey {
            expires_at,
            ttl,
            ..new()
        };
        let allowed = check_user(&ending(), &mut made, NOW);
        assert_eq!(allowed.is_ok(), is_allowed, "{expires_at:?} {ttl:?}");
        // The same of one that administers; its users' keys live as long as their owners need them.
        made.role = Role::TenantAdmin;
        let allowed = check_admin(Some(NOW.plus(hour)), &mut made, NOW);
        assert_eq!(allowed.is_ok(), is_allowed, "{expires_at:?} {ttl:?}");
        made.role = Role::User;
        assert!(check_admin(Some(NOW), &mut made, NOW).is_ok());
    }
}

#[test]
fn a_user_narrows_its_keys_and_widens_none_whatever_it_calls_with() {
    use crate::domain::role::AdminAccess::{Itself, Role as OfRole};
    let narrowed = Key {
        admin_access: Itself,
        ..own()
    };
    let export: BTreeSet<Feature> = [Feature::parse("export").unwrap()].into();
    let both = ["read", "write"].map(|text| Scope::parse(text).unwrap());
    for (change, is_allowed) in [
        (
            KeyChange {
                scopes: Some(BTreeSet::new()),
                networks: Some(vec!["10.1.0.0/16".parse().unwrap()]),
                admin_access: Some(Some(Itself)),
                ..KeyChange::default()
            },
            true,
        ),
        (
            KeyChange {
                scopes: Some(both.into()),
                ..KeyChange::default()
            },
            false,
        ),
        (
            KeyChange {
                networks: Some(Vec::new()),
                ..KeyChange::default()
            },
            false,
        ),
        (
            KeyChange {
                features: Some(None),
                ..KeyChange::default()
            },
            false,
        ),
        (
            KeyChange {
                features: Some(Some(export)),
                ..KeyChange::default()
            },
            false,
        ),
        (
            KeyChange {
                admin_access: Some(Some(OfRole)),
                ..KeyChange::default()
            },
            false,
        ),
        (
            KeyChange {
                admin_access: Some(None),
                ..KeyChange::default()
            },
            false,
        ),
    ] {
        let allowed = check_user_change(&narrowed, &change);
        assert_eq!(allowed.is_ok(), is_allowed, "{change:?}");
    }
}

#[test]
fn a_key_that_a_limited_key_makes_spends_what_that_has() {
    let quota = |text| Limits {
        rate: None,
        quota: Some(crate::domain::limit::Quota::parse(text).unwrap()),
    };
    let limited = Key {
        limits: quota("5/day"),
        ..own()
    };
    let made = |own: Key, limits| {
        let mut made = NewKey { limits, ..new() };
        check_user(&own.into(), &mut made, NOW).unwrap();
        made.budget
    };
    let root = limited.id.clone();
    assert_eq!(made(limited.clone(), quota("5/day")), Some(root.clone()));
    assert_eq!(made(limited.clone(), quota("3/day")), Some(root.clone()));
    // And so on: its children spend from the first of them.
    let child = Key {
        id: KeyId::parse("key00002").unwrap(),
        budget: Some(root.clone()),
        ..limited
    };
    assert_eq!(made(child, quota("1/day")), Some(root));
    assert_eq!(made(own(), quota("1/day")), None);
}
