//! Tables that people make in other programs: read whole, and every mistake named, before anything is done.

pub(super) mod cells;
pub(super) mod damage;
pub(super) mod formulas;
mod source;

use std::fmt::Display;
use std::path::Path;

use anyhow::anyhow;
use csv::{ReaderBuilder, StringRecord};

use crate::cli::Failure;
use crate::config;
use source::CsvText;

/// A table that does not fit is cut into files, not read into memory.
const ROWS_MAX: usize = 1_000_000;
/// More mistakes than this are counted, not shown.
const SHOWN_MAX: usize = 50;

/// The columns that a table may have, and those that it must.
pub(super) struct Columns {
    pub(super) known: &'static [&'static str],
    pub(super) required: &'static [&'static str],
}

pub(super) struct Row<'a> {
    pub(super) line: u64,
    header: &'a StringRecord,
    cells: &'a StringRecord,
    mistakes: &'a mut Vec<String>,
}

impl Row<'_> {
    /// The cell of a column, without the blanks around it; empty if there is no such column.
    pub(super) fn cell(&self, column: &str) -> &str {
        let at = self.header.iter().position(|name| name == column);
        at.and_then(|at| self.cells.get(at)).unwrap_or_default()
    }

    /// A cell that has to be acceptable; `default` if it is empty.
    pub(super) fn text<E: Display>(
        &mut self,
        column: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<(), E>,
    ) -> String {
        let text = match self.cell(column) {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        if let Err(problem) = parse(&text) {
            self.mistake(column, problem);
        }
        text
    }

    /// The parts of a cell that holds a list, separated by blanks: at most `max`, and each has to be acceptable.
    pub(super) fn texts<E: Display>(
        &mut self,
        column: &str,
        max: usize,
        parse: impl Fn(&str) -> Result<(), E>,
    ) -> Vec<String> {
        let parts = self.cell(column).split_whitespace();
        let texts: Vec<String> = parts.map(str::to_owned).collect();
        if let Some(problem) = texts.iter().find_map(|text| parse(text).err()) {
            self.mistake(column, problem);
        }
        if texts.len() > max {
            self.mistake(column, format_args!("must be at most {max}"));
        }
        texts
    }

    /// Whether it has the cells of the columns and no others; `count` is with the empty ones at its end.
    fn has_every_cell(&mut self, count: usize) -> bool {
        let named = self.header.len();
        let right = count >= named && self.cells.len() <= named;
        if !right {
            let problem = format!("has {count} cells, but the first line names {named} columns");
            self.mistakes.push(format!("line {}: {problem}", self.line));
        }
        right
    }

    /// What a spreadsheet has changed was never meant.
    fn check_damage(&mut self) {
        let damaged = self.header.iter().zip(self.cells);
        let damaged = damaged.filter_map(|(name, cell)| Some((name, damage::of_cell(cell)?)));
        for (name, problem) in damaged {
            self.mistakes
                .push(format!("line {}: {name} {problem}", self.line));
        }
    }

    /// Remembers what is wrong with a cell. The cell itself is not repeated: it may be a token.
    pub(super) fn mistake(&mut self, column: &str, problem: impl Display) {
        self.mistakes
            .push(format!("line {}: {column} {problem}", self.line));
    }
}

/// Reads a table. `row` makes something of each row and may find mistakes in it; with any, all are told.
pub(super) fn read<T>(
    path: &Path,
    columns: &Columns,
    row: impl FnMut(&mut Row<'_>) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let source = CsvText::read(path)?;
    let (all, mistakes) = rows(path, &source, columns, row)?;
    if mistakes.is_empty() {
        Ok(all)
    } else {
        Err(refuse(path, &mistakes, None))
    }
}

/// What is made of each row, and every mistake.
fn rows<T>(
    path: &Path,
    source: &CsvText,
    columns: &Columns,
    mut row: impl FnMut(&mut Row<'_>) -> Option<T>,
) -> Result<(Vec<T>, Vec<String>), Failure> {
    let mut table = ReaderBuilder::new()
        .trim(csv::Trim::All)
        .delimiter(source.separator)
        // Said by us, with the other mistakes.
        .flexible(true)
        .from_reader(source.table());
    let header = table.headers().map(without_empty_end);
    let header = header.map_err(|error| unreadable(path, &error))?;
    check_header(path, &header, columns)?;
    let mut lines = source.lines();
    let (mut all, mut mistakes) = (Vec::new(), Vec::new());
    for cells in table.records() {
        let cells = cells.map_err(|error| unreadable(path, &error))?;
        if cells.iter().all(str::is_empty) {
            continue;
        }
        if all.len() == ROWS_MAX {
            return Err(Failure::failed(anyhow!(
                "{} has more than {ROWS_MAX} rows\nhint: cut it into several files",
                path.display()
            )));
        }
        let mut found = Row {
            line: lines.of(cells.position().map_or(0, csv::Position::byte)),
            header: &header,
            cells: &without_empty_end(&cells)
                .iter()
                .map(formulas::restore)
                .collect(),
            mistakes: &mut mistakes,
        };
        if found.has_every_cell(cells.len()) {
            found.check_damage();
            all.extend(row(&mut found));
        }
    }
    Ok((all, mistakes))
}

/// Without the cells at the end that programs add to every row.
fn without_empty_end(cells: &StringRecord) -> StringRecord {
    let filled = (0..cells.len()).rfind(|at| !cells[*at].is_empty());
    cells
        .iter()
        .take(filled.map_or(0, |last| last + 1))
        .collect()
}

/// A failure that tells every mistake.
pub(super) fn refuse(path: &Path, mistakes: &[String], hint: Option<&str>) -> Failure {
    let (count, shown) = (mistakes.len(), path.display());
    let plural = if count == 1 { "" } else { "s" };
    let mut text = format!("{shown}: {count} mistake{plural}; nothing was sent");
    for mistake in mistakes.iter().take(SHOWN_MAX) {
        text.push_str("\n  ");
        text.push_str(mistake);
    }
    if count > SHOWN_MAX {
        text.push_str(&format!("\n  … and {} more", count - SHOWN_MAX));
    }
    if let Some(hint) = hint {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    Failure::failed(anyhow!(text))
}

/// The parser's own words never hold a cell.
fn unreadable(path: &Path, error: &csv::Error) -> Failure {
    Failure::failed(anyhow!("cannot read {}: {error}", path.display()))
}

fn check_header(path: &Path, header: &StringRecord, columns: &Columns) -> Result<(), Failure> {
    let known = columns.known.join(", ");
    let shown = path.display();
    for (at, name) in header.iter().enumerate() {
        if !columns.known.contains(&name) {
            // Not the name itself: of a file without a header, it would be the first token.
            let meant = config::nearest(name, columns.known.iter().copied());
            let meant = meant.map(|meant| format!("; did you mean {meant}?"));
            return Err(Failure::failed(anyhow!(
                "{shown}: column {} has a name that is not known{}\nhint: the first line names the columns, of {known}",
                at + 1,
                meant.unwrap_or_default()
            )));
        }
        if header.iter().take(at).any(|before| before == name) {
            return Err(Failure::failed(anyhow!(
                "{shown}: two columns are named {name}"
            )));
        }
    }
    for required in columns.required {
        if !header.iter().any(|name| name == *required) {
            return Err(Failure::failed(anyhow!(
                "{shown}: there is no column {required}\nhint: the first line names the columns, of {known}"
            )));
        }
    }
    Ok(())
}
