//! Reviews that a real API server has sent, and others of its form, before the real injector. What it answers to each is
//! in `admission/answers`; `UPDATE_GOLDEN=1` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::matrix::{check, list};
use super::webhook::{Injector, Known, patch, patched};
use crate::harness::ca::Ca;
use crate::harness::wait_for;

const CONFIG: &str = "
injector:
  listen: [WEBHOOK]
  tls: {cert_file: TLS/tls.crt, key_file: TLS/tls.key}
  sidecar: {image: 'registry.example/keystile:1.0.0', image_pull_secrets: [login]}
ops: {listen: [OPS]}
";

fn start(ca: &Ca) -> Injector {
    let pair = ca.server();
    let known = Known {
        host: "127.0.0.1".to_owned(),
        path: "/inject".to_owned(),
        bundle: ca.pem.clone().into_bytes(),
    };
    Injector::start(CONFIG, [pair.cert.as_bytes(), pair.key.as_bytes()], known)
}

fn folder() -> PathBuf {
    super::root().join("tests/it/kubernetes/admission")
}

/// Every review by the name of its file.
fn reviews() -> BTreeMap<String, Value> {
    let files = fs::read_dir(folder().join("reviews")).unwrap();
    let parse = |path: &Path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (
            name,
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap(),
        )
    };
    files.map(|file| parse(&file.unwrap().path())).collect()
}

/// Each review with the response to it.
static ANSWERS: LazyLock<BTreeMap<String, (Value, Value)>> = LazyLock::new(|| {
    let injector = start(&Ca::new("webhook"));
    let all = reviews().into_iter().map(|(name, review)| {
        let response = injector.review(&review);
        (name, (review, response))
    });
    all.collect()
});

fn pod(review: &Value) -> &Value {
    &review["request"]["object"]
}

/// What a reader of a golden file wants to see.
fn shown(response: &Value) -> String {
    let shown = json!({
        "allowed": response["allowed"],
        "patch": patch(response),
        "status": response["status"]["message"],
        "code": response["status"]["code"],
        "warnings": response["warnings"],
    });
    serde_json::to_string_pretty(&shown).unwrap() + "\n"
}

#[test]
fn every_review_has_the_answer_that_is_kept() {
    let kept = folder().join("answers");
    for (name, (_, response)) in &*ANSWERS {
        let file = kept.join(format!("{name}.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&kept).unwrap();
            fs::write(&file, shown(response)).unwrap();
        }
        let want = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(shown(response), want, "{name}");
    }
    assert_eq!(fs::read_dir(kept).unwrap().count(), ANSWERS.len());
}

/// Pods that are patched, by name: before and after.
fn patched_pods() -> BTreeMap<&'static str, (&'static Value, Value)> {
    let patched_pod = |(name, (review, response)): (&'static String, &'static (Value, Value))| {
        patch(response)?;
        Some((name.as_str(), (pod(review), patched(pod(review), response))))
    };
    ANSWERS.iter().filter_map(patched_pod).collect()
}

#[test]
fn a_patched_pod_that_is_sent_again_gets_no_patch() {
    let injector = start(&Ca::new("webhook"));
    let pods = patched_pods();
    for (name, (_, pod)) in &pods {
        let (review, _) = &ANSWERS[*name];
        let mut review = review.clone();
        review["request"]["object"] = pod.clone();
        let response = injector.review(&review);
        assert_eq!(response["allowed"], true, "{name}");
        assert_eq!(response["patch"], Value::Null, "{name}");
    }
    assert!(pods.len() >= 15, "{} pods", pods.len());
}

#[test]
fn a_proxy_that_another_webhook_puts_in_afterwards_gets_the_socket() {
    let injector = start(&Ca::new("webhook"));
    let pods = patched_pods();
    let (_, pod) = &pods["22-overrides"];
    let mut pod = pod.clone();
    let proxy = json!({"name": "istio-proxy", "image": "proxy:1", "restartPolicy": "Always"});
    let first = pod["spec"]["initContainers"].as_array_mut().unwrap();
    first.insert(0, proxy);
    let (review, _) = &ANSWERS["22-overrides"];
    let mut review = review.clone();
    review["request"]["object"] = pod.clone();
    let pod = patched(&pod, &injector.review(&review));
    let proxy = &pod["spec"]["initContainers"][0];
    let mount = list(&proxy["volumeMounts"]).find(|it| it["name"] == "keystile-socket");
    assert_eq!(mount.unwrap()["mountPath"], "/run/keystile");
    review["request"]["object"] = pod;
    assert_eq!(injector.review(&review)["patch"], Value::Null);
}

#[test]
fn a_patched_pod_is_valid_on_the_oldest_and_the_newest_kubernetes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, (_, pod)) in patched_pods() {
        // It has fields that no schema knows.
        if name != "35-fields-of-the-future" {
            let file = folder.path().join(format!("{name}.yaml"));
            fs::write(file, pod.to_string()).unwrap();
        }
    }
    let (documents, mistakes) = check(folder.path());
    assert_eq!(mistakes, "");
    assert!(documents.len() >= 14, "{}", documents.len());
}

/// Whether everything of `before` is in `after`, lists in their order.
fn keeps(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .all(|(name, value)| after.get(name).is_some_and(|it| keeps(value, it))),
        (Value::Array(before), Value::Array(after)) => {
            let mut after = after.iter();
            before.iter().all(|it| after.any(|other| keeps(it, other)))
        }
        _ => before == after,
    }
}

#[test]
fn a_patch_takes_nothing_away_and_brings_what_the_restricted_profile_wants() {
    for (name, (before, after)) in patched_pods() {
        assert!(keeps(before, &after), "{name}: {after}");
        let lists = ["initContainers", "containers"];
        let all = lists.iter().flat_map(|it| list(&after["spec"][*it]));
        let ours: Vec<&Value> = all.filter(|it| it["name"] == "keystile").collect();
        let [ours] = ours[..] else {
            panic!("{name}: {} sidecars", ours.len());
        };
        let security = &ours["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{name}");
        let users = [security, &after["spec"]["securityContext"]];
        let user = users.iter().find_map(|it| it["runAsUser"].as_u64());
        assert!(user.is_some_and(|it| ![0, 1337].contains(&it)), "{name}");
        assert!(ours["resources"]["limits"]["memory"].is_string(), "{name}");
        assert!(ours["resources"]["requests"]["cpu"].is_string(), "{name}");
        // Key material is in files alone.
        assert!(!ours["env"].to_string().contains("secretKeyRef"), "{name}");
        let status = after["metadata"]["annotations"]["keystile.io/status"].as_str();
        let status: Value = serde_json::from_str(status.unwrap()).unwrap();
        assert_eq!(status["container"], "keystile", "{name}");
    }
}

#[test]
fn with_istio_the_sidecar_comes_right_after_its_proxy_and_before_the_rest() {
    let pods = patched_pods();
    let names = |name: &str| -> Vec<String> {
        let (_, pod) = &pods[name];
        let all = list(&pod["spec"]["initContainers"]);
        all.map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names("03-with-istio"),
        ["istio-init", "istio-proxy", "keystile"]
    );
    assert_eq!(
        names("32-istio-socket"),
        ["istio-init", "istio-proxy", "keystile", "migrate"]
    );
    assert_eq!(names("21-escapes"), ["keystile", "prepare"]);
}

#[test]
fn a_body_that_is_no_review_is_refused_in_words_and_the_next_is_answered() {
    let injector = start(&Ca::new("webhook"));
    let review = reviews()["01-bare"].to_string();
    let json = "application/json";
    let old = review.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
    let other = review.replace("\"AdmissionReview\"", "\"TokenReview\"");
    let rows: &[(&str, &str, u16, &str)] = &[
        ("text/plain", &review, 415, "application/json"),
        ("", &review, 415, "application/json"),
        (json, &review[..200], 400, "is not JSON"),
        (json, "", 400, "is not JSON"),
        (json, "[]", 400, "this webhook answers admission.k8s.io/v1"),
        (json, &old, 400, "v1beta1"),
        (json, &other, 400, "TokenReview"),
        (
            json,
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#,
            400,
            "without a request",
        ),
        (
            json,
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": 7}}"#,
            400,
            "cannot be read",
        ),
    ];
    for (media_type, body, status, said) in rows {
        let answer = injector.post(media_type, body.as_bytes()).unwrap();
        assert_eq!(answer.status, *status, "{said}: {answer:?}");
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(message.contains(said), "{said}: {message}");
    }
    let long = vec![b' '; (4 << 20) + 1];
    assert_eq!(injector.post(json, &long).unwrap().status, 413);
    // Nested deeper than a parser should follow.
    let deep = "[".repeat(100_000);
    assert_eq!(injector.post(json, deep.as_bytes()).unwrap().status, 400);

    let answer = injector.post("application/json; charset=utf-8", review.as_bytes());
    assert_eq!(answer.unwrap().status, 200);
    let metrics = injector.metrics();
    let count = format!(
        "keystile_injector_reviews_total{{outcome=\"invalid\"}} {}",
        rows.len() + 2
    );
    for line in [
        &count,
        "keystile_injector_reviews_total{outcome=\"patched\"} 1",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    assert!(
        injector
            .process
            .log()
            .contains("refused an admission review")
    );
}

#[test]
fn the_largest_object_that_the_api_server_takes_is_answered() {
    let injector = start(&Ca::new("webhook"));
    let mut review = reviews()["01-bare"].clone();
    let much = "x".repeat(3 << 20);
    review["request"]["object"]["spec"]["containers"][0]["env"] =
        json!([{"name": "MUCH", "value": much}]);
    let response = injector.review(&review);
    assert!(patch(&response).is_some());
}

#[test]
fn another_certificate_is_shown_as_soon_as_its_files_are_there() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let mut injector = start(&old);
    injector.review(&reviews()["01-bare"]);
    let pair = new.server();
    injector.replace_certificate(pair.cert.as_bytes(), pair.key.as_bytes());
    injector.known.bundle = new.pem.clone().into_bytes();
    let body = reviews()["01-bare"].to_string();
    wait_for("the new certificate", || {
        let answer = injector.post("application/json", body.as_bytes());
        answer.ok().filter(|answer| answer.status == 200)
    });
}

#[test]
fn a_process_that_injects_alone_ends_when_it_is_told_to() {
    let injector = start(&Ca::new("webhook"));
    assert_eq!(injector.process.terminate(), Some(0));
}
