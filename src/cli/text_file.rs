//! Text of files that other programs made: with a byte order mark, in another encoding, in quotes.

use std::fmt;

/// Why bytes are not text that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotText {
    /// As PowerShell's `>` and Excel's "Unicode Text" write it.
    Utf16,
    /// Some other encoding, first seen in this line.
    Other { line: usize },
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf16 => f.write_str("is UTF-16 text: save it as UTF-8"),
            Self::Other { line } => write!(f, "is not UTF-8 text (line {line}): save it as UTF-8"),
        }
    }
}

/// The text without its byte order mark.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, NotText> {
    let marked = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    // Without a mark: every other byte of plain letters is zero.
    let zeros = bytes.iter().take(4).filter(|byte| **byte == 0).count();
    if marked || (bytes.len() >= 4 && zeros == 2) {
        return Err(NotText::Utf16);
    }
    let text = std::str::from_utf8(bytes).map_err(|wrong| {
        let good = bytes.iter().take(wrong.valid_up_to());
        NotText::Other {
            line: 1 + good.filter(|byte| **byte == b'\n').count(),
        }
    })?;
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(text))
}

/// What somebody has put around a credential, or in its place, if that can be seen. Never repeats the text.
pub(super) fn mistaken_for_credential(line: &str) -> Option<&'static str> {
    let quotes = [
        '"', '\'', '`', '\u{201C}', '\u{201D}', '\u{2018}', '\u{2019}',
    ];
    let lower = line.to_ascii_lowercase();
    if line.starts_with(quotes) || line.ends_with(quotes) {
        Some("is in quotes: write it without them")
    } else if line.starts_with('{') || line.starts_with('[') {
        Some(
            "is JSON, of which the credential is a part (`-o json` has it as `plaintext`): write it alone",
        )
    } else if lower.starts_with("bearer ") || lower.contains(": ") {
        Some("has the name of a header or a scheme before it: write the credential alone")
    } else if lower.starts_with("export ") || lower.starts_with("keystile_api_key=") {
        Some("has the name of a variable before it: write the credential alone")
    } else if line.contains(char::is_whitespace) {
        Some("has blanks in it: write it as one word")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(utf8(b"\xEF\xBB\xBFks"), Ok("ks"));
        assert_eq!(utf8(b"ks"), Ok("ks"));
        assert_eq!(utf8(b""), Ok(""));
        for utf16 in [&b"\xFF\xFEk\0s\0"[..], b"\xFE\xFF\0k\0s", b"k\0s\0_\0"] {
            assert_eq!(utf8(utf16), Err(NotText::Utf16));
        }
        assert_eq!(utf8(b"a\nb\n\xE9"), Err(NotText::Other { line: 3 }));
    }

    #[test]
    fn what_is_around_a_credential_is_named() {
        for (text, said) in [
            ("\"ks_live_x\"", "quotes"),
            ("'ks_live_x'", "quotes"),
            ("\u{201C}ks_live_x\u{201D}", "quotes"),
            ("{\"plaintext\": \"x\"}", "JSON"),
            ("Bearer ks_live_x", "scheme"),
            ("x-api-key: ks_live_x", "header"),
            ("KEYSTILE_API_KEY=ks_live_x", "variable"),
            ("export KEYSTILE_API_KEY=ks_live_x", "variable"),
            ("ks_live_x # mine", "blanks"),
        ] {
            let found = mistaken_for_credential(text);
            assert!(
                found.is_some_and(|found| found.contains(said)),
                "{text}: {found:?}"
            );
        }
        assert_eq!(mistaken_for_credential("ks_live_x+/=="), None);
    }
}
