//! A credential as people paste it: with quotes, words or blanks around it.

/// What somebody has put around a credential, or in its place, if that can be seen. Never repeats the text.
pub(super) fn mistake(line: &str) -> Option<&'static str> {
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
    } else if !line.chars().all(|sign| sign.is_ascii_graphic()) {
        Some(
            "has a sign in it that no credential has and that may not be seen, such as a zero-width space from a web page: type it, or copy it from where it was shown first",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("ks_live_x\u{200b}", "zero-width"),
            ("\u{feff}ks_live_x", "zero-width"),
            ("ks_l\u{131}ve_x", "zero-width"),
            ("ks_live_x\u{1b}", "zero-width"),
        ] {
            let found = mistake(text);
            assert!(
                found.is_some_and(|found| found.contains(said)),
                "{text}: {found:?}"
            );
        }
        assert_eq!(mistake("ks_live_x+/=="), None);
    }
}
