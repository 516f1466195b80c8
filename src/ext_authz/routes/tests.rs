use proptest::prelude::*;

use super::*;

/// `METHODS HOST PATH`, with `-` for any; ` shadow` at the end.
fn rule(text: &str) -> RouteRule {
    let words: Vec<&str> = text.split(' ').collect();
    let [methods, host, path, ..] = words[..] else {
        panic!("not a rule: {text}");
    };
    let given = |word| Some(word).filter(|word| *word != "-");
    RouteRule {
        pattern: RoutePattern {
            methods: given(methods)
                .into_iter()
                .flat_map(|list: &str| list.split(','))
                .map(str::to_owned)
                .collect(),
            host: given(host).map(|host| host.parse().unwrap()),
            path: given(path).map(|path| path.parse().unwrap()),
        },
        mode: Mode::Required,
        features: String::new(),
        scopes: String::new(),
        cost: 1,
        shadow: words.len() > 3,
    }
}

fn routes(rules: &[&str]) -> Routes {
    settled(&RouteSettings::default(), rules)
}

fn settled(settings: &RouteSettings, rules: &[&str]) -> Routes {
    let rules = rules.iter().map(|text| rule(text)).collect();
    Routes::new(RouteSettings {
        rules,
        ..settings.clone()
    })
    .unwrap()
}

fn find(
    routes: &Routes,
    method: &str,
    host: &[u8],
    path: &[u8],
) -> Result<Matched<usize>, &'static str> {
    let target = Target {
        method: method.as_bytes(),
        authority: host,
        path,
    };
    let found = routes.find(&target, &Overrides::default());
    found.map(|found| found.matched)
}

#[test]
fn the_first_rule_that_matches_decides() {
    let routes = routes(&[
        "GET - /v1/images/{id}",
        "- *.example.com /v1/images/{id}",
        "- - /v1/images/latest shadow",
        "- - /v1/images/{*rest}",
        "PUT,POST - -",
        "- - /v1/{*rest} shadow",
        "- - /v1/{*rest}",
        "- - /",
        "CONNECT - -",
    ]);
    for (method, host, path, enforced, shadow) in [
        ("GET", "x", "/v1/images/7?a=/v1", Some(0), None),
        ("GET", "x", "/v1/images/latest/", Some(0), None),
        ("HEAD", "x", "/v1/images/latest", Some(3), Some(2)),
        (
            "HEAD",
            "a.example.com:8443",
            "/v1/images/latest",
            Some(1),
            None,
        ),
        ("HEAD", "A.EXAMPLE.com.", "/v1/images/7", Some(1), None),
        ("HEAD", "example.com", "/v1/images/7/x/y", Some(3), None),
        ("GET", "x", "/v1/images", Some(3), None),
        ("PUT", "x", "/v1", Some(4), None),
        ("GET", "x", "/v1/", Some(6), Some(5)),
        ("GET", "x", "/v12", None, None),
        ("GET", "x", "/V1/a", None, None),
        ("GET", "x", "/", Some(7), None),
        ("POST", "x", "/?/v1", Some(4), None),
        ("CONNECT", "x:443", "", Some(8), None),
    ] {
        let found = find(&routes, method, host.as_bytes(), path.as_bytes()).unwrap();
        assert_eq!(
            found,
            Matched { enforced, shadow },
            "{method} {host} {path}"
        );
    }
}

/// The rows of paths that differ between what is checked and what an upstream reads; none may be matched.
#[test]
fn a_path_that_can_be_read_in_two_ways_is_refused() {
    let routes = routes(&["GET - /v1/images:batch", "- - /v1/a,b/{id}"]);
    let rows: &[(&[u8], &str)] = &[
        (b"/open/../admin", "dot segment"),
        (b"/open/./admin", "dot segment"),
        (b"/open/..", "dot segment"),
        (b"/..", "dot segment"),
        (b"/.?x", "dot segment"),
        (b"/open/%2e%2e/admin", "needs no encoding"),
        (b"/open/.%2E/admin", "needs no encoding"),
        (b"/open/..;/admin", "semicolon"),
        (b"/open/..%2fadmin", "encoded slash"),
        (b"/a%2Fb", "encoded slash"),
        (b"/a%5cb", "encoded backslash"),
        (b"/a\\b", "backslash"),
        (b"//admin", "two slashes"),
        (b"/a//b", "two slashes"),
        (b"/a//", "two slashes"),
        (b"//", "two slashes"),
        (b"/a;x=1/b", "semicolon"),
        (b"/a%3Bx=1/b", "encoded semicolon"),
        (b"/x#frag", "fragment"),
        (b"/x?a#frag", "fragment"),
        (b"/%00", "encoded control"),
        (b"/a%0d%0ab", "encoded control"),
        (b"/a%7f", "encoded control"),
        (b"/a\0b", "control character"),
        (b"/a b", "control character or a space"),
        (b"/a\tb", "control character"),
        (b"/a\x7f", "control character"),
        ("/\u{fc}".as_bytes(), "not ASCII"),
        (b"/\xff", "not ASCII"),
        (b"/a%", "broken percent"),
        (b"/a%2", "broken percent"),
        (b"/a%zz", "broken percent"),
        (b"/a%+1", "broken percent"),
        (b"/a%252fb", "encoded twice"),
        (b"/%61dmin", "needs no encoding"),
        (b"/a%7Eb", "needs no encoding"),
        (b"/v1/images%3Abatch", "rules look for"),
        (b"/v1/a%2Cb/7", "rules look for"),
        (b"/a%c0%afb", "not UTF-8"),
        (b"/a%ffb", "not UTF-8"),
        (b"*", "begin with a slash"),
        (b"http://other.example/abs", "begin with a slash"),
        (b"?x", "begin with a slash"),
        (b"", "begin with a slash"),
    ];
    for (path, expected) in rows {
        let path_text = String::from_utf8_lossy(path);
        let why = find(&routes, "GET", b"x", path).unwrap_err();
        assert!(why.contains(expected), "{path_text}: {why}");
    }
    // Opaque to every reader, and so to the rules.
    for path in [
        "/ADMIN",
        "/x%23f",
        "/x%3Fy",
        "/users/alice%40example.com",
        "/a%20b/%C3%BC",
        "/100%25",
        "/a/b/",
        "/a?x=//../%2f;",
        "/{id}|^",
        "/.well-known/..x",
    ] {
        assert_eq!(
            find(&routes, "GET", b"x", path.as_bytes()),
            Ok(Matched::default()),
            "{path}"
        );
    }
}

#[test]
fn paths_and_hosts_are_read_only_where_a_rule_has_one() {
    let hosts = routes(&["- a.b -"]);
    assert_eq!(
        find(&hosts, "GET", b"a.b", b"//x;").unwrap().enforced,
        Some(0)
    );
    for odd in [
        "user@a.b", "a.b,c", "a..b", "", ".", "a.b:", "a.b:8x", "a b", "\u{fc}.b", "[::1", "[x]:1",
    ] {
        assert!(find(&hosts, "GET", odd.as_bytes(), b"/").is_err(), "{odd}");
    }
    for other in ["[::1]:80", "[2001:db8::1]", "a_b.c", "127.0.0.1:1"] {
        assert_eq!(
            find(&hosts, "GET", other.as_bytes(), b"/"),
            Ok(Matched::default()),
            "{other}"
        );
    }
    let paths = routes(&["- - /x"]);
    assert_eq!(
        find(&paths, "GET", b"user@a,b", b"/x").unwrap().enforced,
        Some(0)
    );
    let methods = routes(&["GET - -"]);
    assert_eq!(find(&methods, "GET", b"@", b"*").unwrap().enforced, Some(0));
}

#[test]
fn with_rules_for_methods_a_method_is_one_that_every_reader_knows() {
    let with = routes(&["POST - -", "M-SEARCH - -"]);
    for method in [
        "post", "Post", "pOST", "get", "", "FOO", "POST ", "P_OST", "POSTS", "\u{fc}", "*",
    ] {
        let why = find(&with, method, b"x", b"/").unwrap_err();
        assert!(why.contains("method"), "{method}: {why}");
        assert!(
            find(&routes(&["- - /x"]), method, b"x", b"/").is_ok(),
            "{method}"
        );
    }
    for method in [
        "POST",
        "GET",
        "PROPFIND",
        "VERSION-CONTROL",
        "QUERY",
        "M-SEARCH",
    ] {
        assert!(find(&with, method, b"x", b"/").is_ok(), "{method}");
    }
}

/// Method, path, what the header asks for; which rule it falls under by each policy.
#[test]
fn a_request_for_another_method_is_matched_by_what_the_operator_says() {
    let rules = ["PUT,DELETE - -", "POST - -", "GET,HEAD - -"];
    let by = |policy, (method, path, asked): (&str, &str, &[&str])| {
        let routes = settled(
            &RouteSettings {
                method_override: policy,
                ..RouteSettings::default()
            },
            &rules,
        );
        let target = Target {
            method: method.as_bytes(),
            authority: b"x",
            path: path.as_bytes(),
        };
        let overrides = Overrides {
            methods: asked.iter().map(|text| text.as_bytes()).collect(),
            ..Overrides::default()
        };
        let found = routes.find(&target, &overrides);
        found.map(|found| found.matched.enforced).ok().flatten()
    };
    for (request, refused, honoured, ignored) in [
        (("POST", "/", &[][..]), Some(1), Some(1), Some(1)),
        (("POST", "/", &["", "POST"]), Some(1), Some(1), Some(1)),
        (("POST", "/", &["DELETE"]), None, Some(0), Some(1)),
        (("POST", "/", &["delete"]), None, Some(0), Some(1)),
        (("POST", "/", &["DELETE", "PUT"]), None, None, Some(1)),
        (("POST", "/", &["DELETE,PUT"]), None, None, Some(1)),
        (("POST", "/", &["GET"]), None, None, Some(1)),
        (("POST", "/", &["post"]), None, None, Some(1)),
        (("DELETE", "/", &["GET"]), None, None, Some(0)),
        (("GET", "/", &["DELETE"]), None, None, Some(2)),
        (("POST", "/?_method=DELETE", &[]), None, Some(0), Some(1)),
        (("POST", "/?a&%5fmethod=put", &[]), None, Some(0), Some(1)),
        (
            ("POST", "/?X-HTTP-Method-Override=PUT", &[]),
            None,
            Some(0),
            Some(1),
        ),
        (
            ("POST", "/?_method=DELETE&_method=PUT", &[]),
            None,
            None,
            Some(1),
        ),
        (("POST", "/?a=1;_method=PUT", &[]), None, Some(0), Some(1)),
        // As PHP reads them.
        (("POST", "/?%20_method=PUT", &[]), None, Some(0), Some(1)),
        (("POST", "/?+_method=PUT", &[]), None, Some(0), Some(1)),
        (("POST", "/?a&.method=PUT", &[]), None, Some(0), Some(1)),
        (("POST", "/?[method=PUT", &[]), None, Some(0), Some(1)),
        (("POST", "/?_method%00x=PUT", &[]), None, Some(0), Some(1)),
        (("POST", "/?_method[]=PUT", &[]), None, Some(0), Some(1)),
        (("POST", "/?_method%5Bx]=PUT", &[]), None, Some(0), Some(1)),
        (("POST", "/?a_method=PUT", &[]), Some(1), Some(1), Some(1)),
        (("POST", "/?a[_method]=PUT", &[]), Some(1), Some(1), Some(1)),
        (("POST", "/?_methods=PUT", &[]), Some(1), Some(1), Some(1)),
        (("POST", "/?=PUT", &[]), Some(1), Some(1), Some(1)),
        (("GET", "/?_method=", &[]), Some(2), Some(2), Some(2)),
        (("GET", "/_method=PUT", &[]), Some(2), Some(2), Some(2)),
    ] {
        for (policy, expected) in [
            (None, refused),
            (Some(MethodOverride::Refuse), refused),
            (Some(MethodOverride::Honour), honoured),
            (Some(MethodOverride::Ignore), ignored),
        ] {
            assert_eq!(by(policy, request), expected, "{request:?} {policy:?}");
        }
    }
}

#[test]
fn overrides_are_refused_without_a_rule_that_they_could_pass_only_when_told_to() {
    let overrides = Overrides {
        methods: vec![b"PUT"],
        paths: vec![b"/admin"],
    };
    let target = Target {
        method: b"GET",
        authority: b"x",
        path: b"/x",
    };
    let refuse = RouteSettings {
        method_override: Some(MethodOverride::Refuse),
        ..RouteSettings::default()
    };
    assert!(Routes::new(RouteSettings::default()).is_none());
    assert!(
        Routes::new(refuse)
            .unwrap()
            .find(&target, &overrides)
            .is_err()
    );
    assert!(
        routes(&["- a.b -"])
            .find(
                &Target {
                    authority: b"a.b",
                    ..target
                },
                &overrides
            )
            .is_ok()
    );
    assert!(
        routes(&["- - /x"]).find(&target, &overrides).is_err(),
        "the path"
    );
    let ignore = RouteSettings {
        path_override: Some(PathOverride::Ignore),
        ..RouteSettings::default()
    };
    assert!(
        settled(&ignore, &["- - /x"])
            .find(&target, &overrides)
            .is_ok()
    );
    for (asked, refused) in [
        ("", false),
        ("/x", false),
        ("/x?y", false),
        ("https://api.test/x", false),
        ("/X", true),
        ("/x/", true),
        ("x", true),
        ("https://api.test", true),
        ("https://api.test/admin", true),
        ("/a://b/x", true),
    ] {
        let overrides = Overrides {
            paths: vec![asked.as_bytes()],
            ..Overrides::default()
        };
        assert_eq!(
            routes(&["- - /x"]).find(&target, &overrides).is_err(),
            refused,
            "{asked}"
        );
    }
}

/// Path, and the rules that another spelling of it falls under.
#[test]
fn another_spelling_of_a_path_is_noticed() {
    let strict = RouteSettings {
        refuse_variants: true,
        ..RouteSettings::default()
    };
    let routes = settled(
        &strict,
        &[
            "- - /health",
            "- - /admin/{*rest}",
            "POST - /v1/images/{id}",
            "- - /v1/Reports.csv",
            "- - /v1/{a}/b shadow",
            "- - /{*rest}",
        ],
    );
    for (path, near) in [
        ("/admin/1", &[][..]),
        ("/ADMIN/1", &[1]),
        ("/admin./1", &[1]),
        ("/admin%20/1", &[1]),
        ("/Admin", &[1]),
        ("/admin.json", &[1]),
        ("/Health", &[0]),
        ("/health%3Fx", &[0]),
        ("/v1/images/Abc.png", &[]),
        ("/v1/IMAGES/Abc.png", &[2]),
        ("/v1/reports.csv", &[3]),
        ("/v1/Reports.csv", &[]),
        ("/V1/x/b", &[]),
        ("/x/y.z", &[]),
        ("/", &[]),
    ] {
        let target = Target {
            method: b"POST",
            authority: b"x",
            path: path.as_bytes(),
        };
        let found = routes.find(&target, &Overrides::default()).unwrap();
        assert_eq!(found.near, near, "{path}");
        let lenient = super::tests::routes(&["- - /admin/{*rest}"]);
        let found = lenient.find(&target, &Overrides::default()).unwrap();
        assert!(
            found.near.is_empty(),
            "{path}: not unless it is switched on"
        );
    }
}

/// What `matches` says of one rule, told without a router.
fn obviously(rule: &RouteRule, method: &str, host: &str, path: Option<&str>) -> bool {
    let pattern = &rule.pattern;
    let fits = |template: &PathTemplate| {
        let Some(path) = path else { return false };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let own = template.segments();
        let enough = if template.is_open() {
            parts.len() >= own.len()
        } else {
            parts.len() == own.len()
        };
        enough
            && own.iter().zip(parts).all(|(own, part)| match own {
                Segment::Text(text) => text == part,
                Segment::Any => true,
            })
    };
    (pattern.methods.is_empty() || pattern.methods.iter().any(|known| known == method))
        && pattern
            .host
            .as_ref()
            .is_none_or(|known| known.matches(host.as_bytes()))
        && pattern.path.as_ref().is_none_or(fits)
}

proptest! {
    #[test]
    fn the_router_finds_what_reading_the_list_finds(
        rules in prop::collection::vec(
            ("(GET|PUT|GET,PUT|-)", "(-|-|a\\.b|\\*\\.b)", "(-|/|(/(a|b|\\{x\\})){1,3}(/\\{\\*r\\})?|/\\{\\*r\\})", "(| shadow)"),
            1..12,
        ),
        requests in prop::collection::vec(
            ("(GET|PUT|CONNECT)", "(a\\.b|b|c\\.a\\.b)", "(|/|(/(a|b|c)){1,4}/?)"),
            1..20,
        ),
    ) {
        let rules: Vec<RouteRule> = rules
            .iter()
            .map(|(methods, host, path, shadow)| rule(&format!("{methods} {host} {path}{shadow}")))
            .collect();
        let routes = Routes::new(RouteSettings { rules: rules.clone(), ..RouteSettings::default() }).unwrap();
        for (method, host, path) in &requests {
            let found = find(&routes, method, host.as_bytes(), path.as_bytes());
            let no_path = path.is_empty();
            let reads_paths = rules.iter().any(|rule| rule.pattern.path.is_some());
            if no_path && reads_paths && method != "CONNECT" {
                prop_assert!(found.is_err());
                continue;
            }
            let path = Some(path.as_str()).filter(|_| !no_path);
            let takes = |rule: &RouteRule| obviously(rule, method, host, path);
            let enforced = rules.iter().position(|rule| !rule.shadow && takes(rule));
            let shadow = rules.iter().position(|rule| rule.shadow && takes(rule));
            let shadow = shadow.filter(|at| enforced.is_none_or(|enforced| *at < enforced));
            prop_assert_eq!(found, Ok(Matched { enforced, shadow }));
        }
    }
}
