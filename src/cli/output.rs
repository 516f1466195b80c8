//! What commands print: tables for people, proto3 JSON in snake_case for programs, names for pipes.

use std::io::{self, IsTerminal as _, Write};
use std::sync::LazyLock;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer};

use crate::cli::Failure;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::admin as pb;

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// One resource name a line
    Name,
}

/// Where the output goes, and whether it may have colours.
pub(super) struct Out {
    to: Box<dyn Write>,
    colours: bool,
}

impl Out {
    pub(super) fn stdout() -> Self {
        let plain = crate::config::variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            to: Box::new(io::stdout()),
            colours: io::stdout().is_terminal() && !plain,
        }
    }

    pub(super) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.to, "{text}")?)
    }
}

/// What can be shown.
pub(super) trait Resource: Message {
    /// Its full name in the schema.
    const TYPE: &'static str;
    /// Many of it, as a field name.
    const MANY: &'static str;
    /// The columns of its list.
    const COLUMNS: &'static [&'static str];
    fn name(&self) -> &str;
    /// The cells of its list.
    fn row(&self) -> Vec<String>;
    /// All of it, line by line; what is empty is left out.
    fn facts(&self) -> Vec<(&'static str, String)>;
}

/// Shows one resource.
pub(super) fn one<R: Resource>(out: &mut Out, form: Form, resource: &R) -> Result<(), Failure> {
    match form {
        Form::Table => facts(out, resource),
        Form::Json => json(out, &Json::of(resource)?),
        Form::Name => out.line(printable(resource.name())),
    }
}

/// Shows what was done to one resource: to people, in a sentence.
pub(super) fn done<R: Resource>(
    out: &mut Out,
    form: Form,
    resource: &R,
    what: &str,
) -> Result<(), Failure> {
    match form {
        Form::Table => out.line(format_args!("{}: {what}", printable(resource.name()))),
        Form::Json | Form::Name => one(out, form, resource),
    }
}

/// Shows a list.
pub(super) fn many<R: Resource>(out: &mut Out, form: Form, resources: &[R]) -> Result<(), Failure> {
    match form {
        Form::Table if resources.is_empty() => out.line(format_args!("no {}", R::MANY)),
        Form::Table => {
            let mut table = new_table();
            table.set_header(R::COLUMNS.iter().copied());
            for resource in resources {
                table.add_row(resource.row().iter().map(|text| cell(out, text)));
            }
            out.line(table.trim_fmt())
        }
        Form::Json => {
            let all: Result<Vec<_>, _> = resources.iter().map(Json::of).collect();
            json(out, &std::collections::BTreeMap::from([(R::MANY, all?)]))
        }
        Form::Name => resources
            .iter()
            .try_for_each(|resource| out.line(printable(resource.name()))),
    }
}

/// A new key with its token, the only time that it is shown.
#[derive(Serialize)]
struct Created<'a> {
    key: Json,
    plaintext: &'a str,
}

/// Shows a new key and its token.
pub(super) fn created(
    out: &mut Out,
    form: Form,
    key: &pb::Key,
    plaintext: &str,
) -> Result<(), Failure> {
    match form {
        Form::Json => {
            let key = Json::of(key)?;
            json(out, &Created { key, plaintext })
        }
        Form::Name => out.line(printable(&key.name)),
        Form::Table => {
            facts(out, key)?;
            out.line("")?;
            out.line(printable(plaintext))?;
            out.line("")?;
            out.line("This is the API key. It is shown this once: store it now.")
        }
    }
}

fn facts<R: Resource>(out: &mut Out, resource: &R) -> Result<(), Failure> {
    let mut table = new_table();
    for (name, value) in resource.facts() {
        if !value.is_empty() {
            table.add_row([Cell::new(name), cell(out, &value)]);
        }
    }
    out.line(table.trim_fmt())
}

pub(super) fn json(out: &mut Out, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
    out.line(zeroize::Zeroizing::new(text).as_str())
}

/// A message as proto3 JSON with the field names of the schema. Fields that are empty are there too, so that
/// scripts may rely on them.
struct Json(DynamicMessage);

impl Json {
    fn of<R: Resource>(resource: &R) -> Result<Self, Failure> {
        static POOL: LazyLock<Option<DescriptorPool>> =
            LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());
        let descriptor = POOL
            .as_ref()
            .and_then(|pool| pool.get_message_by_name(R::TYPE))
            .ok_or_else(|| Failure::failed(anyhow::anyhow!("no schema of {}", R::TYPE)))?;
        let bytes = resource.encode_to_vec();
        let message = DynamicMessage::decode(descriptor, bytes.as_slice());
        message.map(Self).map_err(Failure::failed)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .skip_default_fields(false);
        self.0.serialize_with_options(serializer, &options)
    }
}

fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn cell(out: &Out, text: &str) -> Cell {
    let cell = Cell::new(printable(text));
    match text {
        "active" if out.colours => cell.fg(Color::Green),
        "suspended" | "revoked" | "expired" if out.colours => cell.fg(Color::Red),
        _ => cell,
    }
}

/// The text without what could confuse a terminal. A server that we do not trust may have sent it.
pub(super) fn printable(text: &str) -> String {
    let safe = |c: char| match c {
        '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' => '\u{FFFD}',
        c if c.is_control() => '\u{FFFD}',
        c => c,
    };
    text.chars().map(safe).collect()
}

/// A time for people: RFC 3339, whole seconds.
fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| jiff::Timestamp::from_second(time.seconds).ok())
        .map(|time| time.to_string())
        .unwrap_or_default()
}

/// The word of an enum value: `KEY_STATE_ACTIVE` is `active`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

impl Resource for pb::Tenant {
    const TYPE: &'static str = "keystile.admin.v1.Tenant";
    const MANY: &'static str = "tenants";
    const COLUMNS: &'static [&'static str] =
        &["TENANT", "NAME", "STATE", "PLAN", "FEATURES", "CREATED"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.tenant_id.clone(),
            self.display_name.clone(),
            word(self.state().as_str_name(), "TENANT_STATE_"),
            self.plan.clone(),
            self.features.join(", "),
            time(self.create_time.as_ref()),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let metadata = self
            .metadata
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        vec![
            ("tenant", self.tenant_id.clone()),
            ("display name", self.display_name.clone()),
            ("state", word(self.state().as_str_name(), "TENANT_STATE_")),
            ("plan", self.plan.clone()),
            ("features", self.features.join(", ")),
            ("denied features", self.denied_features.join(", ")),
            ("metadata", metadata.collect::<Vec<_>>().join(", ")),
            ("created", time(self.create_time.as_ref())),
            ("updated", time(self.update_time.as_ref())),
            ("etag", self.etag.clone()),
        ]
    }
}

impl Resource for pb::Key {
    const TYPE: &'static str = "keystile.admin.v1.Key";
    const MANY: &'static str = "keys";
    const COLUMNS: &'static [&'static str] =
        &["KEY", "NAME", "OWNER", "ROLE", "STATE", "TOKEN", "EXPIRES"];

    fn name(&self) -> &str {
        &self.name
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.key_id.clone(),
            self.display_name.clone(),
            self.owner.clone(),
            word(self.role().as_str_name(), "ROLE_"),
            word(self.state().as_str_name(), "KEY_STATE_"),
            format!("{}...", self.key_prefix),
            self.expire_time
                .as_ref()
                .map_or_else(|| "never".into(), |end| time(Some(end))),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let features = match &self.features {
            Some(list) if list.names.is_empty() => "none".into(),
            Some(list) => list.names.join(", "),
            None => String::new(),
        };
        vec![
            ("key", self.key_id.clone()),
            ("tenant", self.tenant_id.clone()),
            ("name", self.display_name.clone()),
            ("description", self.description.clone()),
            ("owner", self.owner.clone()),
            ("role", word(self.role().as_str_name(), "ROLE_")),
            ("kind", word(self.kind().as_str_name(), "KEY_KIND_")),
            ("state", word(self.state().as_str_name(), "KEY_STATE_")),
            ("scopes", self.scopes.join(", ")),
            ("only features", features),
            ("only networks", self.allow_cidrs.join(", ")),
            ("token begins", self.key_prefix.clone()),
            ("expires", time(self.expire_time.as_ref())),
            ("created", time(self.create_time.as_ref())),
            ("updated", time(self.update_time.as_ref())),
            ("revoked", time(self.revoke_time.as_ref())),
            ("revoked because", self.revoke_reason.clone()),
            ("etag", self.etag.clone()),
        ]
    }
}

#[cfg(test)]
mod tests;
