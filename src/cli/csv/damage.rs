//! What spreadsheets make of cells: numbers that are cut, dates, errors. What stood there before cannot be known.

/// What a spreadsheet shows in place of a value.
const ERRORS: [&str; 12] = [
    "#REF!",
    "#NAME?",
    "#VALUE!",
    "#DIV/0!",
    "#N/A",
    "#NUM!",
    "#NULL!",
    "#SPILL!",
    "#CALC!",
    "#ERROR!",
    "#GETTING_DATA",
    "#FIELD!",
];
/// More digits of a number are not kept.
const DIGITS_KEPT: usize = 15;

/// What has happened to a cell of any column.
pub(in crate::cli) fn of_cell(cell: &str) -> Option<&'static str> {
    let hashes = cell.len() >= 3 && cell.bytes().all(|b| b == b'#');
    if hashes || ERRORS.iter().any(|error| cell.eq_ignore_ascii_case(error)) {
        Some("is what a spreadsheet shows for an error or a narrow column, not a value")
    } else if is_scientific(cell) {
        Some(
            "is a number that a spreadsheet has cut: make the column text there, and fill it in again",
        )
    } else {
        None
    }
}

/// The same of a token, which nothing may have changed.
pub(in crate::cli) fn of_token(token: &str) -> Option<&'static str> {
    of_cell(token).or_else(|| {
        if is_cut_number(token) {
            Some("is a number of which a spreadsheet has kept 15 digits: make the column text there, and fill it in again")
        } else if is_date(token) {
            Some("is a date or a time: make the column text in the spreadsheet, and fill it in again")
        } else {
            None
        }
    })
}

/// `1.23456789012346E+31`, with the decimal sign of any country.
fn is_scientific(cell: &str) -> bool {
    let cell = cell.strip_prefix('-').unwrap_or(cell);
    let Some((number, exponent)) = cell.split_once(['E', 'e']) else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    let exponent = exponent.strip_prefix(['+', '-']);
    whole.len() == 1 && digits(whole) && digits(fraction) && exponent.is_some_and(digits)
}

fn is_cut_number(token: &str) -> bool {
    let number = token.trim_end_matches('0');
    token.len() > DIGITS_KEPT
        && token.bytes().all(|b| b.is_ascii_digit())
        && (1..=DIGITS_KEPT).contains(&number.len())
}

/// Three numbers with the same sign between them, one of them a year, and perhaps a time.
fn is_date(token: &str) -> bool {
    let (date, time) = token.split_once([' ', 'T']).unwrap_or((token, "0:00"));
    let numeric = |part: &str, max| {
        (1..=max).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    let is_day = |sign| {
        let parts: Vec<&str> = date.split(sign).collect();
        parts.len() == 3 && parts.iter().all(|part| numeric(part, 4))
    };
    let is_time = time
        .trim_end_matches('Z')
        .split([':', '.'])
        .all(|part| numeric(part, 3));
    is_time && ['-', '/', '.'].into_iter().any(is_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_has_changed_is_no_token() {
        for token in [
            "1.23456789012346E+31",
            "1,23457E+31",
            "-1.5e-07",
            "1E+15",
            "1.2345678901234567e+31",
            "########",
            "#REF!",
            "#n/a",
            "12345678901234500000",
            "31/01/2026",
            "2026-01-31",
            "31.01.2026 10:30",
            "2026-01-31T00:00:00Z",
        ] {
            assert!(of_token(token).is_some(), "{token}");
        }
        for token in [
            "token-of-the-old-system",
            "12345678901234567890",
            "1234567890123456",
            "00000000000000000000",
            "1E15",
            "abc.def.ghi",
            "12E+4xyz",
            "a1-b2-c3",
            "2026-01-31-extra",
            "",
        ] {
            assert_eq!(of_token(token), None, "{token}");
        }
        assert_eq!(of_cell("2026-01-31"), None);
        assert!(
            of_cell("1.23457E+12").is_some(),
            "an owner that was a number"
        );
    }
}
