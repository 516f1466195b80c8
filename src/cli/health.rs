//! `keystile health`: one question to a process, as a probe asks it, for images that have no shell and no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt as _;

use crate::cli::client::tls_cause;
use crate::cli::endpoint::{Address, io_cause};
use crate::cli::output::{Out, printable};
use crate::cli::tls::TlsArgs;
use crate::cli::{Failure, block_on, load_config};
use crate::clock::Span;
use crate::config::{self, Config, ListenAddr};

/// Where `ops` listens by default.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9003";
/// Of an answer to `/readyz`; ours are far shorter.
const ANSWER_BYTES_MAX: usize = 4096;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asks `/readyz` of an `ops` listener or, with --grpc, grpc.health.v1.Health of an `authz` or `admin` listener.
Ends with 0 when the process is ready, and with 1 and a sentence when it is not, or does not answer in time.
If the file of --config has no `ops`, the health service of `authz`, or else of `admin`, is asked.

Examples:
  keystile health
  keystile health --live -c /etc/keystile/keystile.yaml
  keystile health --grpc --addr unix:/run/keystile/authz.sock
  keystile health --addr https://keystile.example:9003 --tls-ca ca.crt --timeout 1s"
)]
pub(super) struct HealthArgs {
    /// Whom to ask: host:port, http(s)://host:port or unix:/path; without it, what --config says, then 127.0.0.1:9003
    #[arg(long, value_name = "ADDRESS", env = "KEYSTILE_HEALTH_ADDR")]
    addr: Option<Address>,
    /// Ask by gRPC at --addr, which is of an `authz` or `admin` listener
    #[arg(long, requires = "addr")]
    grpc: bool,
    /// Whether the process answers at all (`/healthz`), be it ready or not
    #[arg(long)]
    live: bool,
    /// Config file of the process; without it, the environment alone (KEYSTILE__…)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// How long it may take, connecting included
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "2s")]
    timeout: Duration,
}

/// Whom to ask, and how.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: Address,
    grpc: bool,
}

pub(super) fn run(args: &HealthArgs, out: &mut Out) -> Result<(), Failure> {
    let target = target(args)?;
    let shown = &target.address.shown;
    let late = |_| {
        let waited = Span(args.timeout);
        Failure::failed(anyhow!("{shown} did not answer within {waited}"))
    };
    let answer = block_on(async {
        let asked = tokio::time::timeout(args.timeout, ask(&target, args));
        asked.await.map_err(late)?
    })?;
    out.line(format_args!("{shown} is {answer}"))
}

fn target(args: &HealthArgs) -> Result<Target, Failure> {
    if let Some(address) = &args.addr {
        return Ok(Target {
            address: address.clone(),
            grpc: args.grpc,
        });
    }
    let config = match &args.config {
        Some(file) => Some(load_config(Some(file))?),
        // A process that has a file may have variables beside it, which are no configuration without the file.
        None => Config::load(None, config::environment())
            .ok()
            .map(|loaded| loaded.config),
    };
    let listener = config.as_ref().and_then(listener);
    listener.map_or_else(
        || {
            let address = DEFAULT_ADDRESS.parse().map_err(Failure::usage)?;
            Ok(Target {
                address,
                grpc: false,
            })
        },
        |(name, listen, tls)| {
            let address = reachable(name, listen, tls)?;
            Ok(Target {
                address,
                grpc: name != "ops",
            })
        },
    )
}

/// The listener that tells of the process: its name, an address of it and whether that speaks TLS.
fn listener(config: &Config) -> Option<(&'static str, &ListenAddr, bool)> {
    let named = |name| config.listeners().find(|at| at.name == name);
    let at = ["ops", "authz", "admin"].into_iter().find_map(named)?;
    // A socket needs neither a port nor a certificate.
    let mut all = at.listen.iter();
    let socket = all.find(|address| matches!(address, ListenAddr::Unix(_)));
    let address = socket.or_else(|| at.listen.first())?;
    Some((at.name, address, at.tls.is_some() && socket.is_none()))
}

/// Where a listener can be reached from its own machine.
fn reachable(name: &str, listen: &ListenAddr, tls: bool) -> Result<Address, Failure> {
    let written = match listen {
        ListenAddr::Unix(_) => listen.to_string(),
        ListenAddr::Tcp(address) if address.port() == 0 => {
            return Err(Failure::usage(format!(
                "`{name}.listen` leaves the port to the system; name it with --addr"
            )));
        }
        ListenAddr::Tcp(address) => {
            let scheme = if tls { "https" } else { "http" };
            format!("{scheme}://{}", from_here(*address))
        }
    };
    written.parse().map_err(Failure::usage)
}

/// An address that means every interface is reached at loopback.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

async fn ask(target: &Target, args: &HealthArgs) -> Result<String, Failure> {
    let channel = target.address.dial(&args.tls, args.timeout).await?;
    let shown = &target.address.shown;
    match (target.grpc, args.live) {
        (true, live) => by_grpc(shown, channel, live).await,
        (false, true) => by_http(shown, channel, &LIVE).await,
        (false, false) => by_http(shown, channel, &READY).await,
    }
}

async fn by_grpc(shown: &str, channel: Channel, live: bool) -> Result<String, Failure> {
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map_err(|status| {
            let cause = tls_cause(&status).unwrap_or_else(|| status.message().to_owned());
            Failure::failed(anyhow!(
                "{shown} did not answer by gRPC: {}\nhint: --grpc is for `authz` and `admin` listeners",
                printable(&cause)
            ))
        })?;
    match answer.into_inner().status() {
        _ if live => Ok("alive".into()),
        ServingStatus::Serving => Ok("ready".into()),
        status => Err(Failure::failed(anyhow!(
            "{shown} is not ready: {}",
            status.as_str_name()
        ))),
    }
}

/// A question to `ops`, and how its answers begin.
struct Question {
    path: &'static str,
    yes: &'static str,
    no: &'static str,
}

const READY: Question = Question {
    path: "/readyz",
    yes: "ready",
    no: "not ready",
};

const LIVE: Question = Question {
    path: "/healthz",
    yes: "ok",
    no: "not ok",
};

/// Our listeners speak HTTP/2 beside HTTP/1.1, so the connection of every other command serves here too.
async fn by_http(shown: &str, channel: Channel, question: &Question) -> Result<String, Failure> {
    let not_ops = |cause: &str| {
        Failure::failed(anyhow!(
            "{shown} did not answer as an `ops` listener does: {}\nhint: `authz` and `admin` listeners are asked with --grpc",
            printable(cause)
        ))
    };
    let request = Request::get(question.path)
        .body(Body::empty())
        .map_err(Failure::failed)?;
    let answer = channel.oneshot(request).await;
    let answer = answer.map_err(|error| not_ops(&io_cause(&error)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let body = body.await.map_err(|error| not_ops(&io_cause(&*error)))?;
    let said = one_line(&body.to_bytes());
    match status {
        StatusCode::OK if said.starts_with(question.yes) => Ok(said),
        StatusCode::SERVICE_UNAVAILABLE if said.starts_with(question.no) => {
            Err(Failure::failed(anyhow!("{shown} is {said}")))
        }
        status => Err(not_ops(&format!("its answer has status {status}"))),
    }
}

fn one_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn asks(listeners: &str, address: &str, grpc: bool) {
        let text = format!("{listeners}\nkeyring: {{data: {{file: d}}, vault: {{file: v}}}}\n");
        let loaded = Config::parse(&text, "the test", std::iter::empty()).unwrap();
        let (name, listen, tls) = listener(&loaded.config).unwrap();
        let found = reachable(name, listen, tls).unwrap();
        assert_eq!((found.written().as_str(), name != "ops"), (address, grpc));
    }

    #[test]
    fn the_configuration_says_whom_to_ask() {
        asks("ops: {}\nauthz: {}", "127.0.0.1:9003", false);
        for (listen, address) in [
            ("0.0.0.0:9103", "127.0.0.1:9103"),
            ("[::]:9103", "[::1]:9103"),
            ("192.0.2.1:9103", "192.0.2.1:9103"),
            ("unix:/run/ops.sock", "unix:/run/ops.sock"),
        ] {
            let ops = format!("ops: {{listen: ['{listen}'], insecure: true}}\nauthz: {{}}");
            asks(&ops, address, false);
        }
        asks("authz: {}", "127.0.0.1:9001", true);
        asks(
            "authz: {listen: ['127.0.0.1:1', 'unix:/run/a.sock']}",
            "unix:/run/a.sock",
            true,
        );
        asks(
            "admin: {tls: {cert_file: c, key_file: k}}",
            "https://127.0.0.1:9002",
            true,
        );
    }

    #[test]
    fn a_port_of_the_system_must_be_named() {
        let listen = "127.0.0.1:0".parse().unwrap();
        let refused = reachable("ops", &listen, false).unwrap_err().to_string();
        assert!(
            refused.contains("ops.listen") && refused.contains("--addr"),
            "{refused}"
        );
    }
}
