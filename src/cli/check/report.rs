//! A `CheckResponse` in the words of those who ask why.

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde::Serialize;

use super::message::{CheckResponse, Denied, HeaderOption};
use crate::cli::Failure;
use crate::cli::output::{self, Form, Out, printable};

/// What Envoy answers when a refusal names no status.
const DEFAULT_DENIAL: u32 = 403;

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    decision: &'static str,
    reason: String,
    http_status: Option<u32>,
    tenant_id: String,
    key_id: String,
    plan: String,
    features: Vec<String>,
    /// Where the sidecar found a key.
    credential: String,
    rules: Vec<Rule>,
    headers_set: Vec<(String, String)>,
    headers_removed: Vec<String>,
    query_parameters_removed: Vec<String>,
    response_headers: Vec<(String, String)>,
    body: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Rule {
    rule: String,
    verdict: String,
    detail: String,
}

impl Report {
    pub(super) fn of(answer: &CheckResponse) -> Self {
        let facts = answer.dynamic_metadata.clone().unwrap_or_default();
        let code = answer.status.as_ref().map_or(0, |status| status.code);
        let mut report = Self {
            // Envoy lets pass what has no status or code 0.
            decision: match (code, &answer.error) {
                (0, None) => "allow",
                (_, None) => "deny",
                (_, Some(_)) => "error",
            },
            reason: text(&facts, "reason"),
            tenant_id: text(&facts, "tenant_id"),
            key_id: text(&facts, "key_id"),
            plan: text(&facts, "plan"),
            features: list(&facts, "features").filter_map(string).collect(),
            credential: text(&facts, "credential"),
            rules: list(&facts, "explain").filter_map(rule).collect(),
            ..Self::default()
        };
        if let Some(ok) = &answer.ok {
            report.headers_set = headers(&ok.headers);
            report.headers_removed = ok.headers_to_remove.clone();
            report.query_parameters_removed = ok.query_parameters_to_remove.clone();
            report.response_headers = headers(&ok.response_headers);
        }
        if let Some(denied) = answer.denied.as_ref().or(answer.error.as_ref()) {
            report.refusal(denied);
        }
        report
    }

    fn refusal(&mut self, denied: &Denied) {
        let status = denied.status.as_ref().map(|status| status.code);
        self.http_status = Some(status.filter(|code| *code != 0).unwrap_or(DEFAULT_DENIAL));
        self.response_headers = headers(&denied.headers);
        self.body.clone_from(&denied.body);
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.decision == "allow"
    }

    pub(super) fn show(&self, form: Form, out: &mut Out) -> Result<(), Failure> {
        match form {
            Form::Json | Form::Yaml => output::document(out, form, &self.with_maps()?),
            Form::Name => out.line(self.decision),
            Form::Table => self.table(out),
        }
    }

    /// Headers as objects: each name comes once.
    fn with_maps(&self) -> Result<serde_json::Value, Failure> {
        let mut value = serde_json::to_value(self).map_err(Failure::failed)?;
        let map = |pairs: &[(String, String)]| -> serde_json::Value {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (name.clone(), value.clone().into()));
            serde_json::Value::Object(pairs.collect())
        };
        value["headers_set"] = map(&self.headers_set);
        value["response_headers"] = map(&self.response_headers);
        Ok(value)
    }

    fn table(&self, out: &mut Out) -> Result<(), Failure> {
        let status = self.http_status.map(|code| code.to_string());
        output::pairs(
            out,
            &[
                ("decision", self.decision.to_owned()),
                ("reason", self.reason.clone()),
                ("HTTP status", status.unwrap_or_default()),
                ("key found in", self.credential.clone()),
                ("tenant", self.tenant_id.clone()),
                ("key", self.key_id.clone()),
                ("plan", self.plan.clone()),
                ("features", self.features.join(", ")),
            ],
        )?;
        if !self.rules.is_empty() {
            out.line("")?;
            let row = |rule: &Rule| {
                let Rule {
                    rule,
                    verdict,
                    detail,
                } = rule;
                vec![rule.clone(), verdict.clone(), detail.clone()]
            };
            let rows: Vec<_> = self.rules.iter().map(row).collect();
            output::rows(out, &["RULE", "VERDICT", "DETAIL"], &rows)?;
        }
        lines(out, "headers set upstream", &self.headers_set)?;
        words(out, "headers removed", &self.headers_removed)?;
        words(
            out,
            "query parameters removed",
            &self.query_parameters_removed,
        )?;
        lines(out, "headers of the answer", &self.response_headers)?;
        if !self.body.is_empty() {
            out.line(format_args!("\nbody:\n  {}", printable(&self.body)))?;
        }
        Ok(())
    }
}

fn lines(out: &mut Out, what: &str, pairs: &[(String, String)]) -> Result<(), Failure> {
    if pairs.is_empty() {
        return Ok(());
    }
    out.line(format_args!("\n{what}:"))?;
    pairs.iter().try_for_each(|(name, value)| {
        out.line(format_args!("  {}: {}", printable(name), printable(value)))
    })
}

fn words(out: &mut Out, what: &str, words: &[String]) -> Result<(), Failure> {
    if words.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = words.iter().map(|word| printable(word)).collect();
    out.line(format_args!("\n{what}:\n  {}", words.join(", ")))
}

fn headers(options: &[HeaderOption]) -> Vec<(String, String)> {
    let headers = options.iter().filter_map(|option| option.header.as_ref());
    headers
        .map(|header| (header.key.clone(), header.value.clone()))
        .collect()
}

fn string(value: &Value) -> Option<String> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    }
}

fn text(facts: &Struct, name: &str) -> String {
    facts.fields.get(name).and_then(string).unwrap_or_default()
}

fn list<'a>(facts: &'a Struct, name: &str) -> impl Iterator<Item = &'a Value> {
    let values = match facts.fields.get(name).and_then(|value| value.kind.as_ref()) {
        Some(Kind::ListValue(list)) => list.values.as_slice(),
        _ => &[],
    };
    values.iter()
}

fn rule(value: &Value) -> Option<Rule> {
    let Some(Kind::StructValue(fields)) = &value.kind else {
        return None;
    };
    Some(Rule {
        rule: text(fields, "rule"),
        verdict: text(fields, "verdict"),
        detail: text(fields, "detail"),
    })
}
