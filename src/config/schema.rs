//! The JSON Schema of the config file, made from the types in `raw`.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::section::Config;
use super::{Profile, defaults};

/// Inlined throughout, so that a reader can walk it beside a value.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(build);

fn build() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Config>()
        .to_value();
    tidy(&mut schema);
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".to_owned(), "Keystile configuration".into());
    }
    for profile in Profile::ALL {
        if let Ok(values) = serde_json::to_value(defaults::api_keys(profile)) {
            note_profile(&mut schema["properties"]["api_keys"], &values, profile);
        }
    }
    schema
}

/// Takes out what the derive adds and a person would never write: null for an absent section, and
/// the defaults of whole sections beside the defaults of their fields.
fn tidy(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    if map.get("x-nullable") != Some(&Value::Bool(true)) {
        strip_null(map);
    }
    let default_is_noise = matches!(map.get("default"), Some(Value::Null | Value::Object(_)));
    if default_is_noise && !map.contains_key("x-nullable") {
        map.remove("default");
    }
    name_entries(map);
    let inner = map.get_mut("properties").and_then(Value::as_object_mut);
    for child in inner.into_iter().flat_map(Map::values_mut) {
        tidy(child);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(name) {
            tidy(child);
        }
    }
}

fn strip_null(map: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = map.get_mut("type") else {
        return;
    };
    types.retain(|name| name != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        map.insert("type".to_owned(), only);
    }
}

/// The derive names the entries of a map by pattern; we name them by format, which explains itself.
fn name_entries(map: &mut Map<String, Value>) {
    let Some(Value::Object(patterns)) = map.remove("patternProperties") else {
        return;
    };
    if let Some((pattern, entry)) = patterns.into_iter().next() {
        map.insert("additionalProperties".to_owned(), entry);
        map.entry("propertyNames")
            .or_insert_with(|| Value::Object(Map::new()))["pattern"] = pattern.into();
    }
}

/// Records a profile's value beside each field that it can change.
fn note_profile(schema: &mut Value, values: &Value, profile: Profile) {
    let Some(values) = values.as_object() else {
        return;
    };
    for (name, value) in values {
        let field = &mut schema["properties"][name];
        if value.is_object() {
            note_profile(field, value, profile);
        } else {
            field["x-profile-defaults"][profile.as_str()] = value.clone();
        }
    }
}

/// The types a value may have.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(only) => vec![only.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn has_type(schema: &Value, name: &str) -> bool {
    types(schema).contains(&name)
}

/// The schema of a field of a section or of an entry of a map by name.
pub(super) fn child<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema["properties"].get(key).or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|rest| rest.is_object())
    })
}

/// The names a section knows.
pub(super) fn fields(schema: &Value) -> impl Iterator<Item = &str> {
    schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
}

/// What may be written, as the end of a sentence that begins "must be".
pub(super) fn expectation(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        let list: Vec<String> = choices
            .iter()
            .filter_map(Value::as_str)
            .map(|choice| format!("`{choice}`"))
            .collect();
        return match list.as_slice() {
            [only] => only.clone(),
            _ => format!("one of {}", list.join(", ")),
        };
    }
    if let Some(format) = schema["format"].as_str().and_then(super::format::format) {
        return match bounds(schema) {
            none if none.is_empty() => format.example.to_owned(),
            some => format!("{},{some}", format.example),
        };
    }
    match types(schema).first() {
        Some(&"integer") => format!("a whole number{}", bounds(schema)),
        Some(&"boolean") => "true or false".to_owned(),
        Some(&"array") => "a list".to_owned(),
        Some(&"object") => "a section (fields with values)".to_owned(),
        _ => "text".to_owned(),
    }
}

/// ` from A to B`, from numbers or from the text forms of durations and sizes.
pub(super) fn bounds(schema: &Value) -> String {
    let bound = |plain: &str, text: &str| match (&schema[plain], &schema[text]) {
        (Value::Number(number), _) => Some(number.to_string()),
        (_, Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    match (bound("minimum", "x-minimum"), bound("maximum", "x-maximum")) {
        (Some(low), Some(high)) => format!(" from {low} to {high}"),
        _ => String::new(),
    }
}
