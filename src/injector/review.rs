//! AdmissionReview: parsed, and answered.

use data_encoding::BASE64;
use json_patch::Patch;
use kube_core::DynamicObject;
use kube_core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Action, patch};
use crate::config::Injector;

const VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Why a body is no review that we can answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the body is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("the body is {found}; this webhook answers {VERSION} {KIND}")]
    AnotherKind { found: String },
    #[error("the body is a {KIND} without a request")]
    NoRequest,
    #[error("the request of the {KIND} cannot be read: {0}")]
    BadRequest(serde_json::Error),
}

/// How a review ended, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Patched,
    Left,
    Refused,
}

/// An answer and what there is to say of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) namespace: String,
    /// The pod's name, or the beginning of one that is yet to be made.
    pub(super) pod: String,
    pub(super) dry_run: bool,
    /// Why it was refused or what was warned of.
    pub(super) words: String,
    pub(super) body: Value,
}

/// The answer to the body of a request.
pub(super) fn answer(body: &[u8], settings: &Injector) -> Result<Answer, Unreadable> {
    let mut review: Value = serde_json::from_slice(body).map_err(Unreadable::NotJson)?;
    let (version, kind) = (review["apiVersion"].as_str(), review["kind"].as_str());
    if (version, kind) != (Some(VERSION), Some(KIND)) {
        let shown = |text: Option<&str>| -> String {
            let text = text.unwrap_or("nothing").chars().take(60);
            text.collect::<String>().escape_debug().to_string()
        };
        let found = format!("apiVersion `{}`, kind `{}`", shown(version), shown(kind));
        return Err(Unreadable::AnotherKind { found });
    }
    if !review["request"].is_object() {
        return Err(Unreadable::NoRequest);
    }
    // The pod stays untyped. The rest is not looked at, and can be large.
    let pod = review["request"]["object"].take();
    review["request"]["oldObject"] = Value::Null;
    review["request"]["options"] = Value::Null;
    review["request"]["userInfo"] = json!({});
    let review = AdmissionReview::<DynamicObject>::deserialize(review);
    let review = review.map_err(Unreadable::BadRequest)?;
    let request: AdmissionRequest<_> = review.try_into().map_err(|_| Unreadable::NoRequest)?;
    Ok(of_request(&request, &pod, settings))
}

fn of_request(
    request: &AdmissionRequest<DynamicObject>,
    pod: &Value,
    settings: &Injector,
) -> Answer {
    let namespace = request.namespace.clone().unwrap_or_default();
    let mut response = AdmissionResponse::from(request);
    let answer = |outcome, words: String, body| {
        let name = |path: &str| {
            pod["metadata"][path]
                .as_str()
                .filter(|name| !name.is_empty())
        };
        Answer {
            outcome,
            namespace: namespace.clone(),
            pod: name("name")
                .or_else(|| name("generateName"))
                .unwrap_or_default()
                .to_owned(),
            dry_run: request.dry_run,
            words,
            body,
        }
    };
    let is_new_pod = request.operation == Operation::Create
        && request.kind.kind == "Pod"
        && request
            .sub_resource
            .as_deref()
            .unwrap_or_default()
            .is_empty();
    if !is_new_pod {
        return answer(Outcome::Left, String::new(), wrap(response, None));
    }
    let verdict = patch(pod, &namespace, settings);
    let mut words = verdict.warnings.join("; ");
    if !verdict.warnings.is_empty() {
        response.warnings = Some(verdict.warnings);
    }
    match verdict.action {
        Action::Patch(made) => answer(Outcome::Patched, words, wrap(response, Some(&made))),
        Action::Leave => answer(Outcome::Left, words, wrap(response, None)),
        Action::Refuse(why) => {
            words.clone_from(&why);
            let mut response = response.deny(&why);
            response.result.code = 422;
            answer(Outcome::Refused, words, wrap(response, None))
        }
    }
}

/// The review that is sent. The patch is text in base64, as Kubernetes documents it, where the type of the library writes
/// a list of numbers.
fn wrap(response: AdmissionResponse, patch: Option<&Patch>) -> Value {
    let mut review = json!(response.into_review());
    if let Some(patch) = patch {
        let text = json!(patch).to_string();
        review["response"]["patchType"] = "JSONPatch".into();
        review["response"]["patch"] = BASE64.encode(text.as_bytes()).into();
    }
    review
}
