//! Opens connections: who is asked, as whom, over what.

use std::io;
use std::path::Path;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, ProtocolVersion, PushInfo, RedisConnectionInfo, TlsCertificates,
};
use zeroize::Zeroizing;

use super::diagnose;
pub(super) use super::diagnose::ConnectError;
use super::settings::{Address, Login, Settings, Tls, Topology};
use crate::file_access::{self, Readers, Refusal};
use crate::telemetry::chain;

/// The most bytes of a password file.
const PASSWORD_LEN_MAX: usize = 4096;
/// The most bytes of any file.
const FILE_LEN_MAX: usize = 4 << 20;

/// How many commands may wait to be written on one connection.
const PIPELINE_LEN: usize = 1024;

fn read(path: &Path, readers: Readers) -> Result<Zeroizing<Vec<u8>>, ConnectError> {
    let unreadable = |error| ConnectError::File {
        path: path.display().to_string(),
        error,
    };
    file_access::read(path, readers, FILE_LEN_MAX).map_err(|refusal| match refusal {
        Refusal::Missing => unreadable(nix::errno::Errno::ENOENT.into()),
        Refusal::Unreadable(error) => unreadable(error),
        Refusal::NotAFile { kind } => unreadable(io::Error::other(format!("it is {kind}"))),
        Refusal::TooLarge => unreadable(io::Error::other("it is too large")),
        Refusal::Exposed(exposure) => ConnectError::Exposed(exposure),
    })
}

fn password(path: &Path) -> Result<Zeroizing<String>, ConnectError> {
    let bytes = read(path, Readers::OwnerAlone)?;
    let bad = |problem: String| ConnectError::Password {
        path: path.display().to_string(),
        problem,
    };
    let text = file_access::utf8(&bytes).map_err(|problem| bad(problem.to_string()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > PASSWORD_LEN_MAX {
        return Err(bad("is empty or too long for a password".to_owned()));
    }
    let quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Err(bad(
            "is in quotes: write the password without them".to_owned()
        ));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn certificates(tls: &Tls) -> Result<TlsCertificates, ConnectError> {
    let client_tls = tls
        .client
        .as_ref()
        .map(|(certificate, key)| {
            Ok::<_, ConnectError>(ClientTlsConfig {
                client_cert: read(certificate, Readers::Anybody)?.to_vec(),
                client_key: read(key, Readers::OwnerAlone)?.to_vec(),
            })
        })
        .transpose()?;
    let authority = |file| read(file, Readers::Anybody).map(|pem| pem.to_vec());
    let root_cert = tls.ca_file.as_deref().map(authority).transpose()?;
    Ok(TlsCertificates {
        client_tls,
        root_cert,
    })
}

impl Settings {
    /// What is wrong with the files that it names, each with the field of the configuration.
    pub fn unusable_files(&self) -> Vec<(&'static str, String)> {
        let mistakes = unusable_files(self).into_iter();
        mistakes
            .map(|(field, error)| (field, chain(&error).to_string()))
            .collect()
    }
}

fn unusable_files(settings: &Settings) -> Vec<(&'static str, ConnectError)> {
    let mut logins = vec![("password_file", &settings.login)];
    if let Topology::Sentinel { login, .. } = &settings.topology {
        logins.push(("sentinel_password_file", login));
    }
    let passwords = logins
        .into_iter()
        .filter_map(|(field, login)| Some((field, password(login.password_file.as_ref()?).err()?)));
    let (ca, client) = match &settings.tls {
        Some(tls) => (tls.ca_file.as_ref(), tls.client.as_ref()),
        None => (None, None),
    };
    let pems = [
        ("ca_file", ca, Readers::Anybody),
        (
            "cert_file",
            client.map(|(certificate, _)| certificate),
            Readers::Anybody,
        ),
        ("key_file", client.map(|(_, key)| key), Readers::OwnerAlone),
    ];
    let pems = pems
        .into_iter()
        .filter_map(|(field, file, readers)| Some((field, read(file?, readers).err()?)));
    passwords.chain(pems).collect()
}

fn info(settings: &Settings, at: &Address, login: &Login) -> Result<ConnectionInfo, ConnectError> {
    let address = match at {
        Address::Tcp { host, port } if settings.tls.is_some() => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        },
        Address::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut redis = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(settings.database)
        .set_lib_name("keystile", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &login.username {
        redis = redis.set_username(username);
    }
    if let Some(file) = &login.password_file {
        redis = redis.set_password(password(file)?.as_str());
    }
    Ok(address.into_connection_info()?.set_redis_settings(redis))
}

fn client(settings: &Settings, at: &Address, login: &Login) -> Result<Client, ConnectError> {
    let info = info(settings, at, login)?;
    Ok(match (&settings.tls, at) {
        (Some(tls), Address::Tcp { .. }) => Client::build_with_tls(info, certificates(tls)?)?,
        (Some(_), Address::Unix(_)) | (None, _) => Client::open(info)?,
    })
}

/// A connection to one server. `on_push` is called with what the server pushes, and at the connection's end.
pub(super) async fn open(
    settings: &Settings,
    at: &Address,
    on_push: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<MultiplexedConnection, ConnectError> {
    open_as(settings, at, &settings.login, on_push).await
}

async fn open_as(
    settings: &Settings,
    at: &Address,
    login: &Login,
    on_push: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<MultiplexedConnection, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.connect_timeout))
        .set_response_timeout(Some(settings.response_timeout))
        .set_pipeline_buffer_size(PIPELINE_LEN)
        .set_push_sender(move |push| {
            on_push(push);
            Ok::<(), redis::aio::SendError>(())
        });
    let client = client(settings, at, login)?;
    let opened = client.get_multiplexed_async_connection_with_config(&config);
    // Login and TLS are not within the crate's own limit.
    match tokio::time::timeout(settings.connect_timeout, opened).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(diagnose::of_server(settings, at, error).await),
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// A connection to a cluster.
pub(super) async fn open_cluster(
    settings: &Settings,
    nodes: &[Address],
) -> Result<ClusterConnection, ConnectError> {
    match try_open_cluster(settings, nodes).await {
        Err(error) => Err(no_node(settings, nodes, &error).await),
        opened => opened,
    }
}

async fn try_open_cluster(
    settings: &Settings,
    nodes: &[Address],
) -> Result<ClusterConnection, ConnectError> {
    let infos = nodes
        .iter()
        .map(|at| info(settings, at, &settings.login))
        .collect::<Result<Vec<_>, _>>()?;
    let mut builder = ClusterClient::builder(infos)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(settings.connect_timeout)
        .response_timeout(settings.response_timeout)
        .overall_response_timeout(Some(settings.response_timeout))
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(CLUSTER_RETRY_WAIT_MS)
        .max_retry_wait(CLUSTER_RETRY_WAIT_MS * 4);
    if let Some(tls) = &settings.tls {
        builder = builder.certs(certificates(tls)?);
    }
    let opened = async { builder.build()?.get_async_connection().await };
    match tokio::time::timeout(settings.connect_timeout, opened).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// Why no node of a cluster could be used: what each says by itself.
async fn no_node(settings: &Settings, nodes: &[Address], error: &ConnectError) -> ConnectError {
    let each = nodes.iter().map(|at| async move {
        let why = match ask_node(settings, at).await {
            Ok(()) => "answers".to_owned(),
            Err(error) => chain(&error).to_string(),
        };
        format!("{at}: {why}")
    });
    let each = futures_util::future::join_all(each).await;
    ConnectError::NoNode {
        nodes: each.join("; "),
        problem: chain(error).to_string(),
    }
}

async fn ask_node(settings: &Settings, at: &Address) -> Result<(), ConnectError> {
    let mut connection = open(settings, at, |_| {}).await?;
    let mut ask = redis::cmd("CLUSTER");
    ask.arg("SLOTS");
    ask.exec_async(&mut connection).await?;
    Ok(())
}

/// Redirections while slots move are followed this often.
const CLUSTER_RETRIES: u32 = 4;
const CLUSTER_RETRY_WAIT_MS: u64 = 5;

/// Who is the primary by the word of the first sentinel that answers.
pub(super) async fn ask_sentinels(settings: &Settings) -> Result<Address, ConnectError> {
    let Topology::Sentinel {
        sentinels,
        service,
        login,
    } = &settings.topology
    else {
        unreachable!("only asked where there are sentinels")
    };
    let mut problem = "there are no sentinels".to_owned();
    for sentinel in sentinels {
        match ask_sentinel(settings, sentinel, service, login).await {
            Ok(Some(primary)) => return Ok(primary),
            Ok(None) => problem = format!("{sentinel} does not watch it"),
            Err(error) => problem = format!("{sentinel}: {}", chain(&error)),
        }
    }
    Err(ConnectError::NoPrimary {
        service: service.clone(),
        problem,
    })
}

async fn ask_sentinel(
    settings: &Settings,
    sentinel: &Address,
    service: &str,
    login: &Login,
) -> Result<Option<Address>, ConnectError> {
    let any = Settings {
        database: 0,
        ..settings.clone()
    };
    let mut connection = open_as(&any, sentinel, login, |_| {}).await?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("get-master-addr-by-name").arg(service);
    let answer: Option<(String, u16)> = ask.query_async(&mut connection).await?;
    Ok(answer.map(|(host, port)| Address::Tcp { host, port }))
}
