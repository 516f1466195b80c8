//! Talking to a control plane: where it is, who we are, and what its refusals mean.

use std::error::Error as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::cli::output::{Form, printable};
use crate::cli::tls::{self, TlsArgs};
use crate::crypto::token::TOKEN_LEN_MAX;
use crate::proto::admin::key_service_client::KeyServiceClient;
use crate::proto::admin::tenant_service_client::TenantServiceClient;

/// The longest that one call may take.
const DEADLINE: Duration = Duration::from_secs(10);
const KEY_VARIABLE: &str = "KEYSTILE_API_KEY";

/// How every client command is told where to go and how to answer.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub(super) struct ClientArgs {
    /// The control plane: host:port, http://host:port, https://host:port or unix:/path
    #[arg(
        long,
        global = true,
        env = "KEYSTILE_ADDR",
        default_value = "http://127.0.0.1:9002"
    )]
    addr: Address,
    /// File that holds the API key; without it, the environment variable KEYSTILE_API_KEY
    #[arg(long, global = true, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
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
struct Address {
    /// As people know it.
    shown: String,
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

/// A connection, and the key that opens it.
pub(super) struct Client {
    channel: Channel,
    bearer: Bearer,
    address: Address,
}

/// Adds our key, if we have one, and the deadline to each call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        request.set_timeout(DEADLINE);
        Ok(request)
    }
}

type Authorized = InterceptedService<Channel, Bearer>;

impl Client {
    pub(super) async fn connect(args: &ClientArgs) -> Result<Self, Failure> {
        let bearer = bearer(args)?;
        let address = args.addr.clone();
        let endpoint = args
            .tls
            .endpoint(&address.uri)?
            .connect_timeout(DEADLINE)
            .timeout(DEADLINE);
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = tls::cause(&error)
                .unwrap_or_else(|| format!("{}; is `keystile serve` running?", io_cause(&error)));
            Failure::failed(anyhow!("cannot reach {}: {cause}", address.shown))
        })?;
        Ok(Self {
            channel,
            bearer,
            address,
        })
    }

    pub(super) fn tenants(&self) -> TenantServiceClient<Authorized> {
        TenantServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn keys(&self) -> KeyServiceClient<Authorized> {
        KeyServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// What the server said, and what to do about it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it is the function of a map_err"
    )]
    pub(super) fn refused(&self, status: Status) -> Failure {
        Failure::Failed(anyhow::Error::msg(explain(&self.address.shown, &status)))
    }
}

fn bearer(args: &ClientArgs) -> Result<Bearer, Failure> {
    let token = match &args.api_key_file {
        Some(path) => read_key(path)?,
        None => match crate::config::variable(KEY_VARIABLE) {
            Some(token) => token,
            None if args.tls.identifies_us() => return Ok(Bearer(None)),
            None => {
                return Err(Failure::failed(anyhow!(
                    "no API key: set {KEY_VARIABLE} or --api-key-file (`keystile bootstrap` makes the first key)"
                )));
            }
        },
    };
    let text = Zeroizing::new(format!("Bearer {}", token.trim()));
    let mut value: MetadataValue<Ascii> = text.parse().map_err(|_| {
        Failure::failed(anyhow!("the API key holds a character that no API key has"))
    })?;
    value.set_sensitive(true);
    Ok(Bearer(Some(value)))
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| {
        let error = anyhow::Error::new(error);
        Failure::Failed(error.context(format!("cannot read the API key from {}", path.display())))
    };
    // Room for a line end; more than that is another file.
    let limit = TOKEN_LEN_MAX + 2;
    let mut text = Zeroizing::new(String::with_capacity(limit + 1));
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(u64::try_from(limit + 1).unwrap_or(u64::MAX))
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() > limit || text.trim().is_empty() {
        return Err(Failure::failed(anyhow!(
            "{} does not hold an API key: it must have one line of at most {TOKEN_LEN_MAX} characters",
            path.display()
        )));
    }
    Ok(text)
}

/// The reason beneath a failed connection, in few words.
fn io_cause(error: &(dyn std::error::Error + 'static)) -> String {
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

fn explain(address: &str, status: &Status) -> String {
    let message = printable(status.message());
    let details = status.get_error_details();
    match status.code() {
        Code::Unauthenticated => format!("{message}; check {KEY_VARIABLE} or --api-key-file"),
        Code::InvalidArgument => {
            let fields = details
                .bad_request()
                .map(|bad| bad.field_violations.as_slice());
            match fields.unwrap_or_default() {
                [] | [_] => message,
                all => all.iter().fold(message, |text, violation| {
                    let field = printable(&violation.field);
                    format!("{text}\n  {field}: {}", printable(&violation.description))
                }),
            }
        }
        // Nobody but our own deadline cancels a call of ours.
        Code::DeadlineExceeded | Code::Cancelled => {
            format!("{address} did not answer within {} s", DEADLINE.as_secs())
        }
        Code::Unimplemented => {
            format!("{address} does not serve the admin API; is it the `admin` listener?")
        }
        _ if details.error_info().is_some() => message,
        _ if status.source().and_then(tls::cause).is_some() => {
            let cause = status.source().and_then(tls::cause).unwrap_or_default();
            format!("cannot reach {address}: {cause}")
        }
        Code::Unavailable => format!("lost the connection to {address}; try again"),
        code => {
            let cause = status.source().map_or_else(|| message.clone(), io_cause);
            format!(
                "{address} did not answer as the admin API does ({code:?}: {}); is it the `admin` listener?",
                printable(&cause)
            )
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

    #[test]
    fn a_refusal_says_what_to_do_next() {
        use crate::status::Reason;
        let missing = explain(
            "a:1",
            &Reason::InvalidApiKey.status("the API key is not valid"),
        );
        assert_eq!(
            missing,
            "the API key is not valid; check KEYSTILE_API_KEY or --api-key-file"
        );
        let many = crate::status::invalid(vec![
            tonic_types::FieldViolation::new("key.owner", "must be short"),
            tonic_types::FieldViolation::new("key.role", "is not\u{1b}[2J known"),
        ]);
        assert_eq!(
            explain("a:1", &many),
            "2 fields are not acceptable\n  key.owner: must be short\n  key.role: is not\u{FFFD}[2J known"
        );
        let other = explain("a:1", &Status::unimplemented(""));
        assert!(other.contains("`admin` listener"), "{other}");
        for slow in [
            Status::deadline_exceeded("x"),
            Status::cancelled("Timeout expired"),
        ] {
            assert_eq!(explain("a:1", &slow), "a:1 did not answer within 10 s");
        }
    }
}
