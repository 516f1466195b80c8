//! The bytes of a table: read whole, as text, with the separator that it has and the lines that an editor counts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::file_access::{self, NotText};

/// More is cut into files by whoever made it.
const BYTES_MAX: u64 = 512 << 20;
/// What programs put between cells; no name of a column has one of them.
const SEPARATORS: [char; 4] = [',', ';', '\t', '|'];

/// A table before it is taken apart.
pub(super) struct CsvText {
    bytes: Zeroizing<Vec<u8>>,
    /// Where the first line is that names columns.
    start: usize,
    pub(super) separator: u8,
}

impl CsvText {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let bytes = if path == Path::new("-") {
            whole(io::stdin().lock())
        } else {
            File::open(path).and_then(whole)
        };
        let bytes = bytes.with_context(|| format!("cannot read {shown}"));
        let bytes = bytes.map_err(Failure::Failed)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(Failure::failed(anyhow!(
                "{shown} is larger than {} MiB\nhint: cut it into several files",
                BYTES_MAX >> 20
            )));
        }
        Self::of(bytes).map_err(|problem| Failure::failed(anyhow!("{shown} {problem}")))
    }

    fn of(bytes: Zeroizing<Vec<u8>>) -> Result<Self, NotText> {
        let text = file_access::utf8(&bytes)?;
        let mut start = bytes.len() - text.len();
        let mut first = first_line(text);
        let named = named_separator(first);
        if named.is_some() {
            let line_end = &text[first.len()..];
            let rest = line_end
                .strip_prefix("\r\n")
                .or_else(|| line_end.strip_prefix(['\r', '\n']));
            let rest = rest.unwrap_or_default();
            start = bytes.len() - rest.len();
            first = first_line(rest);
        }
        let separator = named.or_else(|| first.chars().find(|c| SEPARATORS.contains(c)));
        let separator = separator.and_then(|c| u8::try_from(c).ok()).unwrap_or(b',');
        Ok(Self {
            start,
            separator,
            bytes,
        })
    }

    /// The table itself.
    pub(super) fn table(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Counts its lines.
    pub(super) fn lines(&self) -> Lines<'_> {
        Lines {
            bytes: &self.bytes,
            start: self.start,
            at: 0,
            line: 1,
        }
    }
}

fn whole(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn first_line(text: &str) -> &str {
    text.split(['\r', '\n']).next().unwrap_or_default()
}

/// The separator of a first line `sep=;`, by which people tell Excel.
fn named_separator(line: &str) -> Option<char> {
    let line = line.trim_matches('"');
    let (word, separator) = line.split_at_checked(4)?;
    let mut rest = separator.chars();
    let separator = rest.next().filter(|c| SEPARATORS.contains(c))?;
    (word.eq_ignore_ascii_case("sep=") && rest.next().is_none()).then_some(separator)
}

/// The numbers of lines, whether they end in LF, CRLF or CR.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    start: usize,
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the first cell at or behind an offset of the table. Offsets must not decrease.
    pub(super) fn of(&mut self, offset: u64) -> u64 {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut until = self.start.saturating_add(offset).min(self.bytes.len());
        // A row begins behind the end of the line before it and behind empty lines.
        while matches!(self.bytes.get(until), Some(b'\r' | b'\n')) {
            until += 1;
        }
        while self.at < until {
            let (byte, next) = (self.bytes[self.at], self.bytes.get(self.at + 1));
            self.line += u64::from(byte == b'\n' || byte == b'\r' && next != Some(&b'\n'));
            self.at += 1;
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_may_have_the_separator_that_its_program_likes() {
        for (text, separator, table) in [
            ("name,token\n", b',', "name,token\n"),
            ("\u{FEFF}name;token\r\na;b", b';', "name;token\r\na;b"),
            ("\"name\"\t\"token\"\n", b'\t', "\"name\"\t\"token\"\n"),
            ("sep=;\r\nname;token\r\n", b';', "name;token\r\n"),
            ("\"SEP=|\"\nname|token\n", b'|', "name|token\n"),
            ("sep=,\rname,token\r", b',', "name,token\r"),
            ("name\n", b',', "name\n"),
            ("", b',', ""),
        ] {
            let source = CsvText::of(Zeroizing::new(text.into())).unwrap();
            assert_eq!(source.separator, separator, "{text:?}");
            assert_eq!(source.table(), table.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn lines_are_those_that_an_editor_counts() {
        for end in ["\n", "\r\n", "\r"] {
            for first in ["", "sep=;\n"] {
                let text = format!("{first}name{end}a{end}{end}\"b{end}b\"{end}c{end}");
                let source = CsvText::of(Zeroizing::new(text.clone().into())).unwrap();
                let offset = |cell: &str| {
                    let at = text[first.len() + 4..].find(cell).unwrap() + 4;
                    // As the parser says it: behind the row before, in front of its line end.
                    u64::try_from(at - end.len()).unwrap()
                };
                let skipped = u64::from(!first.is_empty());
                let mut lines = source.lines();
                assert_eq!(lines.of(offset("a")), 2 + skipped, "{text:?}");
                assert_eq!(lines.of(offset("\"b")), 4 + skipped, "{text:?}");
                assert_eq!(lines.of(offset("c")), 6 + skipped, "{text:?}");
            }
        }
    }
}
