use proptest::prelude::*;

use super::*;

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

/// The example of DESIGN section 7.
fn rules() -> KeyRules {
    let tenant = KeyLimits {
        user: Some(20),
        tenant_admin: Some(50),
        global_admin: None,
    };
    KeyRules {
        tenants: [(acme(), tenant)].into(),
        ..KeyRules::default()
    }
}

#[test]
fn the_first_who_says_anything_settles_a_limit() {
    use LimitSource::{Default, GlobalOverride as Override, TenantConfig, TenantRuntime};
    let none = KeyLimits::default();
    let runtime = KeyLimits {
        user: Some(7),
        ..none
    };
    let overridden = |user| {
        let limits = KeyLimits { user, ..none };
        let max_total = Some(5000);
        Some(GlobalOverride { limits, max_total })
    };
    let other = TenantId::parse("other").unwrap();
    for (tenant, global, runtime, role, max, source) in [
        (&other, None, none, Role::User, 10, Default),
        (&other, None, none, Role::TenantAdmin, 25, Default),
        (&other, None, none, Role::GlobalAdmin, 100, Default),
        (&other, None, runtime, Role::User, 7, TenantRuntime),
        (
            &other,
            overridden(Some(15)),
            runtime,
            Role::User,
            15,
            Override,
        ),
        (&other, overridden(None), none, Role::User, 10, Default),
        (&acme(), None, none, Role::User, 20, TenantConfig),
        (&acme(), None, none, Role::TenantAdmin, 50, TenantConfig),
        // A limit that the tenant's block leaves out is the default's.
        (&acme(), None, none, Role::GlobalAdmin, 100, Default),
        (&acme(), None, runtime, Role::User, 7, TenantRuntime),
        // One that is not set at run time is not touched by the one that is.
        (&acme(), None, runtime, Role::TenantAdmin, 50, TenantConfig),
        (
            &acme(),
            overridden(Some(15)),
            runtime,
            Role::User,
            15,
            Override,
        ),
        (
            &acme(),
            overridden(None),
            runtime,
            Role::User,
            7,
            TenantRuntime,
        ),
        (
            &acme(),
            overridden(Some(15)),
            none,
            Role::TenantAdmin,
            50,
            TenantConfig,
        ),
    ] {
        let rules = KeyRules {
            global_override: global,
            ..rules()
        };
        let expected = EffectiveKeyLimit { max, source };
        assert_eq!(
            rules.limit(tenant, &runtime, role),
            expected,
            "{tenant} {role:?} {global:?} {runtime:?}"
        );
        assert_eq!(rules.max_total(), global.map(|_| 5000));
    }
}

#[test]
fn who_may_change_limits_is_settled_by_two_switches() {
    use OverridesDisabled::{ForAll, ForTenants};
    for (tenant, admin, tenant_admin, global_admin) in [
        (true, true, Ok(()), Ok(())),
        (false, true, Err(ForTenants), Ok(())),
        (true, false, Err(ForAll), Err(ForAll)),
        (false, false, Err(ForAll), Err(ForAll)),
    ] {
        let rules = KeyRules {
            allow_tenant_override: tenant,
            allow_admin_override: admin,
            ..rules()
        };
        assert_eq!(rules.may_change(Role::TenantAdmin), tenant_admin);
        assert_eq!(rules.may_change(Role::GlobalAdmin), global_admin);
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

#[test]
fn days_are_counted_to_the_millisecond() {
    const DAY_MS: i64 = 86_400_000;
    let rules = |enforce, min_days, max_days| ExpiryRules {
        enforce,
        min_days,
        max_days,
    };
    let at = |millis: i64| Some(Timestamp::from_millis(NOW.as_millis() + millis));
    let usual = rules(false, 1, 365);
    for (rules, expires_at, problem) in [
        (usual, None, None),
        (
            rules(true, 1, 365),
            None,
            Some(
                "must be set, because every key must expire (`api_keys.enforce_expiry`), at least 1 day and at most 365 days from now",
            ),
        ),
        (usual, at(DAY_MS), None),
        (
            usual,
            at(DAY_MS - 1),
            Some(
                "is 23h 59m 59s 999ms from now; must be at least 1 day and at most 365 days from now",
            ),
        ),
        (usual, at(365 * DAY_MS), None),
        (
            usual,
            at(365 * DAY_MS + 1),
            Some(
                "is 365 days and 1ms from now; must be at least 1 day and at most 365 days from now",
            ),
        ),
        (
            usual,
            at(366 * DAY_MS),
            Some("is 366 days from now; must be at least 1 day and at most 365 days from now"),
        ),
        (usual, at(0), Some("must be in the future")),
        (usual, at(-1), Some("must be in the future")),
        (rules(false, 0, 0), at(1), None),
        (rules(true, 0, 0), at(36_500 * DAY_MS), None),
        (
            rules(true, 30, 0),
            at(DAY_MS),
            Some("is 1 day from now; must be at least 30 days from now"),
        ),
        (rules(true, 36_500, 36_500), at(36_500 * DAY_MS), None),
        (
            usual,
            Some(Timestamp::from_millis(i64::MAX)),
            Some("must be before the year 10000"),
        ),
        (rules(false, 0, 0), Some(Timestamp::MAX), None),
    ] {
        let found = rules.check(expires_at, NOW).err();
        let found = found.map(|problem| problem.to_string());
        assert_eq!(found.as_deref(), problem, "{rules:?} {expires_at:?}");
    }
}

fn any_limits() -> impl Strategy<Value = KeyLimits> {
    let limit = || prop::option::of(1..=KEY_LIMIT_MAX);
    (limit(), limit(), limit()).prop_map(|(user, tenant_admin, global_admin)| KeyLimits {
        user,
        tenant_admin,
        global_admin,
    })
}

/// The same, slow and obvious: start with the default, and let each that has more to say write over it.
fn model(rules: &KeyRules, runtime: &KeyLimits, role: Role) -> EffectiveKeyLimit {
    let pick = |limits: &KeyLimits| match role {
        Role::User => limits.user,
        Role::TenantAdmin => limits.tenant_admin,
        Role::GlobalAdmin => limits.global_admin,
    };
    let mut max = match role {
        Role::User => rules.defaults.user,
        Role::TenantAdmin => rules.defaults.tenant_admin,
        Role::GlobalAdmin => rules.defaults.global_admin,
    };
    let mut source = LimitSource::Default;
    for (tenant, limits) in &rules.tenants {
        if tenant.as_str() == "acme" && pick(limits).is_some() {
            (max, source) = (pick(limits).unwrap(), LimitSource::TenantConfig);
        }
    }
    if pick(runtime).is_some() {
        (max, source) = (pick(runtime).unwrap(), LimitSource::TenantRuntime);
    }
    if let Some(global) = &rules.global_override
        && pick(&global.limits).is_some()
    {
        (max, source) = (pick(&global.limits).unwrap(), LimitSource::GlobalOverride);
    }
    EffectiveKeyLimit { max, source }
}

proptest! {
    #[test]
    fn any_limits_are_settled_as_the_obvious_model_does(
        defaults in (1..=KEY_LIMIT_MAX, 1..=KEY_LIMIT_MAX, 1..=KEY_LIMIT_MAX),
        acme_limits in prop::option::of(any_limits()),
        other_limits in prop::option::of(any_limits()),
        global in prop::option::of(any_limits()),
        runtime in any_limits(),
        role in prop::sample::select(&Role::ALL[..]),
    ) {
        let other = TenantId::parse("other").unwrap();
        let tenants = [(acme(), acme_limits), (other, other_limits)];
        let tenants = tenants.into_iter().filter_map(|(id, limits)| Some((id, limits?)));
        let (user, tenant_admin, global_admin) = defaults;
        let rules = KeyRules {
            defaults: PerRole { user, tenant_admin, global_admin },
            tenants: tenants.collect(),
            global_override: global.map(|limits| GlobalOverride { limits, max_total: None }),
            ..KeyRules::default()
        };
        prop_assert_eq!(rules.limit(&acme(), &runtime, role), model(&rules, &runtime, role));
    }

    #[test]
    fn any_expiry_is_allowed_exactly_within_its_days(
        enforce: bool,
        min_days in 0..=36_500u32,
        max_days in 0..=36_500u32,
        seconds in -1_000_000i64..=4_000_000_000,
        millis in 0..1000i64,
    ) {
        let rules = ExpiryRules { enforce, min_days, max_days };
        let life = i128::from(seconds) * 1000 + i128::from(millis);
        let end = Timestamp::from_millis(NOW.as_millis() + seconds * 1000 + millis);
        let day = 86_400_000i128;
        let allowed = life > 0
            && life >= i128::from(min_days) * day
            && (max_days == 0 || life <= i128::from(max_days) * day);
        prop_assert_eq!(rules.check(Some(end), NOW).is_ok(), allowed);
        prop_assert_eq!(rules.check(None, NOW).is_ok(), !enforce);
    }
}
