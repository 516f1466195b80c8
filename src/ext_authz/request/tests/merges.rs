//! A message that comes in parts, out of order, with fields twice and fields that nobody knows, is read as `envoy-types`
//! reads it: another reading would be a way past whoever reads it the other way.

use proptest::collection::vec;
use proptest::strategy::Union;

use super::*;

type Wire = BoxedStrategy<Vec<u8>>;

/// A number, in more bytes than it needs.
fn varint(out: &mut Vec<u8>, mut number: u64, padding: usize) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    let last = u8::try_from(number).unwrap();
    match padding {
        0 => out.push(last),
        _ => {
            out.push(last | 0x80);
            out.extend(std::iter::repeat_n(0x80, padding - 1));
            out.push(0);
        }
    }
}

fn tagged(tag: u32, wire_type: u32, padding: usize) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, u64::from(tag << 3 | wire_type), padding);
    out
}

/// A text, bytes or a message.
fn field(tag: u32, inner: Wire) -> Wire {
    let encode = move |(bytes, tag_padding, len_padding): (Vec<u8>, usize, usize)| {
        let mut out = tagged(tag, 2, tag_padding);
        varint(&mut out, bytes.len() as u64, len_padding);
        [out, bytes].concat()
    };
    let padding = || prop_oneof![4 => Just(0_usize), 1 => 0..4_usize];
    (inner, padding(), padding()).prop_map(encode).boxed()
}

fn number(tag: u32) -> Wire {
    let encode = move |number: u8| {
        let mut out = tagged(tag, 0, 0);
        varint(&mut out, u64::from(number), 1);
        out
    };
    any::<u8>().prop_map(encode).boxed()
}

/// Fields of a later version: of every kind, groups within groups.
fn unknown() -> Wire {
    let text = || field(53, vec(any::<u8>(), 0..6).boxed());
    let group = vec(prop_oneof![text(), number(50)], 0..3).prop_map(|inner| {
        let inner = inner.concat();
        let nested = [tagged(1, 3, 0), inner.clone(), tagged(1, 4, 0)].concat();
        [tagged(54, 3, 0), inner, nested, tagged(54, 4, 1)].concat()
    });
    prop_oneof![
        text(),
        number(50),
        Just([tagged(51, 5, 0), vec![7; 4]].concat()),
        Just([tagged(52, 1, 0), vec![7; 8]].concat()),
        group,
    ]
    .boxed()
}

/// Any of the fields, each as often as it likes.
fn message(fields: Vec<Wire>) -> Wire {
    let known = Union::new(fields);
    let any = prop_oneof![6 => known, 1 => unknown()];
    vec(any, 0..6).prop_map(|all| all.concat()).boxed()
}

fn one_of(texts: &'static [&'static str]) -> Wire {
    let texts = prop::sample::select(texts);
    texts.prop_map(|text| text.as_bytes().to_vec()).boxed()
}

fn name() -> Wire {
    one_of(&[
        "x-api-key",
        "x_api_key",
        "x.api.key",
        "authorization",
        "cookie",
        ":method",
        "x-tenant-id",
        "x!tenant!id",
        "x~api~key~id",
        "connection",
        "content-type",
        "x-request-id",
        "x-http-method-override",
        "x-original-url",
        "x-other",
    ])
}

fn value() -> Wire {
    one_of(&[
        "",
        "K",
        "L",
        "Bearer K",
        "Bearer L",
        "api_key=K; a=b",
        "application/grpc",
        "x-tenant-id",
        "PUT",
        "/admin",
        "7c9e",
    ])
}

fn entry(key: Wire, value: Wire) -> Wire {
    message(vec![field(1, key), field(2, value)])
}

fn peer() -> Wire {
    let addresses = || one_of(&["", "192.0.2.1", "2001:db8::1", "nonsense"]);
    let socket = message(vec![number(1), field(2, addresses()), number(3)]);
    let named = || message(vec![field(1, one_of(&["", "/a"]))]);
    let address = message(vec![
        field(1, socket.clone()),
        field(1, socket),
        field(2, named()),
        field(3, named()),
    ]);
    message(vec![field(1, address), field(2, one_of(&["service"]))])
}

fn extension() -> Wire {
    let names = one_of(&[
        "keystile.mode",
        "keystile.mode",
        "keystile.scopes",
        "keystile.cost",
        "keystile.typo",
        "x",
    ]);
    entry(names, one_of(&["", "off", "optional", "read", "3"]))
}

fn checks() -> Wire {
    let line = message(vec![field(1, name()), field(2, value()), field(3, value())]);
    let map = message(vec![field(1, line)]);
    let http = message(vec![
        field(1, one_of(&["", "17", "18"])),
        field(2, one_of(&["", "GET", "POST"])),
        field(3, entry(name(), value())),
        field(4, one_of(&["", "/", "/?api_key=K", "/?api_key=L"])),
        field(5, one_of(&["", "a.b", "c.d"])),
        field(13, map.clone()),
        field(13, map),
    ]);
    let request = message(vec![field(2, http)]);
    let attributes = message(vec![
        field(1, peer()),
        field(2, peer()),
        field(4, request.clone()),
        field(4, request),
        field(10, extension()),
    ]);
    message(vec![field(1, attributes.clone()), field(1, attributes)])
}

fn settings() -> Settings {
    Settings {
        credentials: vec![
            CredentialSource::Header("x-api-key".into()),
            CredentialSource::Bearer("authorization".into()),
            CredentialSource::Query("api_key".into()),
            CredentialSource::Cookie("api_key".into()),
        ],
        ..Settings::default()
    }
}

/// How often each name is among the map's entries, which have no order: those of raw lines have one.
fn names_in_map(check: &CheckRequest) -> usize {
    let attributes = check.attributes.as_ref();
    let http = attributes.and_then(|all| all.request.as_ref()?.http.as_ref());
    http.map_or(0, |http| http.headers.len())
}

fn sorted<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

fn count_map_entries(wire: &[u8]) -> usize {
    let mut count = 0;
    fields(wire, |tag, attributes| match (tag, attributes) {
        (1, Field::Bytes(attributes)) => fields(attributes, |tag, request| match (tag, request) {
            (4, Field::Bytes(request)) => fields(request, |tag, http| match (tag, http) {
                (2, Field::Bytes(http)) => fields(http, |tag, _| {
                    count += usize::from(tag == 3);
                    Ok(())
                }),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
    .unwrap();
    count
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_parts_it_comes_in_a_message_is_read_as_protobuf_merges_it(wire in checks()) {
        let merged = CheckRequest::decode(wire.as_slice()).unwrap();
        let plain = merged.encode_to_vec();
        let settings = settings();
        let (parts, whole) = (Incoming::read(&wire, &settings).unwrap(), Incoming::read(&plain, &settings).unwrap());

        prop_assert_eq!(parts.source, whole.source);
        let target = |incoming: &Incoming<'_>| {
            let Target { method, authority, path } = incoming.target;
            [method.to_vec(), authority.to_vec(), path.to_vec()]
        };
        prop_assert_eq!(target(&parts), target(&whole));
        prop_assert_eq!(&parts.own, &whole.own);
        prop_assert_eq!(parts.bad_rule.is_some(), whole.bad_rule.is_some());
        prop_assert_eq!(&parts.rule, &whole.rule);

        // An entry of the map that comes twice is one to protobuf. To us it is two, which is never less safe.
        let credentials = (parts.finder.credential(), whole.finder.credential());
        if count_map_entries(&wire) > names_in_map(&merged) {
            for name in &whole.forged {
                prop_assert!(parts.forged.contains(name), "{}", name);
            }
            let same_or_refused = credentials.0 == Credential::Ambiguous || credentials.0 == credentials.1;
            prop_assert!(same_or_refused || credentials.1 == Credential::None, "{:?}", credentials);
            return Ok(());
        }
        prop_assert!(credentials.0 == credentials.1, "{:?}", credentials);
        prop_assert_eq!(sorted(&parts.forged), sorted(&whole.forged));
        prop_assert_eq!(sorted(&parts.key_headers), sorted(&whole.key_headers));
        prop_assert_eq!(parts.ambiguity.is_some(), whole.ambiguity.is_some());
        prop_assert_eq!(parts.overrides.methods.len(), whole.overrides.methods.len());
        prop_assert_eq!(parts.overrides.paths.len(), whole.overrides.paths.len());
        prop_assert_eq!(parts.filtered, whole.filtered);
    }
}

/// The rows that were read otherwise once.
#[test]
fn of_a_field_that_comes_twice_the_last_counts() {
    let put = |tag: u8, bytes: &[u8]| {
        [&[tag << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    };
    let read = |attributes: &[u8], check: fn(&Incoming<'_>) -> bool| {
        let message = put(1, attributes);
        check(&Incoming::read(&message, &Settings::default()).unwrap())
    };
    let line = |fields: &[(u8, &str)]| {
        let fields = fields.iter().map(|(tag, text)| put(*tag, text.as_bytes()));
        let header: Vec<u8> = fields.collect::<Vec<_>>().concat();
        put(4, &put(2, &put(13, &put(1, &header))))
    };
    let is_l = |incoming: &Incoming<'_>| incoming.finder.credential() == Credential::One(b"L");
    for fields in [
        &[(1, "x-api-key"), (3, "K"), (3, "L")][..],
        &[(1, "x-api-key"), (2, "K"), (2, "L")],
        &[(1, "x-api-key"), (2, "K"), (3, "L")],
        &[(1, "x-api-key"), (3, "L"), (2, "K")],
        &[(1, "x-other"), (3, "L"), (1, "x-api-key")],
    ] {
        assert!(read(&line(fields), is_l), "{fields:?}");
    }
    let emptied = [(1, "x-api-key"), (3, "K"), (3, "")];
    assert!(read(&line(&emptied), |incoming| incoming
        .finder
        .credential()
        == Credential::None));

    let socket = put(1, &put(2, b"192.0.2.1"));
    let peer = |addresses: &[&[u8]]| put(1, &put(1, &addresses.concat()));
    let (pipe, port) = (put(2, b""), put(1, &[0x18, 80]));
    for (addresses, is_known) in [
        (&[&socket[..]][..], true),
        (&[&socket, &port], true),
        (&[&socket, &pipe], false),
        (&[&socket, &pipe, &port], false),
        (&[&pipe, &socket], true),
    ] {
        let known = read(&peer(addresses), |incoming| incoming.source.is_some());
        assert_eq!(known, is_known, "{addresses:?}");
    }
}
