use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::limit::Limits;
use crate::domain::name::{DisplayName, TenantId};
use crate::domain::pause::PauseEnd;
use crate::domain::plan::{Overrides, Plan};
use crate::domain::request::{Charge, Credential, Mode, Rule};

const NOON: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn features(names: &[&str]) -> BTreeSet<Feature> {
    names
        .iter()
        .map(|name| Feature::parse(name).unwrap())
        .collect()
}

fn tenant(status: TenantStatus) -> TenantAccess {
    TenantAccess {
        id: TenantId::parse("acme").unwrap(),
        display_name: DisplayName::parse("Acme").unwrap(),
        status,
        plan: None,
        features: features(&["images", "export"]),
        limits: Limits::default(),
        plan_in_shadow: false,
        metadata: BTreeMap::new(),
        version: 1.into(),
    }
}

const KEY: KeyFacts<'static> = KeyFacts {
    revoked: false,
    expires_at: None,
    paused: None,
    networks: &[],
    features: None,
    scopes: "read,write",
};

fn request<'a>(features: &'a str, scopes: &'a str) -> AccessRequest<'a> {
    AccessRequest {
        rule: Rule {
            mode: Mode::Required,
            features,
            scopes,
            cost: 1,
        },
        credential: Credential::None,
        shadow: None,
        ambiguity: None,
        source: None,
        caller: None,
        time_left: None,
        charge: Charge::Cost,
        proven: None,
    }
}

#[track_caller]
fn check(
    tenant: &TenantAccess,
    key: KeyFacts<'_>,
    request: &AccessRequest<'_>,
    expected: Result<(), (DenyReason, Option<&str>)>,
) {
    let decided =
        decide(tenant, &key, request, NOON).map_err(|denial| (denial.reason, denial.detail));
    assert_eq!(
        decided,
        expected
            .map(|()| None)
            .map_err(|(reason, detail)| (reason, detail.map(str::to_owned)))
    );
}

#[test]
fn a_plain_key_of_an_active_tenant_passes() {
    check(&tenant(TenantStatus::Active), KEY, &request("", ""), Ok(()));
}

#[test]
fn the_first_broken_rule_decides_in_this_order() {
    let suspended = tenant(TenantStatus::Suspended);
    let active = tenant(TenantStatus::Active);
    let elsewhere = ["10.0.0.0/8".parse().unwrap()];
    let broken = KeyFacts {
        revoked: true,
        expires_at: Some(NOON),
        paused: Some(PauseEnd::Open),
        networks: &elsewhere,
        features: None,
        scopes: "",
    };
    let demands = request("teleport", "fly");
    check(
        &suspended,
        broken,
        &demands,
        Err((DenyReason::InvalidApiKey, None)),
    );
    let broken = KeyFacts {
        revoked: false,
        ..broken
    };
    check(
        &suspended,
        broken,
        &demands,
        Err((DenyReason::TenantSuspended, None)),
    );
    check(
        &active,
        broken,
        &demands,
        Err((DenyReason::ApiKeyExpired, None)),
    );
    let broken = KeyFacts {
        expires_at: None,
        ..broken
    };
    check(
        &active,
        broken,
        &demands,
        Err((DenyReason::ApiKeyPaused, None)),
    );
    let broken = KeyFacts {
        paused: None,
        ..broken
    };
    check(
        &active,
        broken,
        &demands,
        Err((DenyReason::NetworkNotAllowed, None)),
    );
    let broken = KeyFacts {
        networks: &[],
        ..broken
    };
    check(
        &active,
        broken,
        &demands,
        Err((DenyReason::FeatureNotEnabled, Some("teleport"))),
    );
    check(
        &active,
        broken,
        &request("images", "fly"),
        Err((DenyReason::ScopeNotGranted, Some("fly"))),
    );
}

#[test]
fn a_key_expires_at_the_instant_and_not_before() {
    let active = tenant(TenantStatus::Active);
    let at = |millis| KeyFacts {
        expires_at: Some(Timestamp::from_millis(millis)),
        ..KEY
    };
    check(&active, at(NOON.as_millis() + 1), &request("", ""), Ok(()));
    check(
        &active,
        at(NOON.as_millis()),
        &request("", ""),
        Err((DenyReason::ApiKeyExpired, None)),
    );
}

#[test]
fn a_paused_key_is_refused_until_the_pause_is_over() {
    let active = tenant(TenantStatus::Active);
    let until = |millis| KeyFacts {
        paused: Some(PauseEnd::At(Timestamp::from_millis(millis))),
        ..KEY
    };
    let paused = Err((DenyReason::ApiKeyPaused, None));
    check(
        &active,
        until(NOON.as_millis() + 1),
        &request("", ""),
        paused,
    );
    check(&active, until(NOON.as_millis()), &request("", ""), Ok(()));
}

#[test]
fn every_demanded_part_is_needed() {
    let active = tenant(TenantStatus::Active);
    check(
        &active,
        KEY,
        &request("images, export", "write,read"),
        Ok(()),
    );
    check(
        &active,
        KEY,
        &request("images,video", ""),
        Err((DenyReason::FeatureNotEnabled, Some("video"))),
    );
    check(
        &active,
        KEY,
        &request("", "read,admin"),
        Err((DenyReason::ScopeNotGranted, Some("admin"))),
    );
    check(
        &active,
        KEY,
        &request("", "rea"),
        Err((DenyReason::ScopeNotGranted, Some("rea"))),
    );
}

#[test]
fn a_key_narrows_the_tenants_features_and_never_widens_them() {
    let active = tenant(TenantStatus::Active);
    let narrow = features(&["images", "video"]);
    let key = KeyFacts {
        features: Some(&narrow),
        ..KEY
    };
    check(&active, key, &request("images", ""), Ok(()));
    check(
        &active,
        key,
        &request("export", ""),
        Err((DenyReason::FeatureNotEnabled, Some("export"))),
    );
    check(
        &active,
        key,
        &request("video", ""),
        Err((DenyReason::FeatureNotEnabled, Some("video"))),
    );
}

#[test]
fn a_network_list_excludes_all_others_and_the_unknown() {
    let networks: [IpNet; 2] = [
        "10.0.0.0/8".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    let rows = [
        (Some("10.1.2.3"), true),
        (Some("::ffff:10.1.2.3"), true),
        (Some("2001:db8::1"), true),
        (Some("11.0.0.1"), false),
        (Some("2001:db9::1"), false),
        (None, false),
    ];
    for (source, inside) in rows {
        let source = source.map(|text| text.parse().unwrap());
        assert_eq!(is_inside(&networks, source), inside, "{source:?}");
        assert!(is_inside(&[], source), "no list, no exclusion");
    }
}

#[test]
fn a_rule_in_shadow_reports_what_it_would_refuse_and_decides_nothing() {
    let rule = |mode, features, scopes| Rule {
        mode,
        features,
        scopes,
        cost: 1,
    };
    for (enforced, shadow, expected) in [
        ("", rule(Mode::Required, "", ""), Ok(None)),
        ("", rule(Mode::Required, "images", "read"), Ok(None)),
        (
            "",
            rule(Mode::Required, "video", "admin"),
            Ok(Some(DenyReason::FeatureNotEnabled)),
        ),
        (
            "",
            rule(Mode::Optional, "", "admin"),
            Ok(Some(DenyReason::ScopeNotGranted)),
        ),
        ("", rule(Mode::Off, "video", ""), Ok(None)),
        (
            "video",
            rule(Mode::Required, "", "admin"),
            Err(DenyReason::FeatureNotEnabled),
        ),
    ] {
        let request = AccessRequest {
            shadow: Some(shadow.clone()),
            ..request(enforced, "")
        };
        let decided = decide(&tenant(TenantStatus::Active), &KEY, &request, NOON);
        assert_eq!(
            decided.map_err(|denial| denial.reason),
            expected,
            "{shadow:?}"
        );
    }
    let without_key = |credential, shadow| {
        missed_in_shadow(&AccessRequest {
            shadow,
            credential,
            ..request("", "")
        })
    };
    let missing = Some(DenyReason::MissingApiKey);
    for (credential, shadow, expected) in [
        (Credential::None, None, None),
        (
            Credential::None,
            Some(rule(Mode::Required, "", "")),
            missing,
        ),
        (
            Credential::None,
            Some(rule(Mode::Optional, "", "read")),
            missing,
        ),
        (Credential::None, Some(rule(Mode::Optional, "", "")), None),
        (Credential::None, Some(rule(Mode::Off, "", "")), None),
        (
            Credential::One(b"x"),
            Some(rule(Mode::Required, "", "")),
            None,
        ),
    ] {
        assert_eq!(
            without_key(credential, shadow.clone()),
            expected,
            "{shadow:?}"
        );
    }
}

proptest! {
    /// What a plan gives, a tenant adds and is denied, and a key keeps, against the sentence of the contract, name by
    /// name: all that is asked is there, or the first that is not is named.
    #[test]
    fn a_request_passes_with_what_its_plan_tenant_and_key_have_and_no_more(
        sets in prop::array::uniform3(prop::collection::btree_set("[abc]", 0..4)),
        kept in prop::option::of(prop::collection::btree_set("[abc]", 0..4)),
        scopes in prop::collection::btree_set("[rw]", 0..3),
        asked in prop::collection::vec("[abc]", 0..4),
        asked_scopes in prop::collection::vec("[rw]", 0..3),
    ) {
        let parse = |set: &BTreeSet<String>| -> BTreeSet<Feature> {
            set.iter().map(|name| Feature::parse(name).unwrap()).collect()
        };
        let [of_plan, own, denied] = &sets;
        let plan = Plan { features: parse(of_plan), ..Plan::default() };
        let overrides = Overrides {
            features: parse(own),
            denied_features: parse(denied),
            ..Overrides::default()
        };
        let tenant = TenantAccess {
            features: overrides.over(Some(&plan)).features,
            ..tenant(TenantStatus::Active)
        };
        let kept_features = kept.as_ref().map(&parse);
        let join = |names: &[String]| names.join(",");
        let scopes_text = scopes.iter().cloned().collect::<Vec<_>>().join(",");
        let key = KeyFacts { features: kept_features.as_ref(), scopes: &scopes_text, ..KEY };

        let has = |name: &String| {
            (of_plan.contains(name) || own.contains(name))
                && !denied.contains(name)
                && kept.as_ref().is_none_or(|kept| kept.contains(name))
        };
        let feature = asked.iter().find(|name| !has(name));
        let scope = asked_scopes.iter().find(|name| !scopes.contains(*name));
        let expected = match (feature, scope) {
            (Some(name), _) => Err((DenyReason::FeatureNotEnabled, Some(name.as_str()))),
            (None, Some(name)) => Err((DenyReason::ScopeNotGranted, Some(name.as_str()))),
            (None, None) => Ok(()),
        };
        check(&tenant, key, &request(&join(&asked), &join(&asked_scopes)), expected);
    }
}
