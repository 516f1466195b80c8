//! `docs/API.md` is what the schemas say, up to its part on REST, which is written by hand (and held by
//! `rest/documented.rs`). `UPDATE_DOCS=1 cargo test --test it api_doc` writes it again.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use keystile::proto::FILE_DESCRIPTOR_SET;
use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};

const PACKAGE: &str = "keystile.admin.v1";

/// Where the part begins that is written by hand.
const BY_HAND: &str = "\n## REST\n";

const HEAD: &str = r#"# Admin API

gRPC first, then [REST](#rest). Up to there it is generated from `proto/keystile/admin/v1/`;
`UPDATE_DOCS=1 cargo test --test it api_doc` writes it again.

gRPC on `admin.listen` (default `127.0.0.1:9002`), with [reflection](https://grpc.io/docs/guides/reflection/) and
health. Clients: [`examples/python`](../examples/python), [`examples/admin_client.rs`](../examples/admin_client.rs),
and `keystile` itself.

- **Who calls:** an API key as `authorization: Bearer KEY` or `x-api-key: KEY`, exactly one; or, without
  one, a client certificate that `admin.client_roles` gives a role. A JWT in the key's place is accepted where
  `admin.strict_api_key_mode` is off ([OIDC.md](OIDC.md)). What a caller may not reach is NOT_FOUND, as if it
  did not exist. Nobody gives what they do not have.
- **Errors** carry a `google.rpc.ErrorInfo` of the domain `keystile` with a stable reason, and a
  `google.rpc.BadRequest` with the path of each field that is not acceptable. UNAVAILABLE carries a `RetryInfo`.
- **Etags** change with every change of a resource. Send one back to be refused, with ABORTED, when somebody else was
  faster.
- **Repeating:** a create or a rotation with a `request_id` can be sent again until it is answered. The same caller gets
  the first answer, for 24 hours at least.
- **Lists** come in the order of ids, a page at a time. A page can be shorter than asked and not be the last: only an
  empty `next_page_token` ends the list. What is there from the first page to the last is seen once.
- **Bounds:** a request is at most 2 MiB, a batch at most 1000. A call ends at its deadline (`grpc-timeout`);
  what was begun may still be done.

| reason | code | what happened |
|---|---|---|
| `MISSING_API_KEY`, `INVALID_API_KEY`, `API_KEY_EXPIRED` | UNAUTHENTICATED | no key, not a valid one, or one past its expiry |
| `INVALID_JWT`, `JWT_EXPIRED` | UNAUTHENTICATED | where JWTs are accepted: not a valid one for us, or one past its expiry |
| `TENANT_SUSPENDED` | PERMISSION_DENIED | the caller's tenant is suspended |
| `PERMISSION_DENIED` | PERMISSION_DENIED | the caller's role does not allow it |
| `AMBIGUOUS_REQUEST` | INVALID_ARGUMENT | more than one key was sent |
| `INVALID_FIELD` | INVALID_ARGUMENT | fields are not acceptable; `BadRequest` names them |
| `REQUEST_ID_REUSED` | INVALID_ARGUMENT | the request id was used for something else |
| `MALFORMED_REQUEST` | INVALID_ARGUMENT | the bytes are no message of the method |
| `MESSAGE_TOO_LARGE` | OUT_OF_RANGE | the message is larger than 2 MiB |
| `TENANT_NOT_FOUND`, `KEY_NOT_FOUND` | NOT_FOUND | it is not there, or not for the caller |
| `TENANT_ALREADY_EXISTS`, `KEY_ALREADY_EXISTS` | ALREADY_EXISTS | the id, or the token, is taken |
| `KEY_REVOKED` | FAILED_PRECONDITION | a revoked key does not change any more |
| `KEY_EXPIRED` | FAILED_PRECONDITION | an expired key is renewed before it is rotated |
| `TOKEN_REVOKED`, `TOKEN_EXPIRED`, `TOKEN_PAUSED`, `TOKEN_IN_USE` | ALREADY_EXISTS | a token to be imported is that of a key, the `name` in the metadata, and does not work as asked |
| `TOKEN_NOT_KEPT` | FAILED_PRECONDITION | the request was done before, and the token that it made cannot be shown again |
| `NOTHING_TO_CLAIM`, `ALREADY_CLAIMED` | FAILED_PRECONDITION | no token waits for the holder of this one, or it was given out before |
| `ETAG_MISMATCH` | ABORTED | somebody else was faster |
| `API_KEY_LIMIT_EXCEEDED` | RESOURCE_EXHAUSTED | one more key would be too many; the metadata has `scope`, `limit`, `current`, `role`, `source` |
| `API_KEY_EXPIRY_INVALID` | INVALID_ARGUMENT | the key may not have this expiry; the metadata has `min_expiry_days`, `max_expiry_days`, `enforce_expiry` |
| `API_KEYS_DISABLED` | FAILED_PRECONDITION | `api_keys.enabled` is false: no key can be made |
| `TENANT_OVERRIDE_DISABLED`, `ADMIN_OVERRIDE_DISABLED` | PERMISSION_DENIED | the configuration lets tenant admins, or nobody, change limits at run time |
| `DEADLINE_EXCEEDED` | DEADLINE_EXCEEDED | the caller's deadline is exceeded |
| `UNIMPLEMENTED` | UNIMPLEMENTED | there is no such method |
| `STORE_UNAVAILABLE`, `AUTHORIZATION_UNAVAILABLE` | UNAVAILABLE | try again |
| `INTERNAL` | INTERNAL | we failed; the cause is in the server's log |
"#;

fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let locations = &info.expect("the descriptors have comments").location;
    let own = locations.iter().find(|location| location.path == path);
    let text = own
        .map(|own| own.leading_comments().to_owned())
        .unwrap_or_default();
    text.lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("\n")
        .trim()
        .to_owned()
}

/// For a cell of a table.
fn one_line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

fn anchor(name: &str) -> String {
    format!("[`{name}`](#{})", name.to_lowercase())
}

fn type_name(field: &FieldDescriptor) -> String {
    let scalar = match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let value = entry.map_entry_value_field();
            return format!("map of string to {}", type_name(&value));
        }
        Kind::Message(message) if message.package_name() == PACKAGE => anchor(message.name()),
        Kind::Message(message) => format!("`{}`", message.full_name()),
        Kind::Enum(kind) => anchor(kind.name()),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    if field.is_list() {
        format!("list of {scalar}")
    } else {
        scalar
    }
}

fn fields(out: &mut String, message: &MessageDescriptor) {
    if message.fields().len() == 0 {
        return;
    }
    out.push_str("\n| field | type | |\n|---|---|---|\n");
    for field in message.fields() {
        let text = one_line(&comment(&message.parent_file(), field.path()));
        let oneof = field
            .containing_oneof()
            .map(|oneof| format!("*One of `{}`.* ", oneof.name()));
        let (name, kind) = (field.name(), type_name(&field));
        writeln!(
            out,
            "| `{name}` | {kind} | {}{text} |",
            oneof.unwrap_or_default()
        )
        .unwrap();
    }
}

fn rpc(out: &mut String, method: &MethodDescriptor) {
    let file = method.parent_service().parent_file();
    let output = method.output();
    writeln!(
        out,
        "\n### {}\n\n{}",
        method.name(),
        comment(&file, method.path())
    )
    .unwrap();
    writeln!(out, "\nRequest `{}`:", method.input().name()).unwrap();
    fields(out, &method.input());
    if output.name() == format!("{}Response", method.name()) {
        writeln!(out, "\nAnswer `{}`:", output.name()).unwrap();
        fields(out, &output);
    } else if output.package_name() == PACKAGE {
        writeln!(out, "\nAnswer: {}", anchor(output.name())).unwrap();
    } else {
        writeln!(out, "\nAnswer: nothing.").unwrap();
    }
}

fn service(out: &mut String, service: &ServiceDescriptor) {
    let about = comment(&service.parent_file(), service.path());
    writeln!(out, "\n## {}\n\n{about}", service.name()).unwrap();
    for method in service.methods() {
        rpc(out, &method);
    }
}

fn enumeration(out: &mut String, kind: &EnumDescriptor) {
    let file = kind.parent_file();
    writeln!(
        out,
        "\n### {}\n\n{}",
        kind.name(),
        comment(&file, kind.path())
    )
    .unwrap();
    out.push_str("\n| value | number | |\n|---|---|---|\n");
    for value in kind.values() {
        let text = one_line(&comment(&file, value.path()));
        writeln!(out, "| `{}` | {} | {text} |", value.name(), value.number()).unwrap();
    }
}

fn document() -> String {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut out = HEAD.to_owned();
    let mut shown = BTreeSet::new();
    for one in pool.services().filter(|one| one.package_name() == PACKAGE) {
        for method in one.methods() {
            shown.insert(method.input().full_name().to_owned());
            shown.insert(format!("{PACKAGE}.{}Response", method.name()));
        }
        service(&mut out, &one);
    }
    out.push_str("\n## Messages\n");
    let ours = pool
        .all_messages()
        .filter(|message| message.package_name() == PACKAGE);
    for message in
        ours.filter(|message| !message.is_map_entry() && !shown.contains(message.full_name()))
    {
        let about = comment(&message.parent_file(), message.path());
        writeln!(out, "\n### {}\n\n{about}", message.name()).unwrap();
        fields(&mut out, &message);
    }
    out.push_str("\n## Enums\n");
    for kind in pool
        .all_enums()
        .filter(|kind| kind.package_name() == PACKAGE)
    {
        enumeration(&mut out, &kind);
    }
    out
}

#[test]
fn the_api_document_is_what_the_schemas_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/API.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let by_hand = &written[written.find(BY_HAND).expect("a part on REST")..];
    let current = document() + by_hand;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == current,
        "docs/API.md is old: UPDATE_DOCS=1 cargo test --test it api_doc writes it again"
    );
}

#[test]
fn everything_of_the_schemas_is_explained() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut silent = Vec::new();
    let mut check = |name: &str, file: &FileDescriptor, path: &[i32]| {
        if comment(file, path).is_empty() {
            silent.push(name.to_owned());
        }
    };
    for one in pool.services().filter(|one| one.package_name() == PACKAGE) {
        check(one.full_name(), &one.parent_file(), one.path());
        for method in one.methods() {
            check(method.full_name(), &one.parent_file(), method.path());
        }
    }
    let ours = pool
        .all_messages()
        .filter(|message| message.package_name() == PACKAGE);
    for message in ours.filter(|message| !message.is_map_entry()) {
        check(message.full_name(), &message.parent_file(), message.path());
        for field in message.fields() {
            check(field.full_name(), &message.parent_file(), field.path());
        }
    }
    for kind in pool
        .all_enums()
        .filter(|kind| kind.package_name() == PACKAGE)
    {
        for value in kind.values() {
            check(value.full_name(), &kind.parent_file(), value.path());
        }
    }
    assert_eq!(silent, Vec::<String>::new());
}
