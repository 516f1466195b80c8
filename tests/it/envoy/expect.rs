//! Sends one row and says what came out otherwise than written, and what may never come out.

use serde_json::Value;

use super::row::{Item, Outcome, Request, Row, Want, fill};
use super::world::{Tokens, World};
use crate::harness::grpc;
use crate::harness::http1::{self, Reply};
use crate::harness::upstream::Arrived;

/// A value that a client made up for a name that is not its own; no upstream may see one there.
const SPOOF: &str = "evil";

/// The one problem that [`Item::Unread`] excuses.
const NO_REQUEST_ID: &str = "the body has no request_id";

/// What one request led to.
struct Result<'a> {
    tokens: &'a Tokens,
    reserved: &'a [&'static str],
    bodiless: bool,
    reply: Reply,
    arrived: Vec<Arrived>,
    /// The entry of the access log, if the row asks about it.
    logged: Value,
}

pub(crate) fn problems(world: &World, row: &Row) -> Vec<String> {
    let instance = world.instance(&row.listener);
    let request = Request::of(row, &instance.tokens);
    let port = world.envoy.port(&row.listener);
    let bodiless = matches!(request.method.as_str(), "HEAD" | "CONNECT");
    let reply = if request.method == "GRPC" {
        grpc::call(port, &request.target, &request.http2_headers(&row.id))
    } else if let Some(method) = request.method.strip_prefix("H2:") {
        let headers = request.http2_headers(&row.id);
        grpc::send(port, method, &request.target, &headers, b"")
    } else {
        match http1::send(port, &request.http1_bytes(&row.id), bodiless) {
            Ok(reply) => reply,
            Err(err) => return vec![format!("no answer: {err}")],
        }
    };
    let asks_metadata = row.more.iter().any(|item| matches!(item, Item::Meta(..)));
    let result = Result {
        tokens: &instance.tokens,
        reserved: instance.reserved_prefixes,
        bodiless: bodiless || request.method == "GRPC",
        reply,
        arrived: world.upstream.arrived(&row.id),
        logged: if asks_metadata {
            world.envoy.logged(&row.id)
        } else {
            Value::Null
        },
    };
    let mut problems = result.always(instance.keys_go_on || untouched(&row.listener));
    let mut outcome = result.outcome(&row.outcome);
    if row.more.iter().any(|item| matches!(item, Item::Unread)) {
        outcome.retain(|problem| problem != NO_REQUEST_ID);
    }
    problems.extend(outcome);
    problems.extend(row.more.iter().filter_map(|item| result.item(item)));
    if !problems.is_empty() {
        problems.push(result.summary());
    }
    problems
}

/// Where Envoy was told to let a request pass when nobody decides, it passes as the client wrote it.
fn untouched(listener: &str) -> bool {
    matches!(listener, "dead-open" | "outage-defer-open")
}

impl Result<'_> {
    /// What must hold whatever was asked.
    fn always(&self, keys_go_on: bool) -> Vec<String> {
        let mut problems = Vec::new();
        for arrived in &self.arrived {
            for (name, value) in &arrived.headers {
                let text = String::from_utf8_lossy(value);
                if self.is_reserved(name) && text.contains(SPOOF) {
                    problems.push(format!("the upstream received a forged {name}: {text}"));
                }
                if !keys_go_on && self.has_token(&text) {
                    problems.push(format!("the upstream received a token in {name}"));
                }
            }
            if !keys_go_on && self.has_token(&arrived.target) {
                problems.push("the upstream received a token in its path".to_owned());
            }
        }
        let body = String::from_utf8_lossy(&self.reply.body);
        let mut texts = self.reply.headers.iter().map(|(_, value)| value.as_str());
        if self.has_token(&body) || texts.any(|text| self.has_token(text)) {
            problems.push("the client received a token".to_owned());
        }
        for (name, _) in &self.reply.headers {
            if self.is_reserved(name) {
                problems.push(format!("the client received the tenant header {name}"));
            }
        }
        problems
    }

    /// Under a reserved prefix, as an upstream would read it that takes every sign for `-`.
    fn is_reserved(&self, name: &str) -> bool {
        let name = name
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            .to_lowercase();
        self.reserved.iter().any(|prefix| name.starts_with(prefix))
    }

    fn has_token(&self, text: &str) -> bool {
        let tokens = self.tokens.iter();
        let mut secrets = tokens.filter(|(name, _)| !name.ends_with(".id"));
        secrets.any(|(_, token)| text.contains(token.as_str()))
    }

    fn outcome(&self, outcome: &Outcome) -> Vec<String> {
        match outcome {
            Outcome::Safe => Vec::new(),
            Outcome::Allowed => self.allowed(),
            Outcome::Grpc(0) => {
                let mut problems = self.allowed();
                problems.extend(self.grpc_status(0));
                problems
            }
            Outcome::Grpc(status) => self.grpc_denied(*status),
            Outcome::Refused if self.reply.status < 400 && !self.has_grpc_error() => {
                vec![format!("status {}, not refused", self.reply.status)]
            }
            Outcome::Refused => self.not_arrived(),
            Outcome::ByEnvoy(status) => {
                let mut problems = self.not_arrived();
                problems.extend(self.status(*status));
                if self.is_problem() {
                    problems.push("it is Keystile that answered".to_owned());
                }
                problems
            }
            Outcome::Denied { status, code } => {
                let mut problems = self.not_arrived();
                problems.extend(self.status(*status));
                problems.extend(self.denial_headers(*status));
                if !self.bodiless {
                    problems.extend(self.denial_body(*status, code));
                }
                problems
            }
        }
    }

    fn allowed(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.status(200).into_iter().collect();
        if self.arrived.len() != 1 {
            problems.push(format!("the upstream was asked {}×", self.arrived.len()));
        }
        if self.reply.one("x-from") != Some("upstream") {
            problems.push("the answer is not the upstream's".to_owned());
        }
        problems
    }

    fn not_arrived(&self) -> Vec<String> {
        let reached = !self.arrived.is_empty();
        reached
            .then(|| "the upstream was reached".to_owned())
            .into_iter()
            .collect()
    }

    fn status(&self, status: u16) -> Option<String> {
        let got = self.reply.status;
        (got != status).then(|| format!("status {got}, not {status}"))
    }

    fn is_problem(&self) -> bool {
        self.reply.one("content-type") == Some("application/problem+json")
    }

    fn denial_headers(&self, status: u16) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.is_problem() {
            problems.push("content-type is not application/problem+json".to_owned());
        }
        let needs = match status {
            401 => Some("www-authenticate"),
            503 => Some("retry-after"),
            _ => None,
        };
        if needs.is_some_and(|name| self.reply.one(name).is_none_or(str::is_empty)) {
            problems.push(format!("{} is missing", needs.unwrap_or_default()));
        }
        problems
    }

    fn denial_body(&self, status: u16, code: &str) -> Vec<String> {
        let Ok(body) = serde_json::from_slice::<Value>(&self.reply.body) else {
            return vec!["the body is not JSON".to_owned()];
        };
        let mut problems = Vec::new();
        for field in ["type", "title", "detail", "code", "request_id"] {
            if body[field].as_str().is_none_or(str::is_empty) {
                problems.push(format!("the body has no {field}"));
            }
        }
        let got = body["code"].as_str().unwrap_or_default();
        if code != "any" && got != code {
            problems.push(format!("code {got}, not {code}"));
        }
        if body["type"] != format!("urn:keystile:problem:{got}") {
            problems.push(format!("type {} does not go with code {got}", body["type"]));
        }
        if body["status"] != status {
            problems.push(format!("the body says status {}", body["status"]));
        }
        let logged = &self.logged["request_id"];
        if !logged.is_null() && body["request_id"] != *logged {
            problems.push(format!("request_id is not Envoy's, {logged}"));
        }
        problems
    }

    fn grpc_denied(&self, status: u8) -> Vec<String> {
        let mut problems = self.not_arrived();
        problems.extend(self.status(200));
        problems.extend(self.grpc_status(status));
        let message = self.reply.one("grpc-message").unwrap_or_default();
        if message.is_empty() || message.len() > 200 || message.starts_with(['{', '<']) {
            problems.push(format!("grpc-message is not a short text: {message:?}"));
        }
        problems
    }

    fn has_grpc_error(&self) -> bool {
        self.reply
            .one("grpc-status")
            .is_some_and(|status| status != "0")
    }

    fn grpc_status(&self, status: u8) -> Option<String> {
        let got = self.reply.one("grpc-status").unwrap_or("none");
        (got != status.to_string()).then(|| format!("grpc-status {got}, not {status}"))
    }

    fn item(&self, item: &Item) -> Option<String> {
        match item {
            Item::Up(name, want) => {
                let Some(arrived) = self.arrived.last() else {
                    return Some("the upstream was not asked".to_owned());
                };
                let same = arrived.headers.iter().filter(|(n, _)| n == name);
                let values: Vec<String> = same
                    .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                    .collect();
                self.want(&format!("up {name}"), want, &values)
            }
            Item::Target(target) => {
                let target = fill(target, self.tokens);
                let got = self.arrived.last().map(|arrived| &arrived.target);
                (got != Some(&target)).then(|| format!("up target {got:?}"))
            }
            Item::BodyLen(len) => {
                let got = self.arrived.last().map(|arrived| arrived.body_len);
                (got != Some(*len)).then(|| format!("up body {got:?}"))
            }
            Item::Anonymous => {
                let headers = self.arrived.iter().flat_map(|arrived| &arrived.headers);
                let mut names = headers.map(|(name, _)| name);
                let found = names.find(|name| self.is_reserved(name));
                found.map(|name| format!("not anonymous: the upstream received {name}"))
            }
            // An id that is there would be one that nobody knows.
            Item::Unread => {
                let body: Value = serde_json::from_slice(&self.reply.body).unwrap_or_default();
                let id = &body["request_id"];
                (!id.is_null()).then(|| format!("unread, and yet request_id {id}"))
            }
            Item::Client(name, want) => {
                let values = self.reply.all(name).into_iter().map(str::to_owned);
                self.want(&format!("client {name}"), want, &values.collect::<Vec<_>>())
            }
            Item::Says(text) => {
                let body = String::from_utf8_lossy(&self.reply.body);
                let message = self.reply.one("grpc-message").unwrap_or_default();
                let said = body.contains(text.as_str()) || message.contains(text.as_str());
                (!said).then(|| format!("does not say {text:?}"))
            }
            Item::Meta(field, want) => {
                let value = match &self.logged["meta"][field] {
                    Value::Null => Vec::new(),
                    Value::String(text) => vec![text.clone()],
                    other => vec![other.to_string()],
                };
                self.want(&format!("meta {field}"), want, &value)
            }
        }
    }

    fn want(&self, what: &str, want: &Want, values: &[String]) -> Option<String> {
        let fine = match (want, values) {
            (Want::None, []) => true,
            (Want::Some, [value]) => !value.is_empty(),
            (Want::Contains(part), [value]) => value.contains(&fill(part, self.tokens)),
            (Want::Exactly(text), [value]) => *value == fill(text, self.tokens),
            _ => false,
        };
        (!fine).then(|| format!("{what} is {values:?}"))
    }

    /// What a person needs to see why; tokens stay out, as everywhere.
    fn summary(&self) -> String {
        let mut text = format!(
            "client got {} {:?} {}",
            self.reply.status,
            self.reply.headers,
            String::from_utf8_lossy(&self.reply.body)
        );
        for arrived in &self.arrived {
            let headers = arrived.headers.iter();
            let lines = headers.map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(v)));
            let lines: Vec<String> = lines.collect();
            text += &format!("\n      upstream got {} {lines:?}", arrived.target);
        }
        if !self.logged.is_null() {
            text += &format!("\n      logged {}", self.logged);
        }
        for (name, token) in self.tokens {
            text = text.replace(token.as_str(), &format!("{{{name}}}"));
        }
        text
    }
}
