//! Every input field of every request against every hostile value of its type, taken from the descriptors: a new
//! field is attacked without a line here.

use keystile::proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MethodDescriptor,
    Value,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::server::AdminServer;
use super::{ROOT, create_key, server};

/// Fields that a method does not read though they are no output of every other.
const NOT_READ: &[(&str, &[&str])] = &[
    ("CreateTenant", &["tenant.name", "tenant.etag"]),
    (
        "BatchCreateTenants",
        &["requests.tenant.name", "requests.tenant.etag"],
    ),
    ("CreateKey", &["key.name", "key.etag"]),
    (
        "BatchCreateKeys",
        &["requests.key.name", "requests.key.etag"],
    ),
    ("ImportKeys", &["requests.key.name", "requests.key.etag"]),
    (
        "UpdateKey",
        &[
            "key.owner",
            "key.role",
            "key.kind",
            "key.expire_time.seconds",
            "key.expire_time.nanos",
            "key.ttl.seconds",
            "key.ttl.nanos",
        ],
    ),
];

/// Requests that are right but for what the test changes, in proto3 JSON.
fn right_request(method: &str, key: &str) -> String {
    let name = format!("tenants/platform/keys/{key}");
    match method {
        "CreateTenant" => r#"{"tenantId": "acme"}"#.into(),
        "BatchCreateTenants" => r#"{"requests": [{"tenantId": "acme"}]}"#.into(),
        "GetTenant" | "SuspendTenant" | "ResumeTenant" => r#"{"name": "tenants/platform"}"#.into(),
        "DeleteTenant" => r#"{"name": "tenants/platform", "etag": "ff-1"}"#.into(),
        "ClaimKey" | "RevokeSelf" | "ListTenants" | "ListSidecars" | "ListBlocks" => "{}".into(),
        "ClearBlocks" => r#"{"source": "192.0.2.1"}"#.into(),
        "UpdateTenant" => {
            r#"{"tenant": {"name": "tenants/platform", "displayName": "x"}, "updateMask": "*"}"#
                .into()
        }
        "CreateKey" => {
            r#"{"parent": "tenants/platform", "key": {"displayName": "x", "owner": "alice"}}"#
                .into()
        }
        "BatchCreateKeys" => r#"{"parent": "tenants/-", "requests":
                [{"parent": "tenants/platform", "key": {"displayName": "x", "owner": "alice"}}]}"#
            .into(),
        "ImportKeys" => r#"{"parent": "tenants/-", "requests": [{"parent": "tenants/platform",
                "token": "0123456789abcdef", "key": {"displayName": "x", "owner": "alice"}}]}"#
            .into(),
        "RenewKey" => format!(r#"{{"name": "{name}", "expireTime": "2100-01-01T00:00:00Z"}}"#),
        "GetKey" | "PauseKey" | "ResumeKey" | "RevokeKey" | "RotateKey" | "RevealKey" => {
            format!(r#"{{"name": "{name}"}}"#)
        }
        "ListKeys" => r#"{"parent": "tenants/platform"}"#.into(),
        "UpdateKey" => {
            format!(r#"{{"key": {{"name": "{name}", "displayName": "x"}}, "updateMask": "*"}}"#)
        }
        "RevokeAllKeys" => r#"{"parent": "tenants/platform", "owner": "nobody"}"#.into(),
        "GetKeyLimits" => r#"{"name": "tenants/platform/keyLimits"}"#.into(),
        "UpdateKeyLimits" => {
            r#"{"keyLimits": {"name": "tenants/platform/keyLimits"}, "updateMask": "*"}"#.into()
        }
        "GetSystemConfig" => "{}".into(),
        "RevokeToken" => r#"{"token": "0123456789abcdef"}"#.into(),
        "VerifyKey" => r#"{"token": "0123456789abcdef"}"#.into(),
        other => panic!("{other} needs a right request here"),
    }
}

/// What must be refused wherever it stands.
fn hostile(field: &FieldDescriptor) -> Vec<Value> {
    let texts = [
        "a\0b",
        "a\nb",
        "\u{7f}",
        "a\u{202E}b",
        "\u{200B}",
        "tenants/../x\r",
    ];
    match field.kind() {
        Kind::String => {
            let long = "x".repeat(1 << 20);
            let texts = texts.iter().map(|text| (*text).to_owned()).chain([long]);
            texts.map(Value::String).collect()
        }
        Kind::Enum(_) => [99, -1, i32::MAX, i32::MIN].map(Value::EnumNumber).into(),
        Kind::Uint32 => [0, 100_001, u32::MAX].map(Value::U32).into(),
        Kind::Int32 => [-1, i32::MIN].map(Value::I32).into(),
        Kind::Int64 => [i64::MIN, i64::MAX, 253_402_300_800].map(Value::I64).into(),
        Kind::Bool | Kind::Message(_) => Vec::new(),
        other => panic!("{other:?} needs hostile values here"),
    }
}

/// What may be right in one place and wrong in another, and harmful in none.
fn doubtful(field: &FieldDescriptor) -> Vec<Value> {
    let texts = [
        "аcme",
        "ａｃｍｅ",
        "tenants/аcme",
        "%00",
        "'; --",
        "-",
        "tenants/-",
        "NaN",
    ];
    match field.kind() {
        Kind::String => texts.map(|text| Value::String(text.into())).into(),
        Kind::Int32 => [0, i32::MAX].map(Value::I32).into(),
        Kind::Int64 => [-1, 0].map(Value::I64).into(),
        Kind::Enum(_) => [0, 1].map(Value::EnumNumber).into(),
        _ => Vec::new(),
    }
}

fn is_output(field: &FieldDescriptor) -> bool {
    let file = field.parent_file();
    // The well-known types come without their comments; none of their fields is ours to fill.
    if file.package_name() != "keystile.admin.v1" {
        return false;
    }
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let locations = &info.expect("the descriptors have comments").location;
    let own = locations
        .iter()
        .find(|location| location.path == field.path());
    let comment = own
        .map(|own| own.leading_comments().to_owned())
        .unwrap_or_default();
    comment.contains("Output only") && !comment.contains("except in an update")
}

/// The ways to every scalar field of a message that a caller may set.
fn paths(message: &prost_reflect::MessageDescriptor) -> Vec<Vec<FieldDescriptor>> {
    let mut out = Vec::new();
    for field in message.fields().filter(|field| !is_output(field)) {
        match field.kind() {
            Kind::Message(inner) if !field.is_map() => {
                for mut rest in paths(&inner) {
                    rest.insert(0, field.clone());
                    out.push(rest);
                }
            }
            _ => out.push(vec![field]),
        }
    }
    out
}

fn text_of(path: &[FieldDescriptor]) -> String {
    let names: Vec<_> = path.iter().map(FieldDescriptor::name).collect();
    names.join(".")
}

/// Puts the value at the end of the path; into the first element of a list, as the key of one entry of a map and the value of another.
fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], value: &Value) {
    let (field, rest) = path.split_first().unwrap();
    if !rest.is_empty() {
        match message.get_field_mut(field) {
            Value::Message(inner) => set(inner, rest, value),
            Value::List(list) => match &mut list[0] {
                Value::Message(inner) => set(inner, rest, value),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        return;
    }
    let value = match field.cardinality() {
        Cardinality::Repeated if field.is_map() => {
            let text = value.as_str().unwrap_or_default().to_owned();
            let (name, ok) = (text.chars().take(64).collect(), Value::String("ok".into()));
            let entries = [
                (MapKey::String(name), ok),
                (MapKey::String("k".into()), value.clone()),
            ];
            Value::Map(entries.into())
        }
        Cardinality::Repeated => Value::List(vec![value.clone()]),
        Cardinality::Optional | Cardinality::Required => value.clone(),
    };
    message.set_field(field, value);
}

/// Fields of maps are entries: their values are attacked like strings.
fn attacked(field: &FieldDescriptor) -> FieldDescriptor {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field(),
        _ => field.clone(),
    }
}

/// The answer; an error inside a batch as the error of the call.
async fn send(
    server: &AdminServer,
    method: &MethodDescriptor,
    request: &DynamicMessage,
) -> Result<(), Status> {
    let service = method.parent_service().full_name().to_owned();
    let path = format!("/{service}/{}", method.name());
    let caller = match method.name() {
        "RevokeSelf" => server.spare().await,
        _ => ROOT,
    };
    let answer = server.raw(caller, &path, request.encode_to_vec()).await?;
    let answer = DynamicMessage::decode(method.output(), answer.as_slice()).unwrap();
    let Some(results) = answer.get_field_by_name("results") else {
        return Ok(());
    };
    for result in results.as_list().unwrap() {
        let result = result.as_message().unwrap();
        if result.has_field_by_name("error") {
            let error = result.get_field_by_name("error").unwrap();
            let bytes = error.as_message().unwrap().encode_to_vec();
            let error = tonic_types::Status::decode(bytes.as_slice()).unwrap();
            let code = Code::from_i32(error.code);
            return Err(Status::with_details(code, error.message, bytes.into()));
        }
    }
    Ok(())
}

/// Every error has its `ErrorInfo` and is ours to be had.
fn check_error(status: &Status, context: &str) {
    let info = status.get_details_error_info();
    assert_eq!(
        info.map(|info| info.domain).as_deref(),
        Some("keystile"),
        "{context}: {status}"
    );
    assert!(
        !matches!(
            status.code(),
            Code::Internal | Code::Unknown | Code::Unavailable
        ),
        "{context}: {status}"
    );
    assert!(status.message().len() < 1000, "{context}");
}

/// Whether a violation of `field` is about the field at `path`; a batch's are relative to its one request.
fn is_about(field: &str, path: &str) -> bool {
    let field = field.split('[').next().unwrap_or_default();
    let path = path.strip_prefix("requests.").unwrap_or(path);
    path == field
        || path
            .strip_prefix(field)
            .is_some_and(|rest| rest.starts_with('.'))
}

fn check_refused(answer: Result<(), Status>, path: &str, context: &str) {
    let Err(status) = answer else {
        panic!("{context}: was taken")
    };
    check_error(&status, context);
    // An etag is opaque: any that is not the current one is a mismatch.
    if path.ends_with("etag") {
        assert_eq!(status.code(), Code::Aborted, "{context}");
        return;
    }
    assert_eq!(status.code(), Code::InvalidArgument, "{context}: {status}");
    let fields: Vec<_> = status
        .get_details_bad_request()
        .map(|bad| bad.field_violations)
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert!(
        fields.iter().any(|field| is_about(field, path)),
        "{context}: {fields:?}"
    );
}

fn is_read(method: &str, path: &str) -> bool {
    let listed = NOT_READ.iter().find(|(name, _)| *name == method);
    !listed.is_some_and(|(_, paths)| paths.contains(&path))
}

#[tokio::test]
async fn every_input_field_of_every_request_refuses_what_is_hostile_and_names_itself() {
    let server = server().await;
    let made = server
        .keys(ROOT)
        .create_key(create_key("platform", "x"))
        .await
        .unwrap();
    let key = made.into_inner().key.unwrap().key_id;
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut attacks = 0;
    for method in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        let json = right_request(method.name(), &key);
        let mut parsed = serde_json::Deserializer::from_str(&json);
        let right = DynamicMessage::deserialize(method.input(), &mut parsed).unwrap();
        for path in paths(&method.input()) {
            let (text, last) = (text_of(&path), attacked(path.last().unwrap()));
            if !is_read(method.name(), &text) {
                continue;
            }
            for value in hostile(&last) {
                let mut request = right.clone();
                set(&mut request, &path, &value);
                let shown: String = format!("{value:?}").chars().take(40).collect();
                let context = format!("{} {text} {shown}", method.name());
                let answer = send(&server, &method, &request).await;
                // A token is not judged by its form: whatever is none is not valid.
                if (method.name(), text.as_str()) == ("VerifyKey", "token") {
                    answer.unwrap();
                } else {
                    check_refused(answer, &text, &context);
                }
                attacks += 1;
            }
            // After the hostile ones, since what is taken may change what is there.
            for value in doubtful(&last) {
                let mut request = right.clone();
                set(&mut request, &path, &value);
                if let Err(status) = send(&server, &method, &request).await {
                    check_error(&status, &format!("{} {text} {value:?}", method.name()));
                }
            }
        }
    }
    assert!(attacks > 300, "{attacks}");
    // The server still answers.
    let mut tenants = server.tenants(ROOT);
    let list = keystile::proto::admin::ListTenantsRequest::default();
    tenants.list_tenants(list).await.unwrap();
}

#[tokio::test]
async fn an_empty_request_is_refused_or_right_but_never_an_internal_error() {
    let server = server().await;
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    for method in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        let empty = DynamicMessage::new(method.input());
        match send(&server, &method, &empty).await {
            Ok(()) => assert!(
                [
                    "ListTenants",
                    "ListSidecars",
                    "ListBlocks",
                    "VerifyKey",
                    "RevokeSelf",
                    "GetSystemConfig"
                ]
                .contains(&method.name()),
                "{}",
                method.name()
            ),
            Err(status) => {
                check_error(&status, method.name());
                // It asks by its caller alone, whose token is nobody's here.
                if method.name() == "ClaimKey" {
                    assert_eq!(status.code(), Code::NotFound, "{status}");
                    continue;
                }
                assert_eq!(status.code(), Code::InvalidArgument, "{status}");
                assert!(status.get_details_bad_request().is_some(), "{status}");
            }
        }
    }
}
