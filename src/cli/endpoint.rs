//! Where a control plane listens, and the flags that say so.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use tonic::transport::{Channel, Endpoint};

use crate::cli::Failure;
use crate::cli::output::Form;
use crate::cli::tls::{self, TlsArgs};
use crate::config;

/// Flags of every client command: the server's address, the credential and the form of the output.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub(super) struct ClientArgs {
    /// The control plane: host:port, http(s)://host:port or unix:/path; without it, KEYSTILE_ADDR, then the context's,
    /// then 127.0.0.1:9002
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(super) addr: Option<Address>,
    /// File that holds the API key (or a JWT, where the server accepts them), - for standard input; without it, KEYSTILE_API_KEY, then the context's
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    /// The context of `keystile login` to use; without it, KEYSTILE_CONTEXT, then the one in use
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// How long one call may take, repeats included
    #[arg(long, global = true, value_name = "DURATION", value_parser = config::duration, default_value = "10s")]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// Form of the output
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    pub(super) output: Form,
}

/// Where a control plane listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// As people know it.
    pub(super) shown: String,
    uri: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err("a Unix socket is written unix:/absolute/path".into());
            }
            let uri = format!("unix:{path}");
            return Ok(Self {
                shown: uri.clone(),
                uri,
            });
        }
        let (scheme, shown) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest.trim_end_matches('/')),
            Some(_) => return Err("only http://, https:// and unix: are known".into()),
            None => ("http", text),
        };
        let uri: http::Uri = format!("{scheme}://{shown}")
            .parse()
            .map_err(|_| "is not host:port")?;
        if uri.port_u16().is_none()
            || uri.host().is_none_or(str::is_empty)
            || uri.path() != "/"
            || shown.contains('@')
        {
            return Err("is not host:port, http(s)://host:port or unix:/path".into());
        }
        Ok(Self {
            shown: shown.to_owned(),
            uri: uri.to_string(),
        })
    }
}

impl Address {
    /// In a form that parses to the same again.
    pub(super) fn written(&self) -> String {
        match self.uri.starts_with("https:") {
            true => format!("https://{}", self.shown),
            false => self.shown.clone(),
        }
    }

    pub(super) async fn dial(
        &self,
        tls: &TlsArgs,
        time_limit: Duration,
    ) -> Result<Channel, Failure> {
        let endpoint = Endpoint::from_shared(self.uri.clone()).map_err(Failure::failed)?;
        let connected = match endpoint.uri().scheme_str() {
            Some("https") => {
                let address = endpoint.uri().clone();
                tls.connector()?.connect(address, time_limit).await
            }
            Some("http") => {
                tls.refuse_plain_text()?;
                endpoint.connect_timeout(time_limit).connect().await
            }
            Some(_) | None => endpoint.connect_timeout(time_limit).connect().await,
        };
        connected.map_err(|error| {
            let cause = tls::cause(&error)
                .unwrap_or_else(|| format!("{}; is `keystile serve` running?", io_cause(&error)));
            Failure::failed(anyhow!("cannot reach {}: {cause}", self.shown))
        })
    }
}

/// The reason beneath a failed connection, in few words.
pub(super) fn io_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    loop {
        if let Some(io) = last.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::ConnectionRefused => "connection refused".into(),
                io::ErrorKind::NotFound => "no such socket".into(),
                io::ErrorKind::PermissionDenied => "permission denied".into(),
                io::ErrorKind::TimedOut => "no answer".into(),
                _ => io.to_string(),
            };
        }
        match last.source() {
            Some(source) => last = source,
            None => return last.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_in_the_forms_that_the_config_has() {
        for (text, shown, uri) in [
            ("127.0.0.1:9002", "127.0.0.1:9002", "http://127.0.0.1:9002/"),
            ("http://localhost:1/", "localhost:1", "http://localhost:1/"),
            (
                "https://localhost:1/",
                "localhost:1",
                "https://localhost:1/",
            ),
            ("[::1]:9002", "[::1]:9002", "http://[::1]:9002/"),
            (
                "unix:/run/keystile.sock",
                "unix:/run/keystile.sock",
                "unix:/run/keystile.sock",
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.shown.as_str(), address.uri.as_str()), (shown, uri));
        }
        for bad in [
            "",
            "localhost",
            "ftp://localhost:1",
            "unix:run/x",
            "http://a:1/path",
            "user:pw@host:1",
            "a b:1",
            ":1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
