use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn at(since_start: Duration) -> Timestamp {
    Timestamp::from_millis(0).plus(since_start)
}

fn generation(number: u32, made: Duration) -> Generation {
    Generation {
        number,
        lookup_id: LookupId([u8::try_from(number).unwrap(); 16]),
        digest: [0; 32],
        hint: format!("ks_live_{number:04}"),
        created_at: at(made),
        retires_at: None,
        sealed_token: Some(vec![1]),
        delivery: Delivery::Handed,
    }
}

fn key(expires_at: Option<Duration>) -> Key {
    Key {
        tenant: TenantId::parse("acme").unwrap(),
        id: KeyId::parse("key00001").unwrap(),
        display_name: DisplayName::parse("ci").unwrap(),
        description: Description::parse("").unwrap(),
        owner: Owner::parse("alice").unwrap(),
        role: Role::User,
        admin_access: AdminAccess::Role,
        kind: KeyKind::Live,
        status: KeyStatus::Active,
        pause: None,
        scopes: BTreeSet::new(),
        features: None,
        networks: Vec::new(),
        limits: Limits::default(),
        budget: None,
        created_by: None,
        expires_at: expires_at.map(at),
        generations: vec![generation(1, Duration::ZERO)],
        forgotten: Vec::new(),
        created_at: at(Duration::ZERO),
        updated_at: at(Duration::ZERO),
        version: 1.into(),
    }
}

/// Rotates after each of these times with these graces; answers when each generation ends.
#[track_caller]
fn check(
    expires_at: Option<Duration>,
    rotations: &[(Duration, Duration)],
    ends: &[(u32, Option<Duration>)],
) {
    let mut key = key(expires_at);
    for (number, (made, grace)) in (2..).zip(rotations) {
        key.rotate(generation(number, *made), *grace);
    }
    let found: Vec<_> = key
        .generations
        .iter()
        .map(|one| (one.number, one.retires_at))
        .collect();
    let expected: Vec<_> = ends
        .iter()
        .map(|(number, end)| (*number, end.map(at)))
        .collect();
    assert_eq!(found, expected);
    let kept = key
        .generations
        .iter()
        .filter(|one| one.sealed_token.is_some());
    assert_eq!(kept.count(), 1, "the token of the current one");
    assert_eq!(
        key.expires_at,
        expires_at.map(at),
        "a rotation changes no expiry"
    );
}

#[test]
fn the_old_generation_ends_with_its_grace_or_with_the_key() {
    check(None, &[(HOUR, HOUR)], &[(1, Some(2 * HOUR)), (2, None)]);
    check(
        None,
        &[(HOUR, Duration::ZERO)],
        &[(1, Some(HOUR)), (2, None)],
    );
    check(Some(DAY), &[(HOUR, 2 * DAY)], &[(1, Some(DAY)), (2, None)]);
}

#[test]
fn a_second_rotation_ends_the_one_that_was_retiring() {
    check(
        None,
        &[(HOUR, DAY), (2 * HOUR, DAY)],
        &[(1, Some(2 * HOUR)), (2, Some(2 * HOUR + DAY)), (3, None)],
    );
    // One that has ended has ended when it did.
    check(
        None,
        &[(HOUR, HOUR), (9 * HOUR, DAY)],
        &[(1, Some(2 * HOUR)), (2, Some(9 * HOUR + DAY)), (3, None)],
    );
}

#[test]
fn what_ended_long_ago_or_many_rotations_ago_is_forgotten() {
    check(
        None,
        &[(HOUR, Duration::ZERO), (91 * DAY, DAY)],
        &[(2, Some(92 * DAY)), (3, None)],
    );
    let every_hour: Vec<_> = (1..=20).map(|hour| (hour * HOUR, HOUR / 2)).collect();
    let last: Vec<_> = (13..=20)
        .map(|number| (number, Some(number * HOUR + HOUR / 2)))
        .chain([(21, None)])
        .collect();
    check(None, &every_hour, &last);
}

#[test]
fn a_generation_retires_until_its_grace_is_over() {
    let mut key = key(None);
    assert_eq!(key.retiring(at(Duration::ZERO)), None);
    key.rotate(generation(2, HOUR), HOUR);
    let retiring = |now| key.retiring(at(now)).map(|one| one.number);
    assert_eq!(retiring(HOUR), Some(1));
    assert_eq!(retiring(2 * HOUR), None, "at the very end it is over");
    assert_eq!(key.current().map(|one| one.number), Some(2));
}

#[test]
fn a_schedule_replaces_old_tokens_of_keys_that_work_and_whose_holders_can_claim() {
    let schedule = Rotation {
        every: DAY,
        grace: HOUR,
    };
    let due = |now: Duration, change: fn(&mut Key)| {
        let mut key = key(None);
        change(&mut key);
        key.is_due(&schedule, at(now))
    };
    assert!(!due(23 * HOUR, |_| ()), "too young");
    assert!(due(DAY, |_| ()), "at the very age");
    type Change = fn(&mut Key);
    let excluded: [(&str, Change); 5] = [
        ("revoked", |key| {
            let reason = Description::parse("").unwrap();
            key.status = KeyStatus::Revoked {
                at: at(HOUR),
                reason,
            };
        }),
        ("expired", |key| key.expires_at = Some(at(HOUR))),
        ("bound to networks", |key| {
            key.networks = vec!["10.0.0.0/8".parse().unwrap()];
        }),
        ("a global admin's", |key| key.role = Role::GlobalAdmin),
        ("rotated lately", |key| {
            key.rotate(generation(2, 23 * HOUR), HOUR);
        }),
    ];
    for (what, change) in excluded {
        assert!(!due(DAY, change), "{what}");
    }
    let mut rotated = key(None);
    rotated.rotate(generation(2, HOUR), 30 * DAY);
    assert!(!rotated.is_due(&schedule, at(2 * DAY)), "one still retires");
}

#[test]
fn a_waiting_token_is_given_once_to_the_holder_of_the_one_before() {
    let next = |delivery| Generation {
        delivery,
        ..generation(2, HOUR)
    };
    let rotated = |delivery| {
        let mut key = key(None);
        key.rotate(next(delivery), HOUR);
        key
    };
    let mut key = rotated(Delivery::Waiting);
    for (holder, now, expected) in [
        (2, HOUR, Err(NoClaim::Nothing)),
        (0, HOUR, Err(NoClaim::Nothing)),
        (1, 2 * HOUR, Err(NoClaim::Nothing)),
        (1, HOUR, Ok(2)),
        (1, HOUR, Err(NoClaim::Claimed)),
    ] {
        assert_eq!(key.claim(holder, at(now)), expected, "{holder} {now:?}");
    }
    let mut handed = rotated(Delivery::Handed);
    assert_eq!(handed.claim(1, at(HOUR)), Err(NoClaim::Nothing));
}

#[test]
fn a_schedule_leaves_a_key_alone_whose_holder_could_not_claim_the_next_token() {
    let schedule = Rotation {
        every: HOUR,
        grace: HOUR,
    };
    for (admin_access, is_due) in [
        (AdminAccess::Role, true),
        (AdminAccess::Itself, true),
        (AdminAccess::None, false),
    ] {
        let key = Key {
            admin_access,
            ..key(None)
        };
        assert_eq!(key.is_due(&schedule, at(DAY)), is_due, "{admin_access:?}");
    }
}
