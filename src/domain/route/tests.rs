use super::*;

fn path(text: &str) -> PathTemplate {
    text.parse().unwrap()
}

fn host(text: &str) -> HostPattern {
    text.parse().unwrap()
}

#[test]
fn a_template_is_made_of_whole_segments() {
    for good in [
        "/",
        "/{*rest}",
        "/v1/images/{id}",
        "/v1/{a}/{b_2}/{*rest}",
        "/v1/images:batch",
        "/a.b/c~d",
    ] {
        assert_eq!(path(good).to_string(), good);
    }
    for (bad, why) in [
        ("", "begin with"),
        ("v1", "begin with"),
        ("*", "begin with"),
        ("/v1/", "empty segment"),
        ("//v1", "empty segment"),
        ("/v1//{*rest}", "empty segment"),
        ("//{*rest}", "empty segment"),
        ("/v1/../a", "dot segment"),
        ("/v1/*", "another form"),
        ("/v1/:id", "another form"),
        ("/v1/{*rest}/a", "only at the end"),
        ("/v1/{id}.png", "whole segment"),
        ("/v1/x{id}", "neither"),
        ("/v1/{}", "whole segment"),
        ("/v1/{*}", "whole segment"),
        ("/v1/{a b}", "whole segment"),
        ("/v1/a%20b", "neither"),
        ("/v1/a;b", "neither"),
        ("/v1?a=b", "neither"),
        ("/v1/\u{fc}", "neither"),
        (&format!("/{}", "a".repeat(512)), "longer"),
    ] {
        let error = bad.parse::<PathTemplate>().unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn a_template_covers_what_leaves_nothing_to_another() {
    for (one, two, covers, overlaps) in [
        ("/a", "/a", true, true),
        ("/a", "/b", false, false),
        ("/a/{x}", "/a/{y}", true, true),
        ("/a/{x}", "/a/b", true, true),
        ("/a/b", "/a/{x}", false, true),
        ("/a/{x}", "/a", false, false),
        ("/a/{x}", "/{x}/b", false, true),
        ("/a/{x}/c", "/a/b/d", false, false),
        ("/{*r}", "/", true, true),
        ("/{*r}", "/a/{x}", true, true),
        ("/{*r}", "/{*q}", true, true),
        ("/a/{*r}", "/a", true, true),
        ("/a/{*r}", "/a/b/{*r}", true, true),
        ("/a/b/{*r}", "/a/{*r}", false, true),
        ("/a/{*r}", "/{*r}", false, true),
        ("/a/{x}", "/a/{*r}", false, true),
        ("/a/{x}/{*r}", "/a/{*r}", false, true),
        ("/a/{*r}", "/b/{*r}", false, false),
        ("/{x}", "/", false, false),
    ] {
        let (one, two) = (path(one), path(two));
        assert_eq!(one.covers(&two), covers, "{one} covers {two}");
        assert_eq!(one.overlaps(&two), overlaps, "{one} overlaps {two}");
        assert_eq!(two.overlaps(&one), overlaps, "{two} overlaps {one}");
    }
}

#[test]
fn a_host_is_a_name_or_all_names_under_one() {
    for (pattern, name, matches) in [
        ("api.example.com", "API.Example.com", true),
        ("api.example.com", "xapi.example.com", false),
        ("*.Example.com", "api.example.com", true),
        ("*.example.com", "a.b.EXAMPLE.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "badexample.com", false),
        ("127.0.0.1", "127.0.0.1", true),
    ] {
        assert_eq!(
            host(pattern).matches(name.as_bytes()),
            matches,
            "{pattern} {name}"
        );
    }
    for bad in [
        "", "*", "*.", "a..b", "a.b:80", "a.b.", "*a.b", "a b", "[::1]", "a/b",
    ] {
        assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
    }
    for (one, two, covers) in [
        ("a.b", "A.B", true),
        ("*.b", "a.b", true),
        ("*.b", "*.b", true),
        ("*.b", "*.a.b", true),
        ("*.a.b", "*.b", false),
        ("*.b", "b", false),
        ("a.b", "*.b", false),
    ] {
        assert_eq!(host(one).covers(&host(two)), covers, "{one} {two}");
    }
}

#[test]
fn a_rule_covers_another_by_method_host_and_path_together() {
    let rule = |methods: &[&str], at: &str, to: &str| RoutePattern {
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        host: (!at.is_empty()).then(|| host(at)),
        path: (!to.is_empty()).then(|| path(to)),
    };
    let any = rule(&[], "", "");
    for (one, two, covers) in [
        (&any, &any, true),
        (&any, &rule(&["GET"], "a.b", "/"), true),
        (&rule(&["GET"], "", ""), &any, false),
        (
            &rule(&["GET", "PUT"], "", ""),
            &rule(&["PUT"], "", "/a"),
            true,
        ),
        (
            &rule(&["GET"], "", ""),
            &rule(&["GET", "PUT"], "", ""),
            false,
        ),
        (&rule(&[], "a.b", ""), &any, false),
        // CONNECT has no path.
        (&rule(&[], "", "/{*rest}"), &any, false),
    ] {
        assert_eq!(one.covers(two), covers, "{one:?} {two:?}");
    }
}
