use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn shown(print: impl FnOnce(&mut Out) -> Result<(), Failure>) -> String {
    let sink = Sink::default();
    let mut out = Out {
        to: Box::new(sink.clone()),
        colours: false,
        terminal: false,
    };
    print(&mut out).unwrap();
    String::from_utf8(sink.0.lock().clone()).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn tenant() -> pb::Tenant {
    pb::Tenant {
        name: "tenants/acme".into(),
        tenant_id: "acme".into(),
        display_name: "Acme".into(),
        state: pb::TenantState::Active.into(),
        features: vec!["images".into()],
        create_time: Some(prost_types::Timestamp {
            seconds: 1_800_000_000,
            nanos: 5_000_000,
        }),
        ..pb::Tenant::default()
    }
}

fn key() -> pb::Key {
    pb::Key {
        name: "tenants/acme/keys/abcd2345".into(),
        key_id: "abcd2345".into(),
        tenant_id: "acme".into(),
        display_name: "ci".into(),
        owner: "alice".into(),
        role: pb::Role::TenantAdmin.into(),
        kind: pb::KeyKind::Live.into(),
        state: pb::KeyState::Active.into(),
        generation: 1,
        key_prefix: "ks_live_abcd".into(),
        ..pb::Key::default()
    }
}

#[test]
fn json_has_the_schemas_names_and_every_field() {
    let found = parsed(&shown(|out| one(out, Form::Json, &tenant())));
    assert_eq!(
        found,
        json!({
            "name": "tenants/acme",
            "tenant_id": "acme",
            "display_name": "Acme",
            "state": "TENANT_STATE_ACTIVE",
            "plan": "",
            "features": ["images"],
            "denied_features": [],
            "metadata": {},
            "create_time": "2027-01-15T08:00:00.005Z",
            "etag": "",
            "rate": "",
            "quota": "",
            "effective_limits": [],
            "effective_features": [],
        })
    );
}

#[test]
fn a_list_is_named_after_what_it_lists_even_when_it_is_empty() {
    let list = parsed(&shown(|out| many(out, Form::Json, &[key(), key()])));
    assert_eq!(list["keys"].as_array().unwrap().len(), 2);
    assert_eq!(list["keys"][0]["role"], "ROLE_TENANT_ADMIN");
    assert_eq!(list["keys"][0]["generation"], 1);
    let empty: [pb::Tenant; 0] = [];
    assert_eq!(
        parsed(&shown(|out| many(out, Form::Json, &empty))),
        json!({"tenants": []})
    );
    assert_eq!(shown(|out| many(out, Form::Table, &empty)), "no tenants\n");
    assert_eq!(shown(|out| many(out, Form::Name, &empty)), "");
}

#[test]
fn a_new_key_has_its_token_beside_it_and_not_in_it() {
    let found = parsed(&shown(|out| {
        created(out, Form::Json, &key(), "ks_live_x", ONCE)
    }));
    assert_eq!(found["plaintext"], "ks_live_x");
    assert_eq!(found["key"]["key_id"], "abcd2345");
    assert_eq!(found.as_object().unwrap().len(), 2);
    let text = shown(|out| created(out, Form::Table, &key(), "ks_live_x", ONCE));
    assert!(
        text.contains("\nks_live_x\n") && text.contains("shown this once"),
        "{text}"
    );
}

#[test]
fn names_are_one_a_line() {
    let names = shown(|out| many(out, Form::Name, &[tenant(), tenant()]));
    assert_eq!(names, "tenants/acme\ntenants/acme\n");
}

#[test]
fn a_table_has_a_heading_and_a_row_for_each() {
    let table = shown(|out| many(out, Form::Table, &[tenant()]));
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["TENANT", "NAME", "STATE", "PLAN", "FEATURES", "CREATED"],
            vec!["acme", "Acme", "active", "images", "2027-01-15T08:00:00Z"],
        ]
    );
}

#[test]
fn what_could_move_a_cursor_is_not_printed() {
    let hostile = pb::Tenant {
        display_name: "a\u{1b}[2Jb\r\n\u{202E}c".into(),
        ..tenant()
    };
    for form in [Form::Table, Form::Name] {
        let text = shown(|out| one(out, form, &hostile));
        assert!(!text.contains(['\u{1b}', '\r', '\u{202E}']), "{text:?}");
    }
}

#[test]
fn programs_get_the_whole_text_and_a_terminal_nothing_that_it_acts_on() {
    let text = "a\u{9b}2Jb\u{202e}c\u{61c}\u{feff}\u{e0041}";
    let hostile = pb::Tenant {
        display_name: text.into(),
        metadata: [(text.to_owned(), text.to_owned())].into(),
        ..tenant()
    };
    let json = shown(|out| one(out, Form::Json, &hostile));
    let yaml = shown(|out| one(out, Form::Yaml, &hostile));
    let table = shown(|out| one(out, Form::Table, &hostile));
    for shown in [&json, &yaml, &table] {
        let visible = |c| c == '\n' || crate::domain::text::is_printable(c);
        assert!(shown.chars().all(visible), "{shown:?}");
    }
    let yaml: Value = serde_saphyr::from_str(&yaml).unwrap();
    for found in [parsed(&json), yaml] {
        assert_eq!(found["display_name"], text);
        assert_eq!(found["metadata"][text], text);
    }
}

#[test]
fn a_narrow_terminal_breaks_neither_ids_nor_headers() {
    let (out, _) = Out::stdout().page();
    let row = [
        "bulk-customer-0017",
        "A customer with a long name",
        "x",
        "2026",
    ];
    let row = row.map(str::to_owned).to_vec();
    let mut table = table(&out, &["TENANT", "NAME", "FEATURES", "CREATED"], &[row]);
    let text = table.set_width(50).trim_fmt();
    for whole in ["bulk-customer-0017", "FEATURES", "CREATED"] {
        assert!(text.contains(whole), "{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 50), "{text}");
}
