//! Names and amounts of Kubernetes.

use std::fmt;

use super::text::{checked_text, keep, not_allowed, text};

checked_text!(
    /// Name of an image, with registry, tag and digest.
    ImageName, "image-name", "^[a-z0-9][A-Za-z0-9./:@_-]{0,511}$", "an image such as `registry.example/keystile:1.0.0`",
    |text| match text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        true => keep(text, 512, IMAGE, |c| c.is_ascii_alphanumeric() || "./:@_-".contains(c)),
        false => Err(not_allowed(text, IMAGE)),
    }
);
checked_text!(
    /// Name of an object of Kubernetes (a DNS subdomain).
    ObjectName, "object-name", "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", "a name such as `keystile-data-keyring`", object_name
);
checked_text!(
    /// Name of an entry of a Secret, and of a file.
    EntryName, "entry-name", "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}$", "a name such as `data.keyring`",
    |text| match text.starts_with('.') {
        true => Err(not_allowed(text, ENTRY)),
        false => keep(text, 253, ENTRY, |c| c.is_ascii_alphanumeric() || "._-".contains(c)),
    }
);
checked_text!(
    /// An amount of CPU or memory.
    Amount, "resource-amount", "^[0-9]{1,12}(\\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$", "an amount such as `100m` or `128Mi`", amount
);

const IMAGE: &str = "an image (1 to 512 of A-Z a-z 0-9 . / : @ _ -, a small letter or digit first), such as `registry.example/keystile:1.0.0`";
const ENTRY: &str = "a name (1 to 253 of A-Z a-z 0-9 . _ -, no `.` first), such as `data.keyring`";

fn object_name(text: &str) -> Result<String, String> {
    let allowed =
        "a name of Kubernetes (1 to 253 of a-z 0-9 - ., a letter or digit first and last)";
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let name = keep(text, 253, allowed, inner)?;
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    match edge(name.chars().next()) && edge(name.chars().last()) {
        true => Ok(name),
        false => Err(not_allowed(text, allowed)),
    }
}

fn amount(text: &str) -> Result<String, String> {
    let allowed = "an amount of Kubernetes (a number and nothing, m, k, M, G, T, Ki, Mi, Gi or Ti), such as `100m` or `128Mi`";
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most| (1..=most).contains(&text.len()) && !text.contains('.');
    let known = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&unit);
    match known && digits(whole, 12) && digits(part, 3) {
        true => Ok(text.to_owned()),
        false => Err(not_allowed(text, allowed)),
    }
}
