//! Holds a value against the schema, and finds every unknown field, wrong type, unknown choice and
//! value out of bounds in one pass.
//!
//! What is wrong is taken out of the value, so that the rest can still be checked for sense.

use serde_json::{Map, Value};

use super::format::format;
use super::mistake::{Mistake, join, nearest};
use super::quantity::{ByteSize, HumanDuration};
use super::schema::{bounds, child, expectation, fields, has_type};
use super::text::shown;

/// The mistakes of `value`, which keeps only what has none. `false` when nothing of it can be kept.
pub(super) fn check(
    schema: &Value,
    value: &mut Value,
    path: &str,
    mistakes: &mut Vec<Mistake>,
) -> bool {
    let found = match value {
        Value::Null => check_null(schema),
        Value::Bool(_) => check_type(schema, "boolean", "true or false"),
        Value::Number(number) => check_number(schema, number),
        Value::String(text) => check_text(schema, text),
        Value::Array(items) if has_type(schema, "array") => {
            return check_list(schema, items, path, mistakes);
        }
        Value::Array(_) => check_type(schema, "array", "a list"),
        Value::Object(map) if has_type(schema, "object") => {
            return check_section(schema, map, path, mistakes);
        }
        Value::Object(_) => check_type(schema, "object", "a section"),
    };
    let message = match found {
        Ok(()) => return true,
        Err(message) => message,
    };
    mistakes.push(Mistake::new(path, message));
    false
}

fn check_null(schema: &Value) -> Result<(), String> {
    if has_type(schema, "null") {
        return Ok(());
    }
    Err(match has_type(schema, "object") {
        true => "is empty; write `{}` for a section with defaults, or take the line out".to_owned(),
        false => format!("is empty; must be {}", expectation(schema)),
    })
}

/// Never repeats the value: a key pasted in the wrong place must not reach a log.
fn check_type(schema: &Value, name: &str, written: &str) -> Result<(), String> {
    if has_type(schema, name) {
        return Ok(());
    }
    Err(format!("is {written}; must be {}", expectation(schema)))
}

fn check_number(schema: &Value, number: &serde_json::Number) -> Result<(), String> {
    if !has_type(schema, "integer") {
        // A number is no duration, with quotes or without.
        let quotable = has_type(schema, "string") && schema["format"] != "duration";
        let quotes = if quotable { "; put text in quotes" } else { "" };
        return Err(format!(
            "is a number; must be {}{quotes}",
            expectation(schema)
        ));
    }
    let low = schema["minimum"].as_u64().unwrap_or(0);
    let high = schema["maximum"].as_u64().unwrap_or(u64::MAX);
    let within = number
        .as_u64()
        .is_some_and(|count| (low..=high).contains(&count));
    if !within {
        return Err(format!("{number} is not {}", expectation(schema)));
    }
    match schema["format"].as_str() {
        Some("byte-size") => check_bounds::<ByteSize>(schema, &number.to_string()),
        _ => Ok(()),
    }
}

fn check_text(schema: &Value, text: &str) -> Result<(), String> {
    check_type(schema, "string", "text")?;
    if let Some(choices) = schema["enum"].as_array() {
        return check_choice(schema, choices, text);
    }
    let Some(name) = schema["format"].as_str() else {
        return Ok(());
    };
    if let Some(format) = format(name) {
        (format.check)(text)?;
    }
    match name {
        "duration" => check_bounds::<HumanDuration>(schema, text),
        "byte-size" => check_bounds::<ByteSize>(schema, text),
        _ => Ok(()),
    }
}

fn check_choice(schema: &Value, choices: &[Value], text: &str) -> Result<(), String> {
    let known = || choices.iter().filter_map(Value::as_str);
    if known().any(|choice| choice == text) {
        return Ok(());
    }
    if let Some(why) = schema["x-refused"][text].as_str() {
        return Err(why.to_owned());
    }
    let hint = match nearest(text, known()) {
        Some(near) if choices.len() > 1 => format!("; did you mean `{near}`?"),
        _ => String::new(),
    };
    Err(format!(
        "{} is not {}{hint}",
        shown(text),
        expectation(schema)
    ))
}

/// Bounds that are written like the value itself.
fn check_bounds<T>(schema: &Value, text: &str) -> Result<(), String>
where
    T: std::str::FromStr<Err = String> + PartialOrd,
{
    let value: T = text.parse()?;
    let bound = |name: &str| {
        schema[name]
            .as_str()
            .and_then(|text| text.parse::<T>().ok())
    };
    let below = bound("x-minimum").is_some_and(|low| value < low);
    let above = bound("x-maximum").is_some_and(|high| value > high);
    if below || above {
        return Err(format!(
            "{} is out of bounds; must be{}",
            shown(text),
            bounds(schema)
        ));
    }
    Ok(())
}

/// A list is kept whole or not at all: without an item the others would move.
fn check_list(
    schema: &Value,
    items: &mut [Value],
    path: &str,
    mistakes: &mut Vec<Mistake>,
) -> bool {
    let before = mistakes.len();
    let count = items.len() as u64;
    if schema["minItems"].as_u64().is_some_and(|min| count < min) {
        mistakes.push(Mistake::new(
            path,
            "is an empty list; write at least one item, or take the line out for the default",
        ));
    }
    if let Some(max) = schema["maxItems"].as_u64().filter(|max| count > *max) {
        mistakes.push(Mistake::new(
            path,
            format!("has {count} items; at most {max} are allowed"),
        ));
    }
    if schema["uniqueItems"] == true {
        for (index, item) in items.iter().enumerate() {
            if let Some(first) = items.iter().take(index).position(|other| other == item) {
                mistakes.push(Mistake::new(
                    format!("{path}[{index}]"),
                    format!("repeats {path}[{first}]"),
                ));
            }
        }
    }
    for (index, item) in items.iter_mut().enumerate() {
        check(
            &schema["items"],
            item,
            &format!("{path}[{index}]"),
            mistakes,
        );
    }
    // The list goes as a whole, and what is said of it afterwards would be said of its default.
    let found = mistakes.iter_mut().skip(before);
    found.for_each(|mistake| mistake.also.push(path.to_owned()));
    mistakes.len() == before
}

fn check_section(
    schema: &Value,
    map: &mut Map<String, Value>,
    path: &str,
    mistakes: &mut Vec<Mistake>,
) -> bool {
    if let Some(message) = wrong_number_of_fields(schema, map) {
        mistakes.push(Mistake::new(path, message));
        return false;
    }
    let before = mistakes.len();
    map.retain(|key, value| check_entry(schema, key, value, path, mistakes));
    let missing = |name: &&str| !map.contains_key(*name);
    let required = schema["required"].as_array().into_iter().flatten();
    // A field that is there but wrong has been reported already.
    if mistakes.len() == before {
        for name in required.clone().filter_map(Value::as_str).filter(missing) {
            mistakes.push(Mistake::new(path, format!("needs the field `{name}`")));
        }
    }
    let whole = required
        .filter_map(Value::as_str)
        .all(|name| map.contains_key(name));
    // Of "exactly one of these" nothing is left when that one is wrong.
    whole && (mistakes.len() == before || schema.get("minProperties").is_none())
}

/// For sections that are a choice: `{file: ...}` or `{env: ...}`.
fn wrong_number_of_fields(schema: &Value, map: &Map<String, Value>) -> Option<String> {
    let count = map.len() as u64;
    let too_few = schema["minProperties"]
        .as_u64()
        .is_some_and(|min| count < min);
    let too_many = schema["maxProperties"]
        .as_u64()
        .is_some_and(|max| count > max);
    let known: Vec<String> = fields(schema).map(|name| format!("`{name}`")).collect();
    (too_few || too_many).then(|| {
        format!(
            "has {count} fields; must have exactly one of {}",
            known.join(", ")
        )
    })
}

fn check_entry(
    schema: &Value,
    key: &str,
    value: &mut Value,
    path: &str,
    mistakes: &mut Vec<Mistake>,
) -> bool {
    let Some(inner) = child(schema, key) else {
        mistakes.push(unknown_field(schema, key, path));
        return false;
    };
    let path = join(path, key);
    let key_format = schema["propertyNames"]["format"].as_str().and_then(format);
    if let Some(Err(message)) = key_format.map(|format| (format.check)(key)) {
        mistakes.push(Mistake::new(path, format!("the name {message}")));
        return false;
    }
    check(inner, value, &path, mistakes)
}

/// Says what the section at `path` would have understood.
pub(super) fn unknown_field(schema: &Value, key: &str, path: &str) -> Mistake {
    let (written, here) = (shown(key), join(path, key));
    match nearest(key, fields(schema)) {
        // The field that was meant is counted as written, so that nobody is told it is missing too.
        Some(near) => Mistake::new(
            here,
            format!("unknown field {written}; did you mean `{near}`?"),
        )
        .with(join(path, near)),
        None => {
            let known: Vec<&str> = fields(schema).collect();
            Mistake::new(
                here,
                format!("unknown field {written}; known here: {}", known.join(", ")),
            )
        }
    }
}
