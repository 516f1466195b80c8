//! Environment variables that set fields: `KEYSTILE__AUTHZ__LISTEN` sets `authz.listen`.

use serde_json::Value;

use super::file;
use super::mistake::{Mistake, join};
use super::schema::{child, has_type};
use super::shape::unknown_field;

const PREFIX: &str = "KEYSTILE__";
/// How the variables of the client commands begin.
const CLIENT_PREFIX: &str = "KEYSTILE_";
const SEPARATOR: &str = "__";

/// A field that a variable has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Override {
    pub path: String,
    pub variable: String,
}

/// Sets in `root` what the environment sets. Variables that name no field are mistakes.
pub(super) fn apply(
    schema: &Value,
    root: &mut Value,
    environment: impl Iterator<Item = (String, String)>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Override> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, text) in environment {
        if names_a_field(&name) {
            variables.push((name, text));
        } else if let Some(path) = nearly_names_a_field(schema, &name) {
            let right = format!("{PREFIX}{}", &name[CLIENT_PREFIX.len()..]);
            mistakes.push(Mistake {
                variable: Some(name),
                ..Mistake::new(path, format!("sets nothing: write `{right}`"))
            });
        }
    }
    // A section before its fields, so that the more exact variable has the last word.
    variables.sort_by_cached_key(|(name, _)| (name.matches(SEPARATOR).count(), name.clone()));
    let mut done: Vec<Override> = Vec::new();
    for (variable, text) in variables {
        match set(schema, root, &variable, &text) {
            Ok(path) => match done.iter().find(|earlier| earlier.path == path) {
                Some(earlier) => mistakes.push(Mistake::new(
                    path,
                    format!(
                        "is set by both {} and {variable}; keep one",
                        earlier.variable
                    ),
                )),
                None => done.push(Override { path, variable }),
            },
            Err(mistake) => mistakes.push(Mistake {
                variable: Some(variable),
                ..mistake
            }),
        }
    }
    done
}

fn names_a_field(variable: &str) -> bool {
    variable
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The section that a variable means that has one underscore too few at its beginning. With one everywhere it may be a
/// variable that Kubernetes makes for a service.
fn nearly_names_a_field(schema: &Value, variable: &str) -> Option<String> {
    let start = variable.get(..CLIENT_PREFIX.len())?;
    let (section, _) = variable.get(CLIENT_PREFIX.len()..)?.split_once(SEPARATOR)?;
    let section = section.to_lowercase();
    let is_meant = start.eq_ignore_ascii_case(CLIENT_PREFIX) && child(schema, &section).is_some();
    is_meant.then_some(section)
}

fn set(schema: &Value, root: &mut Value, variable: &str, text: &str) -> Result<String, Mistake> {
    let name = variable
        .get(PREFIX.len()..)
        .unwrap_or_default()
        .to_lowercase();
    let (mut schema, mut path) = (schema, String::new());
    for key in name.split(SEPARATOR) {
        schema = descend(schema, key, &path)?;
        path = join(&path, key);
    }
    let value = typed(schema, text).map_err(|message| Mistake::new(path.as_str(), message))?;

    // Nothing to put it in when the file holds a plain value above: that is the file's mistake, reported there.
    let place = name
        .split(SEPARATOR)
        .try_fold(root, |outer, key| entry(outer, key));
    if let Some(place) = place {
        *place = value;
    }
    Ok(path)
}

fn descend<'a>(schema: &'a Value, key: &str, path: &str) -> Result<&'a Value, Mistake> {
    if let Some(inner) = child(schema, key) {
        return Ok(inner);
    }
    if has_type(schema, "array") {
        return Err(Mistake::new(
            path,
            "is a list, which a variable sets as a whole: `a,b` or `[a, b]`",
        ));
    }
    if !has_type(schema, "object") {
        return Err(Mistake::new(path, "has no fields of its own"));
    }
    Err(unknown_field(schema, key, path))
}

fn entry<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    if value.is_null() {
        *value = Value::Object(serde_json::Map::new());
    }
    let map = value.as_object_mut()?;
    Some(map.entry(key).or_insert(Value::Null))
}

/// The value that `text` stands for, by what the field can hold. Text that fits nothing stays text: the
/// check on shape says what is wrong with it.
fn typed(schema: &Value, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    if trimmed == "null" && has_type(schema, "null") {
        return Ok(Value::Null);
    }
    let flow = trimmed.starts_with(['[', '{']);
    if has_type(schema, "object") || (flow && has_type(schema, "array")) {
        return file::parse(text).map_err(|message| format!("is not YAML: {message}"));
    }
    if has_type(schema, "array") {
        let items = trimmed.split(',').filter(|_| !trimmed.is_empty());
        return items
            .map(|item| typed(&schema["items"], item.trim()))
            .collect();
    }
    if has_type(schema, "integer")
        && let Ok(number) = trimmed.parse::<i64>()
    {
        return Ok(number.into());
    }
    if has_type(schema, "boolean")
        && let Ok(answer) = trimmed.to_ascii_lowercase().parse::<bool>()
    {
        return Ok(answer.into());
    }
    Ok(text.into())
}
