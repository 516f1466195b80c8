//! From a tree of values to a configuration: environment, shape, profile, sense, in this order.

use serde::Deserialize as _;
use serde_json::Value;

use super::effective::{self, Effective, Origins};
use super::env::{self, Override};
use super::mistake::{Mistake, is_within};
use super::{Config, Loaded, Profile, defaults, schema, shape, validate};

pub(super) fn load(
    mut root: Value,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, Vec<Mistake>> {
    let schema = &*schema::SCHEMA;
    let mut mistakes = Vec::new();
    let overrides = env::apply(schema, &mut root, environment, &mut mistakes);
    if root.is_null() {
        root = Value::Object(serde_json::Map::new());
    }
    if !shape::check(schema, &mut root, "", &mut mistakes) {
        return Err(mistakes);
    }
    let mut profiled = root.clone();
    apply_profile(&mut profiled);
    let mut config =
        Config::deserialize(&profiled).map_err(|wrong| not_understood(&mistakes, &wrong))?;

    let by_path = |mistake: &Mistake, set: &Override| is_within(&mistake.path, &set.path);
    attribute(&mut mistakes, &overrides, by_path);
    // What contradicts a field that is wrong by itself says nothing new.
    let mut news = validate::check(&config);
    news.retain(|found| {
        !mistakes
            .iter()
            .any(|known| known.shares_a_field_with(found))
    });
    let by_any = |mistake: &Mistake, set: &Override| {
        mistake.fields().any(|field| is_within(field, &set.path))
    };
    attribute(&mut news, &overrides, by_any);
    mistakes.append(&mut news);
    if !mistakes.is_empty() {
        mistakes.sort_by(|one, two| one.path.cmp(&two.path));
        return Err(mistakes);
    }

    let value = serde_json::to_value(&config).map_err(|wrong| not_understood(&mistakes, &wrong))?;
    let origins = Origins {
        written: &root,
        profiled: &profiled,
        overrides: &overrides,
    };
    let effective = Effective::new(value, &origins);
    config.api_keys.origins = effective.key_rule_origins();
    Ok(Loaded {
        config,
        effective,
        exposure: None,
    })
}

/// A value that the schema lets through and the types do not. The tests try to make one and cannot.
fn not_understood(mistakes: &[Mistake], wrong: &serde_json::Error) -> Vec<Mistake> {
    let mut mistakes = mistakes.to_vec();
    mistakes.push(Mistake::new("", wrong.to_string()));
    mistakes
}

fn apply_profile(root: &mut Value) {
    let profile = Profile::deserialize(&root["profile"]).unwrap_or_default();
    if profile == Profile::Default {
        return;
    }
    if let Ok(values) = serde_json::to_value(defaults::api_keys(profile)) {
        effective::fill(&mut root["api_keys"], values);
    }
    // The section switches a listener on: it is never made.
    if let Some(authz) = root.get_mut("authz").filter(|section| section.is_object()) {
        let variants = defaults::path_variants(profile);
        effective::fill(authz, serde_json::json!({"path_variants": variants}));
    }
}

/// Names the variable behind each mistake that the environment made.
fn attribute(
    mistakes: &mut [Mistake],
    overrides: &[Override],
    brought: impl Fn(&Mistake, &Override) -> bool,
) {
    for mistake in mistakes {
        let set = overrides.iter().rfind(|set| brought(mistake, set));
        let variable = set.map(|set| set.variable.clone());
        mistake.variable = mistake.variable.take().or(variable);
    }
}
