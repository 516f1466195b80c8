//! Which characters a reader can see: the one rule for names that come in and for text that goes out.
//!
//! By Unicode's properties, not by a list, so that what Unicode adds is covered.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Whether a terminal, a log or a page shows the character as itself: it is assigned, and neither controls nor formats
/// nor separates lines. Blanks are shown.
pub fn is_printable(c: char) -> bool {
    // Nearly every character there is.
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    !matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// The text with a replacement for each character that is not printable.
pub fn printable(text: &str) -> String {
    let shown = |c| if is_printable(c) { c } else { '\u{FFFD}' };
    text.chars().map(shown).collect()
}

/// The same of text that may have several lines.
pub fn printable_lines(text: &str) -> String {
    let shown = |c| match c {
        '\n' => c,
        c if is_printable(c) => c,
        _ => '\u{FFFD}',
    };
    text.chars().map(shown).collect()
}

/// JSON in which every character that is not printable is escaped (RFC 8259, section 7).
///
/// The same value to whoever parses it, and nothing that a terminal acts on. Line ends are between its values and stay.
pub fn escape_json(json: &str) -> String {
    escape(json, |c, out| {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04X}"));
        }
    })
}

/// The same of a string in double quotes in YAML, which has no surrogate pairs.
pub fn escape_yaml(quoted: &str) -> String {
    escape(quoted, |c, out| {
        out.push_str(&match u32::from(c) {
            code @ ..=0xFFFF => format!("\\u{code:04X}"),
            code => format!("\\U{code:08X}"),
        });
    })
}

fn escape(text: &str, write: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || is_printable(c) {
            out.push(c);
        } else {
            write(c, &mut out);
        }
    }
    out
}

/// Whether a name may hold the text: all of it printable, and nothing in it that draws nothing.
pub fn is_visible(text: &str) -> bool {
    let mut before = ' ';
    text.chars().all(|c| {
        let visible = is_printable(c) && (!is_blank_glyph(c) || is_emoji_style(before, c));
        before = c;
        visible
    })
}

/// Characters that draw nothing, whatever their category: fillers, joiners, variation selectors, and the Braille
/// pattern without dots.
fn is_blank_glyph(c: char) -> bool {
    c == '\u{2800}' || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// A variation selector that says how the symbol before it is drawn, as in emoji.
fn is_emoji_style(before: char, c: char) -> bool {
    let symbol = !before.is_ascii() && !before.is_alphanumeric() && !before.is_whitespace();
    matches!(c, '\u{FE0E}' | '\u{FE0F}') && symbol && !is_blank_glyph(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_or_reorders_text_is_neither_shown_nor_a_part_of_names() {
        for hidden in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{600}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2060}',
            '\u{2065}',
            '\u{2069}',
            '\u{206a}',
            '\u{e000}',
            '\u{fdd0}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffe}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{e01f0}',
            '\u{f0000}',
            '\u{10ffff}',
        ] {
            assert!(!is_printable(hidden), "{hidden:?}");
            assert!(!is_visible(&format!("a{hidden}b")), "{hidden:?}");
            assert_eq!(printable(&format!("a{hidden}b")), "a\u{fffd}b");
        }
    }

    #[test]
    fn json_and_yaml_hold_the_same_text_with_nothing_that_a_terminal_acts_on() {
        let text = "a\u{9b}2Jb\u{202e}c\u{e0041}\u{7f}\u{1f600}";
        let quoted = format!("\"{text}\"");
        assert_eq!(
            escape_json(&quoted),
            "\"a\\u009B2Jb\\u202Ec\\uDB40\\uDC41\\u007F\u{1f600}\""
        );
        assert_eq!(
            escape_yaml(&quoted),
            "\"a\\u009B2Jb\\u202Ec\\U000E0041\\u007F\u{1f600}\""
        );
    }

    #[test]
    fn what_draws_nothing_is_no_part_of_names() {
        for blank in [
            '\u{34f}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe00}',
            '\u{fe0f}',
            '\u{ffa0}',
            '\u{e0100}',
            '\u{e01ef}',
        ] {
            for text in [
                format!("acme{blank}"),
                format!("{blank}"),
                format!("a {blank}b"),
            ] {
                assert!(!is_visible(&text), "{text:?}");
            }
        }
        assert!(
            !is_visible("\u{2764}\u{fe0f}\u{fe0f}"),
            "one selector is enough"
        );
    }

    #[test]
    fn what_people_write_is_shown_and_may_be_a_name() {
        for text in [
            "",
            "Acme & Söhne GmbH",
            "株式会社　アクメ",
            "عميل",
            "ลูกค้า",
            "ग्राहक",
            "e\u{301}",
            "\u{2764}\u{fe0f} \u{1f600}",
            "naïve – “x”",
        ] {
            assert!(is_visible(text), "{text:?}");
            assert_eq!(printable(text), text);
        }
    }
}
