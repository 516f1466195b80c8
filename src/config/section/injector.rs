//! The injector and the sidecar that it puts into pods, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Tls;
use crate::config::kubernetes::{Amount, EntryName, ImageName, ObjectName};
use crate::config::{Connection, HumanDuration, ListenAddr, PullPolicy, SidecarMode};

section! {
    #[serde(default)]
    Injector {
        /// Addresses to serve on: `host:port`.
        #[schemars(length(min = 1, max = 16), extend("uniqueItems" = true))]
        pub listen: Vec<ListenAddr>,
        /// TLS, which the API server of Kubernetes insists on. Needed.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tls: Option<Tls>,
        /// Most connections at once, on all of `listen` together; more are refused at once.
        #[schemars(range(min = 1, max = 1_000_000))]
        pub max_connections: usize,
        /// A connection without a request for this long is closed; a new one that sends none, after 10 s.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1d"))]
        pub idle_timeout: HumanDuration,
        /// Namespaces whose pods are left as they are, whatever they ask for.
        #[schemars(length(max = 256))]
        pub excluded_namespaces: Vec<ObjectName>,
        /// What is put into a pod. Objects that it names are those of the pod's namespace.
        pub sidecar: Sidecar,
    }
}

section! {
    #[serde(default)]
    Sidecar {
        /// The image of Keystile.
        pub image: ImageName,
        /// When nodes fetch it.
        pub image_pull_policy: PullPolicy,
        /// Secrets with logins to registries, beside those of the pod.
        #[schemars(length(max = 16))]
        pub image_pull_secrets: Vec<ObjectName>,
        /// `native`: an init container that goes on running, started before the application and stopped after it, on
        /// Kubernetes 1.29 and newer. `container`: one beside the application. A pod's annotation `keystile.io/mode`
        /// replaces it.
        pub mode: SidecarMode,
        /// How the pod's proxy asks: `port` on the pod's loopback, `socket` at `/run/keystile/authz.sock`. Annotation
        /// `keystile.io/connection`.
        pub connection: Connection,
        /// Port for checks, on the pod's loopback. Annotation `keystile.io/authz-port`.
        #[schemars(range(min = 1024, max = 65535))]
        pub authz_port: u16,
        /// Port for metrics and probes, on the pod's address. Annotation `keystile.io/ops-port`.
        #[schemars(range(min = 1024, max = 65535))]
        pub ops_port: u16,
        /// ConfigMap with the sidecar's configuration in the entry `keystile.yaml`. Annotation `keystile.io/config-map`.
        pub config_map: ObjectName,
        /// Entries of Secrets that become files in `/etc/keystile/secrets`.
        #[schemars(length(min = 1, max = 16))]
        pub secrets: Vec<SecretFile>,
        /// CPU that is set aside. Annotation `keystile.io/cpu-request`. Absent: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cpu_request: Option<Amount>,
        /// Memory that is set aside. Annotation `keystile.io/memory-request`. Absent: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub memory_request: Option<Amount>,
        /// Most CPU. Annotation `keystile.io/cpu-limit`. Absent: no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cpu_limit: Option<Amount>,
        /// Most memory. Annotation `keystile.io/memory-limit`. Absent: no limit.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub memory_limit: Option<Amount>,
        /// The user that it runs as where the pod names none; 0 leaves the choice to the cluster, as OpenShift wants it. Not
        /// 1337, which is Istio's.
        #[schemars(range(max = 2_147_483_647))]
        pub run_as_user: u64,
    }
}

section! {
    SecretFile {
        /// The Secret.
        pub name: ObjectName,
        /// Its entry.
        pub entry: EntryName,
        /// The file's name. Absent: the entry's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub file: Option<EntryName>,
    }
}
