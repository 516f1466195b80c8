//! Real Redis servers of a test's own: one alone, a cluster, two under Sentinel.

pub(crate) mod cluster;
pub(crate) mod proxy;
pub(crate) mod sentinel;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::{AsyncConnectionConfig, Client};
use tempfile::TempDir;

use super::ca::{Ca, Pair};
use super::process::Process;
use super::{PATIENCE, free_port, wait_for};

/// A connection of somebody who is none of our processes, and has patience.
pub(crate) async fn somebody(port: u16) -> MultiplexedConnection {
    let client = client(port);
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connection = client.get_multiplexed_async_connection_with_config(&patient);
    connection.await.unwrap()
}

/// Somebody who listens to a server, for as long as it takes.
pub(crate) async fn listener(port: u16) -> PubSub {
    client(port).get_async_pubsub().await.unwrap()
}

fn client(port: u16) -> Client {
    Client::open(format!("redis://127.0.0.1:{port}")).unwrap()
}

/// What a server has beyond the plain configuration: no password, no TLS, nothing kept over a restart.
#[derive(Default, Clone, Copy)]
pub(crate) struct Options<'a> {
    /// Each write is in a file before it is acknowledged, so that it outlives a SIGKILL.
    pub(crate) append_only: bool,
    pub(crate) tls: Tls<'a>,
    /// The password of the user `default`.
    pub(crate) password: Option<&'a str>,
    /// Rules of the ACL file, as `sidecar on >secret ~ks:* +get`.
    pub(crate) users: &'a [&'a str],
    /// More lines of `redis.conf`.
    pub(crate) more: &'a str,
}

/// With TLS, plain text is not served.
#[derive(Default, Clone, Copy)]
pub(crate) enum Tls<'a> {
    #[default]
    Off,
    /// The server's certificate is this CA's.
    On(&'a Ca),
    /// Clients must have one of it too.
    Mutual(&'a Ca),
}

#[derive(Debug)]
pub(crate) struct RedisServer {
    process: Option<Process>,
    args: &'static [&'static str],
    port: u16,
    scheme: &'static str,
    password: Option<String>,
    // Last, so that the directory goes after the program that writes into it.
    dir: TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options<'_>) -> Self {
        Self::start_as(&["redis.conf"], options)
    }

    fn start_as(args: &'static [&'static str], options: Options<'_>) -> Self {
        let dir = tempfile::Builder::new().prefix("redis-").tempdir();
        let mut server = Self {
            process: None,
            args,
            port: free_port(),
            scheme: match options.tls {
                Tls::Off => "redis",
                Tls::On(_) | Tls::Mutual(_) => "rediss",
            },
            password: options.password.map(str::to_owned),
            dir: dir.expect("make a directory"),
        };
        server.write("redis.conf", &config(server.port, options));
        server.write("users.acl", &users(options));
        if let Tls::On(ca) | Tls::Mutual(ca) = options.tls {
            server.write("ca.crt", &ca.pem);
            server.write_pair("server", &ca.server());
            server.write_pair("client", &ca.client("spiffe://mesh/redis-cli"));
        }
        server.launch();
        server
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("write a file for Redis");
    }

    fn write_pair(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.crt"), &pair.cert);
        self.write(&format!("{name}.key"), &pair.key);
    }

    /// Starts the program and waits until it answers, its data loaded.
    fn launch(&mut self) {
        let server = program("redis-server");
        let mut process = Process::start("redis", &server, self.args, self.dir.path());
        wait_for("Redis to answer", || {
            process.assert_running();
            let answer = self.ask(&self.url(), &["PING"]);
            (answer.as_deref() == Ok("PONG")).then_some(())
        });
        self.process = Some(process);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// For the user `default`.
    pub(crate) fn url(&self) -> String {
        match &self.password {
            Some(password) => self.url_as("default", password),
            None => format!("{}://{}", self.scheme, self.address()),
        }
    }

    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("{}://{user}:{password}@{}", self.scheme, self.address())
    }

    /// With TLS: what clients trust.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Starts it again on the same port and directory, after a SIGKILL if it runs.
    pub(crate) fn restart(&mut self) {
        if self.is_running() {
            self.kill();
        }
        self.launch();
    }

    /// SIGSTOP: connections are still accepted, by the kernel, and nothing is answered, to [`Self::cli`] neither.
    pub(crate) fn pause(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    pub(crate) fn unpause(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// What `redis-cli` prints for one command; panics with the error when it is refused.
    #[track_caller]
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let answer = self.ask(&self.url(), args);
        answer.unwrap_or_else(|err| panic!("redis-cli {args:?}: {err}"))
    }

    /// The same as the user of the URL, and a refusal is an answer too.
    pub(crate) fn ask(&self, url: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program("redis-cli"));
        command.args(["-e", "--no-auth-warning", "-u", url]);
        if url.starts_with("rediss:") {
            command.args(["--cacert", "ca.crt", "--cert", "client.crt"]);
            command.args(["--key", "client.key"]);
        }
        let command = command.args(args).current_dir(self.dir.path());
        let command = command.env_remove("REDISCLI_AUTH").stdin(Stdio::null());
        let output = command.output().expect("run redis-cli");
        let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&[output.stdout, output.stderr].concat())),
        }
    }

    /// Removes every key.
    pub(crate) fn flush(&self) {
        self.cli(&["FLUSHALL"]);
    }

    /// All that it holds, each key and value as plain bytes: for searches for what must not be there.
    pub(crate) fn dump(&self) -> Vec<u8> {
        self.cli(&["SAVE"]);
        let file = self.dir.path().join("dump.rdb");
        let dump = fs::read(&file).expect("SAVE wrote it");
        fs::remove_file(file).expect("no restart may find it");
        dump
    }

    /// Commands since the start; each look is one, or two with a password.
    pub(crate) fn commands_processed(&self) -> u64 {
        let stats = self.info("stats");
        stats["total_commands_processed"].parse().expect("a number")
    }

    /// How often each command was called since the start, our own calls among them: `get`, `client|tracking`.
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        let stats = self.info("commandstats");
        let calls = stats.iter().filter_map(|(name, value)| {
            let calls = value.strip_prefix("calls=")?.split(',').next()?;
            Some((
                name.strip_prefix("cmdstat_")?.to_owned(),
                calls.parse().ok()?,
            ))
        });
        calls.collect()
    }

    fn info(&self, section: &str) -> BTreeMap<String, String> {
        fields(&self.cli(&["INFO", section]))
    }

    /// Whether it is a replica that has all that its primary has.
    fn is_replica_in_sync(&self) -> bool {
        let link = self.info("replication").remove("master_link_status");
        link.as_deref() == Some("up")
    }
}

/// Lines of the form `name:value`.
fn fields(text: &str) -> BTreeMap<String, String> {
    let fields = text.lines().filter_map(|line| line.trim().split_once(':'));
    fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What `make setup` put into the project.
fn program(name: &str) -> PathBuf {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin");
    let path = bin.join(name);
    assert!(
        path.exists(),
        "no Redis at {}: run `make setup`, which installs it",
        path.display()
    );
    path
}

const TLS_FILES: &str = "tls-ca-cert-file ca.crt
tls-cert-file server.crt
tls-key-file server.key";

fn config(port: u16, options: Options<'_>) -> String {
    let append_only = if options.append_only { "yes" } else { "no" };
    let ports = match options.tls {
        Tls::Off => format!("port {port}"),
        Tls::On(_) => format!("{TLS_FILES}\nport 0\ntls-port {port}\ntls-auth-clients no"),
        Tls::Mutual(_) => format!("{TLS_FILES}\nport 0\ntls-port {port}\ntls-auth-clients yes"),
    };
    let more = options.more;
    // Uncompressed, so that a search in a dump finds what is there; and a replica need not wait for others.
    format!(
        r#"bind 127.0.0.1
{ports}
aclfile users.acl
save ""
appendonly {append_only}
rdbcompression no
repl-diskless-sync-delay 0
{more}
"#
    )
}

fn users(options: Options<'_>) -> String {
    let password = match options.password {
        Some(password) => format!(">{password}"),
        None => "nopass".to_owned(),
    };
    let mut lines = vec![format!("user default on {password} ~* &* +@all")];
    lines.extend(options.users.iter().map(|rule| format!("user {rule}")));
    lines.join("\n")
}
