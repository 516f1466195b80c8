//! The configuration as it works: every field, its value and where the value came from.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::env::Override;
use super::mistake::{is_within, join};
use super::quantity::HumanDuration;
use crate::domain::governance::Origin;
use crate::domain::text::escape_yaml;

/// The whole configuration in the shape of the file. Holds no secret: keys are named, never quoted.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    pub value: Value,
    /// By the path of each field that holds a value; a list is one value.
    pub sources: BTreeMap<String, ValueSource>,
}

/// What decided a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    Default,
    Profile,
    File,
    /// The variable's name.
    Environment(String),
}

impl fmt::Display for ValueSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Profile => out.write_str("profile"),
            Self::File => out.write_str("file"),
            Self::Environment(variable) => out.write_str(variable),
        }
    }
}

/// What was known before defaults were filled in.
pub(super) struct Origins<'a> {
    /// File and environment.
    pub written: &'a Value,
    /// The same with what the profile adds.
    pub profiled: &'a Value,
    pub overrides: &'a [Override],
}

impl Effective {
    pub(super) fn new(value: Value, origins: &Origins<'_>) -> Self {
        let mut sources = BTreeMap::new();
        trace(
            &value,
            Some(origins.written),
            Some(origins.profiled),
            "",
            origins,
            &mut sources,
        );
        Self { value, sources }
    }

    /// Where the values of `api_keys` come from, by their path in it, and where the `profile` does.
    pub(super) fn key_rule_origins(&self) -> BTreeMap<String, Origin> {
        let fields = self.sources.iter().filter_map(|(path, source)| {
            let field = match path.as_str() {
                "profile" => path,
                path => path.strip_prefix("api_keys.")?,
            };
            let origin = match source {
                ValueSource::Default => Origin::Default,
                ValueSource::Profile => Origin::Profile,
                ValueSource::File => Origin::File,
                ValueSource::Environment(_) => Origin::Environment,
            };
            Some((field.to_owned(), origin))
        });
        fields.collect()
    }

    /// YAML that loads to the same configuration; `sources` adds a comment to each value.
    pub fn to_yaml(&self, sources: bool) -> String {
        let mut yaml = Yaml {
            text: String::new(),
            sources: sources.then_some(&self.sources),
        };
        yaml.block(&self.value, "", 0);
        yaml.text
    }
}

/// A document of maps, lists and scalars as YAML.
pub fn yaml(value: &Value) -> String {
    let mut yaml = Yaml {
        text: String::new(),
        sources: None,
    };
    if value.as_object().is_some_and(|map| !map.is_empty()) {
        yaml.block(value, "", 0);
    } else {
        // JSON is YAML.
        yaml.text = format!("{value}\n");
    }
    yaml.text
}

fn trace(
    value: &Value,
    written: Option<&Value>,
    profiled: Option<&Value>,
    path: &str,
    origins: &Origins<'_>,
    sources: &mut BTreeMap<String, ValueSource>,
) {
    if let Value::Object(map) = value
        && (path.is_empty() || !map.is_empty())
    {
        for (key, inner) in map {
            let part = |outer: Option<&'_ Value>| outer.and_then(|outer| outer.get(key)).cloned();
            let (written, profiled) = (part(written), part(profiled));
            trace(
                inner,
                written.as_ref(),
                profiled.as_ref(),
                &join(path, key),
                origins,
                sources,
            );
        }
        return;
    }
    // The last to match is the most exact: sections were set before their fields.
    let variable = origins
        .overrides
        .iter()
        .rfind(|set| is_within(path, &set.path));
    let source = match (written, variable, profiled) {
        (Some(_), Some(set), _) => ValueSource::Environment(set.variable.clone()),
        (Some(_), None, _) => ValueSource::File,
        (None, _, Some(_)) => ValueSource::Profile,
        (None, _, None) => ValueSource::Default,
    };
    sources.insert(path.to_owned(), source);
}

/// Adds to `target` what it lacks of `defaults`, field by field.
pub(super) fn fill(target: &mut Value, defaults: Value) {
    match (target, defaults) {
        (Value::Object(map), Value::Object(defaults)) => {
            for (key, default) in defaults {
                match map.get_mut(&key) {
                    Some(inner) => fill(inner, default),
                    None => drop(map.insert(key, default)),
                }
            }
        }
        (target, defaults) if target.is_null() && defaults.is_object() => *target = defaults,
        _ => {}
    }
}

struct Yaml<'a> {
    text: String,
    sources: Option<&'a BTreeMap<String, ValueSource>>,
}

impl Yaml<'_> {
    fn block(&mut self, value: &Value, path: &str, depth: usize) {
        let Some(map) = value.as_object() else {
            return;
        };
        for (key, inner) in map {
            self.indent(depth);
            self.field(key, inner, &join(path, key), depth);
        }
    }

    fn field(&mut self, key: &str, value: &Value, path: &str, depth: usize) {
        self.text.push_str(&scalar_text(key));
        self.text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                self.comment(path);
                self.block(value, path, depth + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                self.comment(path);
                items.iter().for_each(|item| self.item(item, depth + 1));
            }
            _ => {
                self.text.push(' ');
                self.text.push_str(&scalar(value));
                self.comment(path);
            }
        }
    }

    fn item(&mut self, item: &Value, depth: usize) {
        self.indent(depth);
        self.text.push_str("- ");
        match item.as_object().filter(|map| !map.is_empty()) {
            Some(map) => self.item_fields(map, depth),
            None => {
                self.text.push_str(&scalar(item));
                self.text.push('\n');
            }
        }
    }

    fn item_fields(&mut self, map: &Map<String, Value>, depth: usize) {
        for (index, (key, value)) in map.iter().enumerate() {
            if index > 0 {
                self.indent(depth + 1);
            }
            // A list is one value with one source: its items have no path of their own.
            self.field(key, value, "[]", depth + 1);
        }
    }

    fn indent(&mut self, depth: usize) {
        self.text.extend(std::iter::repeat_n("  ", depth));
    }

    fn comment(&mut self, path: &str) {
        if let Some(source) = self.sources.and_then(|sources| sources.get(path)) {
            self.text.push_str(&format!("  # {source}"));
        }
        self.text.push('\n');
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        _ => value.to_string(),
    }
}

/// In quotes unless no reader of YAML, old or new, could take the text for something else.
fn scalar_text(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let keyword = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    if (word && !keyword) || text.parse::<HumanDuration>().is_ok() {
        return text.to_owned();
    }
    // A JSON string is a YAML string.
    escape_yaml(&Value::from(text).to_string())
}
