//! What commands print: tables for people, proto3 JSON in snake_case or YAML for programs, names for pipes.

mod resources;

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write};
use std::rc::Rc;
use std::sync::LazyLock;

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer};

use crate::cli::Failure;
use crate::domain::text::escape_json;
/// Of what a server sends, that we do not trust.
pub(super) use crate::domain::text::printable;
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::admin as pb;

/// Moves to the upper left corner and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// The same as YAML
    Yaml,
    /// One resource name a line
    Name,
}

/// Where the output goes, and whether it may have colours.
pub(super) struct Out {
    to: Box<dyn Write>,
    colours: bool,
    terminal: bool,
}

impl Out {
    pub(super) fn stdout() -> Self {
        let plain = crate::config::variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal();
        Self {
            to: Box::new(io::stdout()),
            colours: terminal && !plain,
            terminal,
        }
    }

    /// Output that is looked at before it is shown.
    pub(super) fn page(&self) -> (Self, Page) {
        let page = Page::default();
        let out = Self {
            to: Box::new(page.clone()),
            colours: self.colours,
            terminal: self.terminal,
        };
        (out, page)
    }

    /// Shows a page again that was shown before: on a terminal in its place; elsewhere the lines that are new, or
    /// the whole of it where lines mean nothing alone.
    pub(super) fn redraw(&mut self, before: &str, now: &str, form: Form) -> Result<(), Failure> {
        if self.terminal {
            write!(self.to, "{CLEAR}{now}")?;
        } else if matches!(form, Form::Json | Form::Yaml) {
            write!(self.to, "{now}")?;
        } else {
            let known: std::collections::HashSet<&str> = before.lines().collect();
            let mut new = now.lines().filter(|line| !known.contains(line));
            new.try_for_each(|line| writeln!(self.to, "{line}"))?;
        }
        Ok(self.to.flush()?)
    }

    pub(super) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.to, "{text}")?)
    }
}

/// What was written and not yet shown.
#[derive(Clone, Default)]
pub(super) struct Page(Rc<RefCell<Vec<u8>>>);

impl Page {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

pub(super) fn one<R: Resource>(out: &mut Out, form: Form, resource: &R) -> Result<(), Failure> {
    match form {
        Form::Table => facts(out, resource),
        Form::Json | Form::Yaml => document(out, form, &Json::of(resource)?),
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
        Form::Json | Form::Yaml | Form::Name => one(out, form, resource),
    }
}

pub(super) fn many<R: Resource>(out: &mut Out, form: Form, resources: &[R]) -> Result<(), Failure> {
    match form {
        Form::Table if resources.is_empty() => out.line(format_args!("no {}", R::MANY)),
        Form::Table => {
            let all: Vec<_> = resources.iter().map(Resource::row).collect();
            rows(out, R::COLUMNS, &all)
        }
        Form::Json | Form::Yaml => {
            let all: Result<Vec<_>, _> = resources.iter().map(Json::of).collect();
            document(
                out,
                form,
                &std::collections::BTreeMap::from([(R::MANY, all?)]),
            )
        }
        Form::Name => resources
            .iter()
            .try_for_each(|resource| out.line(printable(resource.name()))),
    }
}

/// What people are told of a token that was just made.
pub(super) const ONCE: &str = "This is the API key. It is shown this once: store it now.";

/// A key with its token.
#[derive(Serialize)]
struct Created<'a> {
    key: Json,
    plaintext: &'a str,
}

/// Shows a key and its token, and to people what to know about it.
pub(super) fn created(
    out: &mut Out,
    form: Form,
    key: &pb::Key,
    plaintext: &str,
    about: &str,
) -> Result<(), Failure> {
    match form {
        Form::Json | Form::Yaml => {
            let key = Json::of(key)?;
            document(out, form, &Created { key, plaintext })
        }
        Form::Name => out.line(printable(&key.name)),
        Form::Table => {
            facts(out, key)?;
            out.line("")?;
            out.line(printable(plaintext))?;
            out.line("")?;
            out.line(about)
        }
    }
}

fn facts<R: Resource>(out: &mut Out, resource: &R) -> Result<(), Failure> {
    pairs(out, &resource.facts())
}

/// Shows a value to programs.
pub(super) fn document(out: &mut Out, form: Form, value: &impl Serialize) -> Result<(), Failure> {
    // It may hold a token.
    let text = zeroize::Zeroizing::new(match form {
        Form::Yaml => crate::config::yaml(&serde_json::to_value(value).map_err(Failure::failed)?),
        Form::Json | Form::Table | Form::Name => {
            let plain = serde_json::to_string_pretty(value).map_err(Failure::failed)?;
            escape_json(&zeroize::Zeroizing::new(plain))
        }
    });
    out.line(text.trim_end())
}

/// Shows named facts as two columns.
pub(super) fn pairs(out: &mut Out, pairs: &[(&str, String)]) -> Result<(), Failure> {
    let mut table = new_table();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([Cell::new(name), cell(out, value)]);
    }
    out.line(table.trim_fmt())
}

/// Shows rows under a header.
pub(super) fn rows(out: &mut Out, header: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
    out.line(table(out, header, rows).trim_fmt())
}

/// A table that a narrow terminal breaks where it may be broken: not in what names a row, and in no header.
fn table(out: &Out, header: &[&str], rows: &[Vec<String>]) -> Table {
    let mut table = new_table();
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|text| cell(out, text)));
    }
    for (column, name) in table.column_iter_mut().zip(header) {
        let width = u16::try_from(name.len()).unwrap_or(u16::MAX);
        column.set_constraint(match column.index {
            0 => ColumnConstraint::ContentWidth,
            // With a blank on either side.
            _ => ColumnConstraint::LowerBoundary(Width::Fixed(width.saturating_add(2))),
        });
    }
    table
}

/// A message as proto3 JSON with the field names of the schema. Fields that are empty are there too, so that
/// scripts may rely on them.
struct Json(DynamicMessage);

/// A resource as a part of a larger document.
pub(super) fn json_of<R: Resource>(resource: &R) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(Json::of(resource)?).map_err(Failure::failed)
}

/// A key that was made; without `plaintext` where its token went elsewhere.
pub(super) fn created_json(made: &pb::CreateKeyResponse) -> Result<serde_json::Value, Failure> {
    let key = made.key.as_ref().map(json_of).transpose()?;
    Ok(match made.plaintext.as_str() {
        "" => serde_json::json!({"key": key}),
        plaintext => serde_json::json!({"key": key, "plaintext": plaintext}),
    })
}

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
        "active" | "pass" | "allow" if out.colours => cell.fg(Color::Green),
        "suspended" | "revoked" | "expired" | "deny" if out.colours => cell.fg(Color::Red),
        _ => cell,
    }
}

#[cfg(test)]
mod tests;
