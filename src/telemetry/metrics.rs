//! Every metric of the product: name, unit, labels.
//!
//! What a Check counts is a plain atomic, read when somebody scrapes: the hot path takes no lock and allocates
//! nothing. Labels take few values; a tenant is never one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::TextEncoder;

use crate::domain::decision::{DenyReason, Keyless};

/// Upper bounds of `api_key_validation_duration_ms`, in milliseconds: from a cached check to Envoy's default timeout.
const DURATION_BOUNDS: [f64; 13] = [
    0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 200.0,
];

/// How one Check ended, for counting.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Allow {
        /// Why without a key, if so.
        keyless: Option<Keyless>,
        /// What something in shadow would have refused it for.
        shadow: Option<DenyReason>,
    },
    Deny(DenyReason),
}

/// One counter a way to end.
#[derive(Debug, Default)]
struct Decisions {
    allowed: AtomicU64,
    anonymous: AtomicU64,
    exempt: AtomicU64,
    denied: [AtomicU64; DenyReason::ALL.len()],
    shadow_denied: [AtomicU64; DenyReason::ALL.len()],
}

/// The instruments and where they are read.
pub struct Metrics {
    decisions: Arc<Decisions>,
    duration: Histogram<f64>,
    registry: prometheus::Registry,
    meter: Meter,
    /// Instruments live as long as their provider.
    _provider: SdkMeterProvider,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// The instruments could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the metrics")]
pub struct MetricsError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Metrics {
    /// Makes the instruments of the decision path.
    pub fn new() -> Result<Arc<Self>, MetricsError> {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| MetricsError(error.into()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("keystile");
        let decisions = Arc::new(Decisions::default());
        observe_decisions(&meter, &decisions);
        observe_build(&meter);
        let duration = meter
            .f64_histogram("api_key_validation_duration_ms")
            .with_description("Time to decide about one request, in milliseconds.")
            .with_boundaries(DURATION_BOUNDS.to_vec())
            .build();
        Ok(Arc::new(Self {
            decisions,
            duration,
            registry,
            meter,
            _provider: provider,
        }))
    }

    /// Counts the end of one Check.
    pub fn decided(&self, outcome: Outcome, took: Duration) {
        let decisions = &self.decisions;
        let counter = match outcome {
            Outcome::Allow { keyless, shadow } => {
                if let Some(reason) = shadow {
                    decisions.shadow_denied[reason as usize].fetch_add(1, Ordering::Relaxed);
                }
                match keyless {
                    None => &decisions.allowed,
                    Some(Keyless::Anonymous) => &decisions.anonymous,
                    Some(Keyless::Exempt) => &decisions.exempt,
                }
            }
            Outcome::Deny(reason) => &decisions.denied[reason as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.duration.record(took.as_secs_f64() * 1000.0, &[]);
    }

    /// Shows a count that somebody else keeps.
    pub fn counter(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| observer.observe(read(), &[]))
            .build();
    }

    /// Shows a number that goes up and down and that somebody else keeps.
    pub fn gauge(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| observer.observe(read(), &[]))
            .build();
    }

    /// Shows a time that somebody else keeps, in seconds.
    pub fn seconds(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> Duration + Send + Sync + 'static,
    ) {
        self.meter
            .f64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| observer.observe(read().as_secs_f64(), &[]))
            .build();
    }

    /// Shows a difference of times that somebody else keeps, in seconds; it may be negative.
    pub fn difference(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.meter
            .f64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| observer.observe(read(), &[]))
            .build();
    }

    /// Shows counts that somebody else keeps, each with its labels.
    pub fn counters(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> Vec<(Vec<KeyValue>, u64)> + Send + Sync + 'static,
    ) {
        self.meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| {
                for (labels, count) in read() {
                    observer.observe(count, &labels);
                }
            })
            .build();
    }

    /// Shows numbers that go up and down and that somebody else keeps, each with its labels.
    pub fn gauges(
        &self,
        name: &'static str,
        description: &'static str,
        read: impl Fn() -> Vec<(Vec<KeyValue>, u64)> + Send + Sync + 'static,
    ) {
        self.meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| {
                for (labels, value) in read() {
                    observer.observe(value, &labels);
                }
            })
            .build();
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| MetricsError(error.into()))
    }
}

fn observe_decisions(meter: &Meter, decisions: &Arc<Decisions>) {
    let counts = Arc::clone(decisions);
    let allow = |reason: &'static str| {
        [
            KeyValue::new("outcome", "allow"),
            KeyValue::new("reason", reason),
        ]
    };
    let allows = [
        allow("allowed"),
        allow(Keyless::Anonymous.as_str()),
        allow(Keyless::Exempt.as_str()),
    ];
    let denials = DenyReason::ALL.map(|reason| {
        [
            KeyValue::new("outcome", "deny"),
            KeyValue::new("reason", reason.as_str()),
        ]
    });
    meter
        .u64_observable_counter("keystile_decisions")
        .with_description("Checks by how they ended.")
        .with_callback(move |observer| {
            let allowed = [&counts.allowed, &counts.anonymous, &counts.exempt];
            for (count, labels) in allowed
                .into_iter()
                .zip(&allows)
                .chain(counts.denied.iter().zip(&denials))
            {
                observer.observe(count.load(Ordering::Relaxed), labels);
            }
        })
        .build();
    let counts = Arc::clone(decisions);
    let reasons = DenyReason::ALL.map(|reason| [KeyValue::new("reason", reason.as_str())]);
    meter
        .u64_observable_counter("api_key_validation_failures")
        .with_description("Refused checks by reason.")
        .with_callback(move |observer| {
            for (count, labels) in counts.denied.iter().zip(&reasons) {
                observer.observe(count.load(Ordering::Relaxed), labels);
            }
        })
        .build();
    let counts = Arc::clone(decisions);
    let reasons = DenyReason::ALL.map(|reason| [KeyValue::new("reason", reason.as_str())]);
    meter
        .u64_observable_counter("keystile_shadow_denials")
        .with_description(
            "Checks that passed and that a rule or plan in shadow would have refused.",
        )
        .with_callback(move |observer| {
            for (count, labels) in counts.shadow_denied.iter().zip(&reasons) {
                observer.observe(count.load(Ordering::Relaxed), labels);
            }
        })
        .build();
}

fn observe_build(meter: &Meter) {
    let labels = [KeyValue::new("version", env!("CARGO_PKG_VERSION"))];
    meter
        .u64_observable_gauge("keystile_build_info")
        .with_description("Always 1; the version is a label.")
        .with_callback(move |observer| observer.observe(1, &labels))
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_end_has_its_line() {
        let metrics = Metrics::new().unwrap();
        for reason in DenyReason::ALL {
            metrics.decided(Outcome::Deny(reason), Duration::from_micros(3));
        }
        metrics.decided(
            Outcome::Allow {
                keyless: Some(Keyless::Exempt),
                shadow: Some(DenyReason::ScopeNotGranted),
            },
            Duration::from_micros(3),
        );
        let text = metrics.render().unwrap();
        let line = "keystile_shadow_denials_total{reason=\"scope_not_granted\"} 1";
        assert!(text.contains(line), "{text}");
        let ends = DenyReason::ALL.len() + 1;
        for reason in DenyReason::ALL {
            let reason = reason.as_str();
            assert!(
                text.contains(&format!(
                    "api_key_validation_failures_total{{reason=\"{reason}\"}} 1"
                )),
                "{text}"
            );
            assert!(
                text.contains(&format!(
                    "keystile_decisions_total{{outcome=\"deny\",reason=\"{reason}\"}} 1"
                )),
                "{text}"
            );
        }
        assert!(
            text.contains("keystile_decisions_total{outcome=\"allow\",reason=\"exempt\"} 1"),
            "{text}"
        );
        assert!(
            text.contains(&format!("api_key_validation_duration_ms_count {ends}")),
            "{text}"
        );
        assert!(
            text.contains(&format!(
                "api_key_validation_duration_ms_bucket{{le=\"0.005\"}} {ends}"
            )),
            "{text}"
        );
    }
}
