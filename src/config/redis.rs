//! The Redis store's section: what its fields say together, and the store that they name.

use std::path::Path;

use super::RedisMode;
use super::mistake::Mistake;
use super::section::Redis;
use super::text::FilePath;
use super::url::{RedisNode, RedisUrl, is_loopback};
use crate::store::redis::{Address, Login, Settings, Tls, Topology};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Whether passwords and records travel in plain text beyond this machine.
pub fn is_plain_text_beyond_the_machine(settings: &Settings) -> bool {
    let leaves = |address: &Address| match address {
        Address::Tcp { host, .. } => !is_loopback(host),
        Address::Unix(_) => false,
    };
    settings.tls.is_none()
        && match &settings.topology {
            Topology::Standalone(address) => leaves(address),
            Topology::Sentinel { sentinels, .. } => sentinels.iter().any(leaves),
            Topology::Cluster { nodes } => nodes.iter().any(leaves),
        }
}

fn at(field: &str) -> String {
    format!("store.redis.{field}")
}

fn wrong(field: &str, message: impl Into<String>) -> Mistake {
    Mistake::new(at(field), message)
}

/// What the fields of a store that is used say together.
pub(super) fn check(raw: &Redis, mistakes: &mut Vec<Mistake>) {
    let mut of_mode = Vec::new();
    check_servers(raw, &mut of_mode);
    check_sentinel_fields(raw, &mut of_mode);
    // Of a mode that is wrong by itself nothing more is said.
    mistakes.extend(of_mode.into_iter().map(|found| found.with(at("mode"))));
    check_logins(raw, mistakes);
    check_tls(raw, mistakes);
}

fn check_servers(raw: &Redis, mistakes: &mut Vec<Mistake>) {
    let any = raw.url.is_some() || !raw.nodes.is_empty();
    let mode = match raw.mode {
        RedisMode::Standalone => {
            if raw.url.is_none() {
                let message = "is missing: it says where the store is; write `url: \"redis://127.0.0.1:6379\"`";
                mistakes.push(wrong("url", message));
            }
            if !raw.nodes.is_empty() {
                let message = "is for `mode: sentinel` and `mode: cluster`; a single server is named by `url`";
                mistakes.push(wrong("nodes", message));
            }
            return;
        }
        RedisMode::Sentinel => "sentinel",
        RedisMode::Cluster => "cluster",
    };
    if !any {
        let (who, port) = match raw.mode {
            RedisMode::Sentinel => ("the sentinels", SENTINEL_PORT),
            RedisMode::Standalone | RedisMode::Cluster => ("some nodes of the cluster", PORT),
        };
        let message =
            format!("is missing: it names {who}; write `nodes: [\"redis-1.example:{port}\"]`");
        mistakes.push(wrong("nodes", message).with(at("url")));
    }
    if let Some(RedisUrl::Unix(_)) = raw.url {
        let message = format!("is a Unix socket; `mode: {mode}` needs `host:port`");
        mistakes.push(wrong("url", message));
    }
    let database = raw.url.as_ref().map_or(0, RedisUrl::database);
    if raw.mode == RedisMode::Cluster && database != 0 {
        let message = format!("names database {database}; a cluster has database 0 alone");
        mistakes.push(wrong("url", message));
    }
}

fn check_sentinel_fields(raw: &Redis, mistakes: &mut Vec<Mistake>) {
    if raw.mode == RedisMode::Sentinel {
        if raw.service.is_none() {
            let message =
                "is missing: what the sentinels call the primary; write `service: mymaster`";
            mistakes.push(wrong("service", message));
        }
        return;
    }
    for (field, is_there) in [
        ("service", raw.service.is_some()),
        ("sentinel_username", raw.sentinel_username.is_some()),
        (
            "sentinel_password_file",
            raw.sentinel_password_file.is_some(),
        ),
    ] {
        if is_there {
            let message = "is for `mode: sentinel`; write that, or take this line out";
            mistakes.push(wrong(field, message));
        }
    }
}

fn check_logins(raw: &Redis, mistakes: &mut Vec<Mistake>) {
    let in_url = raw.url.as_ref().and_then(RedisUrl::username).is_some();
    if in_url && raw.username.is_some() {
        let message = "is in `url` as well; keep one";
        mistakes.push(wrong("username", message).with(at("url")));
    }
    let (user, sentinel_user) = (raw.username.is_some(), raw.sentinel_username.is_some());
    for (named, field, password, file) in [
        (user, "username", "password_file", &raw.password_file),
        (in_url && !user, "url", "password_file", &raw.password_file),
        (
            sentinel_user,
            "sentinel_username",
            "sentinel_password_file",
            &raw.sentinel_password_file,
        ),
    ] {
        if named && file.is_none() {
            let message = format!(
                "names a user, who needs `{password}` beside it: Redis knows nobody without"
            );
            mistakes.push(wrong(field, message).with(at(password)));
        }
    }
}

fn check_tls(raw: &Redis, mistakes: &mut Vec<Mistake>) {
    let in_url = raw.url.as_ref().map(RedisUrl::has_tls);
    if raw.tls && in_url == Some(false) {
        let message =
            "contradicts `url`: TLS is `rediss://`, `redis://` and `unix:` are plain text";
        mistakes.push(wrong("tls", message).with(at("url")));
    }
    let files = [
        ("ca_file", &raw.ca_file),
        ("cert_file", &raw.cert_file),
        ("key_file", &raw.key_file),
    ];
    if !raw.tls && in_url != Some(true) {
        let how = match in_url {
            Some(_) => "begin `url` with `rediss://`",
            None => "write `tls: true`",
        };
        for (field, _) in files.into_iter().filter(|(_, file)| file.is_some()) {
            let message = format!("is for TLS, which is off; {how}, or take this line out");
            mistakes.push(wrong(field, message).with(at("tls")).with(at("url")));
        }
    }
    for (field, other, alone) in [
        ("cert_file", "key_file", raw.key_file.is_none()),
        ("key_file", "cert_file", raw.cert_file.is_none()),
    ] {
        let is_there = files
            .iter()
            .any(|(name, file)| *name == field && file.is_some());
        if is_there && alone {
            let message = format!("needs `{other}` beside it");
            mistakes.push(wrong(field, message).with(at(other)));
        }
    }
}

impl Redis {
    /// How the store is reached.
    pub fn settings(&self) -> Settings {
        let url = self.url.as_ref();
        let path = |file: &Option<FilePath>| file.as_deref().map(Path::to_path_buf);
        let in_url = url.and_then(RedisUrl::username).map(str::to_owned);
        let is_tls = self.tls || url.is_some_and(RedisUrl::has_tls);
        Settings {
            topology: self.topology(),
            database: url.map_or(0, RedisUrl::database).into(),
            login: Login {
                username: self.username.as_deref().map(str::to_owned).or(in_url),
                password_file: path(&self.password_file),
            },
            tls: is_tls.then(|| Tls {
                ca_file: path(&self.ca_file),
                client: path(&self.cert_file).zip(path(&self.key_file)),
            }),
            prefix: self.prefix.to_string(),
            connect_timeout: self.connect_timeout.0,
            response_timeout: self.response_timeout.0,
        }
    }

    fn topology(&self) -> Topology {
        let in_url = |default_port| self.url.as_ref().map(|url| url.address(default_port));
        let nodes = |default_port| {
            let first = in_url(default_port).filter(|at| matches!(at, Address::Tcp { .. }));
            let others = self.nodes.iter().cloned().map(RedisNode::into);
            first.into_iter().chain(others).collect()
        };
        match self.mode {
            RedisMode::Standalone => Topology::Standalone(
                in_url(PORT).expect("a server without a URL is refused when it is loaded"),
            ),
            RedisMode::Cluster => Topology::Cluster { nodes: nodes(PORT) },
            RedisMode::Sentinel => Topology::Sentinel {
                sentinels: nodes(SENTINEL_PORT),
                service: self
                    .service
                    .as_deref()
                    .expect("sentinels without a service are refused when they are loaded")
                    .to_owned(),
                login: Login {
                    username: self.sentinel_username.as_deref().map(str::to_owned),
                    password_file: self
                        .sentinel_password_file
                        .as_deref()
                        .map(Path::to_path_buf),
                },
            },
        }
    }
}
