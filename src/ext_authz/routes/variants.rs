//! Other spellings of a path: what a lenient upstream takes for the same one. A request whose path is another spelling
//! of one with a stricter rule would go past that rule.
//!
//! Upstreams differ in what they forgive: case, Unicode's other forms of a letter, dots and blanks at the end of a
//! segment, a file extension, an encoded `?`. All of it at once and each way to understand it are tried.

use std::collections::BTreeSet;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_normalizer::uts46::Uts46MapperBorrowed;
use percent_encoding::percent_decode_str;

use crate::domain::route::{PathTemplate, Segment};
use crate::domain::text::is_printable;
use crate::ext_authz::routes::RouteRule;

/// Longest file extension.
const EXTENSION_LEN_MAX: usize = 10;

/// The templates of the rules, folded.
#[derive(Debug)]
pub(super) struct Variants {
    templates: Vec<Option<Folded>>,
    /// No template has another spelling.
    plain: bool,
}

#[derive(Debug)]
struct Folded {
    /// None: any.
    segments: Vec<Option<String>>,
    open: bool,
}

impl Variants {
    pub(super) fn of(rules: &[RouteRule]) -> Self {
        let template = |rule: &RouteRule| rule.pattern.path.as_ref().map(Folded::of);
        let paths = rules.iter().filter_map(|rule| rule.pattern.path.as_ref());
        let texts = paths.flat_map(|path| path.segments()).filter_map(text);
        Self {
            plain: texts.into_iter().all(|text| fold(text) == text),
            templates: rules.iter().map(template).collect(),
        }
    }

    /// The rules that another spelling of the path matches, and that the path itself does not.
    pub(super) fn near(&self, path: &str, rules: &[RouteRule]) -> Vec<usize> {
        if self.plain && is_plain(path) {
            return Vec::new();
        }
        let spellings: Vec<Vec<String>> = spellings(path).into_iter().collect();
        let own: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let leads_anywhere = leads_elsewhere(path);
        let is_near = |(at, folded): (usize, &Option<Folded>)| {
            let folded = folded.as_ref()?;
            let exact = rules[at].pattern.path.as_ref()?;
            let near = leads_anywhere || spellings.iter().any(|parts| folded.matches(parts));
            (near && !matches(exact, &own)).then_some(at)
        };
        self.templates
            .iter()
            .enumerate()
            .filter_map(is_near)
            .collect()
    }
}

impl Folded {
    fn of(template: &PathTemplate) -> Self {
        Self {
            segments: template
                .segments()
                .iter()
                .map(|part| text(part).map(fold))
                .collect(),
            open: template.is_open(),
        }
    }

    fn matches(&self, parts: &[String]) -> bool {
        let fits =
            |(own, part): (&Option<String>, &String)| own.as_ref().is_none_or(|own| own == part);
        has_as_many(parts.len(), self.segments.len(), self.open)
            && self.segments.iter().zip(parts).all(fits)
    }
}

fn matches(template: &PathTemplate, parts: &[&str]) -> bool {
    let fits = |(own, part): (&Segment, &&str)| text(own).is_none_or(|own| own == *part);
    has_as_many(parts.len(), template.segments().len(), template.is_open())
        && template.segments().iter().zip(parts).all(fits)
}

fn has_as_many(parts: usize, segments: usize, open: bool) -> bool {
    parts == segments || (open && parts > segments)
}

fn text(segment: &Segment) -> Option<&str> {
    match segment {
        Segment::Text(text) => Some(text),
        Segment::Any => None,
    }
}

/// Whether no byte of a path has another spelling.
fn is_plain(path: &str) -> bool {
    let odd = |b: u8| b.is_ascii_uppercase() || b".%+:".contains(&b);
    !path.bytes().any(odd)
}

/// Every way in which a path may be understood, in segments.
fn spellings(path: &str) -> BTreeSet<Vec<String>> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let whole = decoded.as_ref();
    // Who decodes before looking for the query finds one in the path.
    let cut = whole.split(['?', '#']).next().unwrap_or_default();
    let mut all = BTreeSet::new();
    for text in [whole, cut] {
        let parts: Vec<String> = text.split('/').skip(1).map(fold).collect();
        let without_empty = parts
            .iter()
            .filter(|part| !part.is_empty())
            .cloned()
            .collect();
        for parts in [parts, without_empty] {
            all.extend(without_extension(&parts));
            all.insert(parts);
        }
    }
    all
}

/// Whether other forms of slashes and dots are in a path: to who takes them for such it may be any other path.
fn leads_elsewhere(path: &str) -> bool {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if decoded.is_ascii() {
        return false;
    }
    let plain = plain_letters(&decoded);
    let slashes = |text: &str| text.matches('/').count();
    slashes(&plain) != slashes(&decoded)
        || plain.contains('\\')
        || plain.split('/').any(|part| matches!(part, "." | ".."))
}

/// The same without the file extension at its end: many frameworks choose a format by it.
fn without_extension(parts: &[String]) -> Option<Vec<String>> {
    let (last, before) = parts.split_last()?;
    let (name, extension) = last.rsplit_once('.')?;
    let is_extension = (1..=EXTENSION_LEN_MAX).contains(&extension.len())
        && extension.bytes().all(|b| b.is_ascii_alphanumeric())
        && extension.bytes().any(|b| b.is_ascii_alphabetic());
    let name = trimmed(name);
    (is_extension && !name.is_empty()).then(|| [before, &[name.to_owned()]].concat())
}

/// One spelling for all of a segment: letters in lower case and in their plain form, invisible characters gone.
fn fold(segment: &str) -> String {
    let plain = match segment.is_ascii() {
        true => segment.to_ascii_lowercase(),
        false => plain_letters(segment),
    };
    trimmed(&plain).to_owned()
}

/// The mapping of domain names (UTS 46) is made for this, but for signs that no name may have, and for the dotless i,
/// which is a letter of its own to it.
fn plain_letters(text: &str) -> String {
    let text = ComposingNormalizerBorrowed::new_nfkc().normalize(text);
    let shown = text.chars().filter(|c| is_printable(*c));
    Uts46MapperBorrowed::new()
        .map_normalize(shown)
        .map(|c| if c == '\u{131}' { 'i' } else { c })
        .collect()
}

/// Without what file systems and frameworks drop: blanks around it, dots at its end, the name of a stream.
fn trimmed(segment: &str) -> &str {
    let name = segment.split("::").next().unwrap_or_default();
    let blank = |c: char| c.is_whitespace() || c == '+';
    name.trim_start_matches(blank)
        .trim_end_matches(|c| blank(c) || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_has_many_spellings() {
        let admin = vec!["admin".to_owned(), "1".to_owned()];
        for path in [
            "/ADMIN/1",
            "/aDmIn/1",
            "/admin./1",
            "/admin.../1",
            "/admin%20/1",
            "/%20admin%20./1",
            "/admin+/1",
            "/admin/1.",
            "/admin/1.json",
            "/admin/1.JSON",
            "/admin/1%20.xml",
            "/admin/1%3Fx",
            "/admin/1%23x/y",
            "/admin/%20/1",
            "/admin/%20./1",
            "/admin::$DATA/1",
            "/%EF%BD%81dmin/1",
            "/adm%C4%B1n/1",
            "/admin%C2%A0/1",
            "/ad%C2%ADmin/1",
            "/ad%E2%80%8Bmin/1",
            "/admin/%E2%91%A0",
            "/%F0%9D%90%9Admin/1",
            "/ad%E2%80%AEmin/1",
            "/admin/1.geojson",
        ] {
            assert!(
                spellings(path).contains(&admin),
                "{path}: {:?}",
                spellings(path)
            );
        }
        for path in [
            "/administrator/1",
            "/admin/2",
            "/admin/1.0",
            "/admin-/1",
            "/adm/in/1",
            "/\u{e1}dmin/1",
        ] {
            assert!(!spellings(path).contains(&admin), "{path}");
        }
        for path in [
            "/a%EF%BC%8Fb",
            "/a/%E2%80%A5/b",
            "/a%EF%BC%BCb",
            "/a/%EF%BC%8E",
        ] {
            assert!(leads_elsewhere(path), "{path}");
        }
        for path in ["/a/b", "/%C3%BC/b", "/a/%E6%97%A5%E6%9C%AC", "/%20/a"] {
            assert!(!leads_elsewhere(path), "{path}");
        }
        let kelvin = spellings("/bac%E2%84%AA/%C5%BFhop");
        assert!(kelvin.contains(&vec!["back".to_owned(), "shop".to_owned()]));
    }
}
