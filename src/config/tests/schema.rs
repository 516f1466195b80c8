//! The schema as a document, and that it and the types say the same.

use serde_json::{Value, json};

use super::{ConfigError, load};
use crate::config::load::load as load_value;
use crate::config::mistake::join;
use crate::config::{json_schema, markdown};

/// Every field with its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = join(path, name);
        visit(&path, field);
        walk(field, &path, visit);
        walk(&field["items"], &path, visit);
        walk(&field["additionalProperties"], &path, visit);
    }
}

#[test]
fn every_field_has_a_description() {
    let mut count = 0;
    walk(json_schema(), "", &mut |path, field| {
        count += 1;
        let description = field["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{path}: {description:?}");
    });
    assert!(count > 60, "the walk saw only {count} fields");
}

#[test]
fn every_section_refuses_unknown_fields() {
    walk(json_schema(), "", &mut |path, field| {
        for schema in [field, &field["items"], &field["additionalProperties"]] {
            if schema["properties"].is_object() {
                assert_eq!(schema["additionalProperties"], false, "{path}");
            }
        }
    });
}

#[test]
fn docs_configuration_md_is_current() {
    let committed = include_str!("../../../docs/CONFIGURATION.md");
    assert!(
        committed == markdown(),
        "docs/CONFIGURATION.md is not what `keystile config schema --markdown` prints; write its output there"
    );
}

/// A configuration in which every section is there.
fn full() -> Value {
    let yaml = "
authz: {signed_context: {}}
admin:
  tls: {cert_file: a.crt, key_file: a.key, client_ca_file: ca.crt, client_sans: [\"dns:a\"]}
  client_roles: [{san: \"dns:a\", role: tenant_admin, tenant: acme}]
ops: {}
store:
  kind: redis
  redis:
    mode: sentinel
    url: \"rediss://ks@sentinel-1:26379/2\"
    nodes: [\"sentinel-2:26379\", \"[::1]:26379\"]
    service: mymaster
    password_file: p
    sentinel_username: watcher
    sentinel_password_file: q
    ca_file: ca.crt
    cert_file: a.crt
    key_file: a.key
keyring: {data: {file: a}, vault: {env: B}, signing: {file: c}}
plans: {pro: {features: [images]}}
api_keys:
  tenant_limits: [{tenant_id: acme, max_keys_per_user: 3}]
  global_limits_override: {max_total_keys: 5}
";
    load(yaml, &[]).effective.value
}

fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, inner)| pointers(inner, &format!("{here}/{key}"), all)),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, inner)| pointers(inner, &format!("{here}/{index}"), all));
        }
        _ => {}
    }
}

/// What the check on shape lets through, the types must take: otherwise an operator would read a message
/// of serde's without a path.
#[test]
fn nonsense_in_any_place_is_accepted_or_refused_with_a_path() {
    let junk = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("x"),
        json!("\u{0}"),
        json!("5s"),
        json!("1KiB"),
        json!([]),
        json!([null]),
        json!({}),
        json!({"a": 1}),
    ];
    let (full, mut places) = (full(), Vec::new());
    pointers(&full, "", &mut places);
    let (mut accepted, mut refused) = (0, 0);
    for place in places.iter().filter(|place| !place.is_empty()) {
        for value in &junk {
            let mut root = full.clone();
            *root.pointer_mut(place).unwrap() = value.clone();
            match load_value(root, std::iter::empty()) {
                Ok(_) => accepted += 1,
                Err(found) => {
                    refused += 1;
                    let all_placed = found.iter().all(|mistake| !mistake.path.is_empty());
                    assert!(
                        all_placed && !found.is_empty(),
                        "{place} = {value}: {found:?}"
                    );
                }
            }
        }
    }
    assert!(
        accepted > 50 && refused > 500,
        "{accepted} accepted, {refused} refused"
    );
}

#[test]
fn what_is_shown_loads_to_the_same_configuration() {
    let first = load(&full().to_string(), &[]);
    for yaml in [
        first.effective.to_yaml(false),
        first.effective.to_yaml(true),
    ] {
        let again = load(&yaml, &[]);
        assert_eq!(again.config, first.config);
        assert_eq!(again.effective.value, first.effective.value);
    }
}

#[test]
fn an_example_of_the_documentation_works() {
    let page = markdown();
    let yaml = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    load(yaml, &[]);
    let row = |line: &str| {
        let (_, assignment) = line.split_once("| `KEYSTILE__")?;
        let (name, value) = assignment.split('`').next()?.split_once('=')?;
        Some((
            format!("KEYSTILE__{name}"),
            value.trim_matches('\'').to_owned(),
        ))
    };
    let variables: Vec<(String, String)> = page.lines().filter_map(row).collect();
    assert_eq!(variables.len(), 5);
    let loaded: Result<_, ConfigError> =
        crate::config::Config::parse(yaml, "docs", variables.into_iter());
    assert_eq!(loaded.unwrap().config.plans["pro"].features.len(), 2);
}
