//! A full Check over a Unix socket against the floor: a plain tonic server that checks nothing.
//!
//! The server runs in a process of its own on one core, the load on another; rounds alternate, medians are shown.
//! `cargo bench --bench load` takes half a minute; `-- 10000` asks for 10,000 tenants (1,000,000 keys).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench is a program of its own"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod world;

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keystile::server;
use mimalloc::MiMalloc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use zeroizing_alloc::ZeroAlloc;

#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 4;
const STREAMS: usize = 16;
/// Clock ticks a second in /proc/PID/stat.
const TICKS: f64 = 100.0;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    match args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["floor", dir] => floor(Path::new(dir)),
        ["keystile", dir, tenants] => keystile(Path::new(dir), tenants.parse().unwrap()),
        rest => compare(rest.first().map_or(10, |tenants| tenants.parse().unwrap())),
    }
}

/// One round's figures.
#[derive(Clone, Copy)]
struct Figures {
    rps: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

fn compare(tenants: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut ours = start(dir.path(), &["keystile", &tenants.to_string()], 0);
    let mut floor = start(dir.path(), &["floor"], 0);
    pin(Pid::from_raw(0), 1);
    let tokens: Vec<String> = fs::read_to_string(dir.path().join("tokens"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let messages: Arc<Vec<Bytes>> = Arc::new(
        tokens
            .iter()
            .take(200_000)
            .map(|token| framed(token))
            .collect(),
    );
    let (mut of_floor, mut of_ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_floor.push(round(&dir.path().join("floor.sock"), floor.id(), &messages));
        of_ours.push(round(
            &dir.path().join("keystile.sock"),
            ours.id(),
            &messages,
        ));
    }
    println!(
        "{} keys in {tenants} tenants; {CONNECTIONS} connections x {STREAMS} streams; medians of {ROUNDS} rounds",
        tokens.len()
    );
    println!(
        "{:<10} {:>10} {:>9} {:>9} {:>12}",
        "server", "checks/s", "p50 us", "p99 us", "CPU us/check"
    );
    let floor_median = show("no-op", &of_floor);
    let ours_median = show("keystile", &of_ours);
    println!(
        "ratio: {:.2} x the checks a second, {:.2} x the p99, {:.2} x the CPU time a check",
        ours_median.rps / floor_median.rps,
        ours_median.p99 / floor_median.p99,
        ours_median.cpu / floor_median.cpu,
    );
    for child in [&mut ours, &mut floor] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn show(name: &str, rounds: &[Figures]) -> Figures {
    let median = |value: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let median = Figures {
        rps: median(|figures| figures.rps),
        p50: median(|figures| figures.p50),
        p99: median(|figures| figures.p99),
        cpu: median(|figures| figures.cpu),
    };
    println!(
        "{name:<10} {:>10.0} {:>9.0} {:>9.0} {:>12.2}",
        median.rps, median.p50, median.p99, median.cpu
    );
    median
}

fn start(dir: &Path, args: &[&str], core: usize) -> Child {
    let socket = dir.join(format!("{}.sock", args[0]));
    let (name, rest) = args.split_first().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .arg(name)
        .arg(dir)
        .args(rest)
        .spawn()
        .unwrap();
    pin(Pid::from_raw(child.id().cast_signed()), core);
    let deadline = Instant::now() + Duration::from_secs(900);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "{name} does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

fn pin(pid: Pid, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).unwrap();
    sched_setaffinity(pid, &cores).unwrap();
}

/// User and system time of a process and all its threads, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

fn round(socket: &Path, pid: u32, messages: &Arc<Vec<Bytes>>) -> Figures {
    let runtime = runtime();
    runtime.block_on(async {
        let before = cpu_seconds(pid);
        let start = Instant::now();
        let mut streams = tokio::task::JoinSet::new();
        for connection in 0..CONNECTIONS {
            let io = TokioIo::new(UnixStream::connect(socket).await.unwrap());
            let (sender, connected) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connected);
            for stream in 0..STREAMS {
                let at = (connection * STREAMS + stream) * 7919;
                streams.spawn(ask(sender.clone(), Arc::clone(messages), at, start + ROUND));
            }
        }
        let mut took: Vec<u32> = streams.join_all().await.into_iter().flatten().collect();
        let seconds = start.elapsed().as_secs_f64();
        let cpu = (cpu_seconds(pid) - before) * 1e6 / took.len() as f64;
        took.sort_unstable();
        let quantile = |q: f64| f64::from(took[(took.len() as f64 * q) as usize]) / 1000.0;
        Figures {
            rps: took.len() as f64 / seconds,
            p50: quantile(0.5),
            p99: quantile(0.99),
            cpu,
        }
    })
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn ask(
    mut sender: Sender,
    messages: Arc<Vec<Bytes>>,
    mut at: usize,
    end: Instant,
) -> Vec<u32> {
    let mut took = Vec::new();
    while Instant::now() < end {
        let request = Request::post("http://localhost/envoy.service.auth.v3.Authorization/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "200m")
            .body(Full::new(messages[at % messages.len()].clone()))
            .unwrap();
        let asked = Instant::now();
        let answer = sender
            .send_request(request)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap();
        took.push(asked.elapsed().as_nanos() as u32);
        let answer = answer.to_bytes();
        // status first, ok_response second: an allow, with headers.
        assert!(
            answer.len() > 60 && answer[5..7] == [0x0a, 0x00] && answer[7] == 0x1a,
            "every check is allowed"
        );
        at += 1;
    }
    took
}

fn framed(token: &str) -> Bytes {
    let message = world::message(token);
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server that allows everything, as plainly as tonic lets one write it.
struct NoOp;

#[tonic::async_trait]
impl Authorization for NoOp {
    async fn check(
        &self,
        _: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        let header = |key: &str, value: &str| HeaderValueOption {
            header: Some(HeaderValue {
                key: key.into(),
                value: value.into(),
                ..Default::default()
            }),
            append_action: 2,
            ..Default::default()
        };
        let ok = OkHttpResponse {
            headers: vec![
                header("x-tenant-id", "tenant-1"),
                header("x-tenant-plan", "pro"),
                header("x-api-key-id", "abcdefghijklmnopqrst"),
                header("x-api-key-owner", "user-1@example.com"),
            ],
            headers_to_remove: vec!["x-api-key".into()],
            ..Default::default()
        };
        let status = Some(envoy_types::pb::google::rpc::Status::default());
        Ok(tonic::Response::new(CheckResponse {
            status,
            http_response: Some(HttpResponse::OkResponse(ok)),
            ..Default::default()
        }))
    }
}

fn floor(dir: &Path) {
    runtime().block_on(async {
        let listener = UnixListener::bind(dir.join("floor.sock")).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        tonic::transport::Server::builder()
            .add_service(AuthorizationServer::new(NoOp))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}

/// The real server, one worker, all keys in memory.
fn keystile(dir: &Path, tenants: usize) {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let listen = format!("unix:{}/keystile.sock", dir.display());
            let (config, parts, tokens) = world::loaded(&listen, tenants, "").await;
            fs::write(dir.join("tokens"), tokens.join("\n")).unwrap();
            server::run(&config, None, parts, async |_| Ok(()))
                .await
                .unwrap();
        });
}
