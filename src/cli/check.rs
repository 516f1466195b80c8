//! `keystile check`: sends one Check to a sidecar, as Envoy would, and explains the answer.

mod message;
mod report;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use zeroize::Zeroizing;

use crate::cli::client::{is_late, tls_cause};
use crate::cli::endpoint::{Address, io_cause};
use crate::cli::output::{Form, Out, printable};
use crate::cli::tls::TlsArgs;
use crate::cli::{Failure, block_on, print_hint, prompt};
use crate::clock::Span;
use crate::config;
use crate::ext_authz::service::CHECK_PATH;
use message::{Attributes, CheckRequest, CheckResponse, Http, Peer, SocketAddress};

/// Says to the sidecar that nobody waits for the answer: nothing is counted, and each rule is accounted for.
const DRY_RUN: &str = "keystile.dry_run";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is charged or counted, and nothing reaches an upstream.

Examples:
  keystile check --token-file token.txt --path /v1/images
  keystile check --token-file token.txt --method POST --path /export --features export --scopes write
  keystile check --path / --mode optional --header 'x-tenant-id: forged' --addr unix:/run/keystile/authz.sock"
)]
pub(super) struct CheckArgs {
    /// File that holds the token, - for standard input; without it, a request without a key
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token itself; others on this machine can see it, so prefer --token-file
    #[arg(long, conflicts_with = "token_file", hide_env_values = true)]
    token: Option<String>,
    /// Where the request carries it: header:NAME, bearer, query:NAME or cookie:NAME
    #[arg(
        long = "as",
        value_name = "PLACE",
        default_value = "header:x-api-key",
        value_parser = Place::from_str
    )]
    place: Place,
    /// The request's method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The request's path, with its query
    #[arg(long, default_value = "/")]
    path: String,
    /// The host that it is for
    #[arg(long, default_value = "keystile.test")]
    host: String,
    /// Another header of it; may be repeated
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The address that it comes from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    source: IpAddr,
    /// As if the route said keystile.mode: required, optional or off
    #[arg(long)]
    mode: Option<String>,
    /// As if the route said keystile.features: comma-separated, all needed
    #[arg(long)]
    features: Option<String>,
    /// As if the route said keystile.scopes: comma-separated, all needed
    #[arg(long)]
    scopes: Option<String>,
    /// The sidecar: host:port, http(s)://host:port or unix:/path
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    addr: Address,
    #[command(flatten)]
    tls: TlsArgs,
    /// How long it may take
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "5s")]
    timeout: Duration,
    /// End with 1 unless the request is allowed
    #[arg(long)]
    fail: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    output: Form,
}

/// Where a request carries its key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Header(String),
    Bearer,
    Query(String),
    Cookie(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = match text.split_once(':') {
            Some((_, "")) => None,
            Some(("header", name)) => Some(Self::Header(name.to_ascii_lowercase())),
            Some(("query", name)) => Some(Self::Query(name.to_owned())),
            Some(("cookie", name)) => Some(Self::Cookie(name.to_owned())),
            None if text == "bearer" => Some(Self::Bearer),
            _ => None,
        };
        named.ok_or_else(|| "must be header:NAME, bearer, query:NAME or cookie:NAME".into())
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be NAME:VALUE")?;
    let name = name.trim().to_ascii_lowercase();
    if name.is_empty() {
        return Err("must be NAME:VALUE".into());
    }
    Ok((name, value.trim().to_owned()))
}

pub(super) fn run(args: &CheckArgs, out: &mut Out) -> Result<(), Failure> {
    let token = token(args)?;
    let request = request(args, token.as_ref().map(|token| token.as_str()));
    let answer = block_on(send(args, request))?;
    let report = report::Report::of(&answer);
    report.show(args.output, out)?;
    if args.fail && !report.is_allowed() {
        return Err(Failure::failed(anyhow!("the request would be refused")));
    }
    Ok(())
}

fn token(args: &CheckArgs) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(token) = &args.token {
        print_hint(
            "others on this machine can see the arguments of a command; prefer --token-file",
        );
        return Ok(Some(Zeroizing::new(token.clone())));
    }
    args.token_file
        .as_deref()
        .map(prompt::token_from)
        .transpose()
}

async fn send(args: &CheckArgs, request: CheckRequest) -> Result<CheckResponse, Failure> {
    let channel = args.addr.dial(&args.tls, args.timeout).await?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(Failure::failed)?;
    let mut request = Request::new(request);
    request.set_timeout(args.timeout);
    let codec = ProstCodec::<CheckRequest, CheckResponse>::default();
    let path = PathAndQuery::from_static(CHECK_PATH);
    let call = grpc.unary(request, path, codec);
    let answer = match tokio::time::timeout(args.timeout, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("")),
    };
    let answer = answer.map_err(|status| failed(args, &status))?;
    Ok(answer.into_inner())
}

fn failed(args: &CheckArgs, status: &Status) -> Failure {
    let address = &args.addr.shown;
    Failure::failed(match status.code() {
        _ if is_late(status) => anyhow!(
            "{address} did not answer within {}\nhint: look at its log, or give it longer with --timeout",
            Span(args.timeout)
        ),
        Code::Unimplemented => anyhow!(
            "{address} does not answer Checks\nhint: is it the `authz` listener? The `admin` one is another"
        ),
        _ if tls_cause(status).is_some() => {
            let cause = tls_cause(status).unwrap_or_default();
            anyhow!("cannot talk to {address}: {cause}")
        }
        code => {
            let source = std::error::Error::source(status);
            let cause = source.map_or_else(|| status.message().to_owned(), io_cause);
            anyhow!(
                "{address} did not answer as a sidecar does ({code:?}: {})\nhint: is it the `authz` listener, and does it want TLS?",
                printable(&cause)
            )
        }
    })
}

/// The request as Envoy describes it, pseudo-headers included.
fn request(args: &CheckArgs, token: Option<&str>) -> CheckRequest {
    let mut path = args.path.clone();
    let mut headers = BTreeMap::new();
    if let Some(token) = token {
        place(&args.place, token, &mut path, &mut headers);
    }
    for (name, value) in &args.headers {
        add(&mut headers, name, value);
    }
    for (name, value) in [
        (":method", args.method.as_str()),
        (":path", &path),
        (":authority", &args.host),
        (":scheme", "http"),
    ] {
        headers.insert(name.to_owned(), value.to_owned());
    }
    let http = Http {
        id: "keystile-check".into(),
        method: args.method.clone(),
        headers,
        path,
        host: args.host.clone(),
        scheme: "http".into(),
        protocol: "HTTP/1.1".into(),
    };
    let address = message::Address {
        socket_address: Some(SocketAddress {
            address: args.source.to_string(),
        }),
    };
    CheckRequest {
        attributes: Some(Attributes {
            source: Some(Peer {
                address: Some(address),
            }),
            request: Some(message::Request { http: Some(http) }),
            context_extensions: extensions(args),
        }),
    }
}

fn extensions(args: &CheckArgs) -> BTreeMap<String, String> {
    let given = [
        ("keystile.mode", &args.mode),
        ("keystile.features", &args.features),
        ("keystile.scopes", &args.scopes),
    ];
    let mut all: BTreeMap<String, String> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
        .collect();
    all.insert(DRY_RUN.into(), "true".into());
    all
}

fn place(place: &Place, token: &str, path: &mut String, headers: &mut BTreeMap<String, String>) {
    match place {
        Place::Header(name) => add(headers, name, token),
        Place::Bearer => add(headers, "authorization", &format!("Bearer {token}")),
        Place::Cookie(name) => add(headers, "cookie", &format!("{name}={token}")),
        Place::Query(name) => {
            let sign = if path.contains('?') { '&' } else { '?' };
            let token =
                percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC);
            path.push_str(&format!("{sign}{name}={token}"));
        }
    }
}

/// As Envoy does: a header that comes twice is one, joined.
fn add(headers: &mut BTreeMap<String, String>, name: &str, value: &str) {
    let separator = if name == "cookie" { "; " } else { "," };
    headers
        .entry(name.to_owned())
        .and_modify(|there| {
            there.push_str(separator);
            there.push_str(value);
        })
        .or_insert_with(|| value.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_envoy_describes_it() {
        use clap::Parser as _;
        use envoy_types::pb::envoy::service::auth::v3 as envoy;
        use prost::Message as _;

        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: CheckArgs,
        }
        let line = "check --as query:key --path /a?b=1 --header X-A:1 --header x-a:2 --source 192.0.2.7 --features f --host h:1";
        let args = Line::parse_from(line.split(' ')).args;
        let bytes = request(&args, Some("t+1")).encode_to_vec();
        let found = envoy::CheckRequest::decode(bytes.as_slice()).unwrap();
        let attributes = found.attributes.unwrap();
        assert!(format!("{:?}", attributes.source).contains("192.0.2.7"));
        assert_eq!(attributes.context_extensions["keystile.features"], "f");
        assert_eq!(attributes.context_extensions[DRY_RUN], "true");
        let http = attributes.request.unwrap().http.unwrap();
        assert_eq!(
            (http.method.as_str(), http.path.as_str(), http.host.as_str()),
            ("GET", "/a?b=1&key=t%2B1", "h:1")
        );
        assert_eq!(http.headers["x-a"], "1,2");
        assert_eq!(http.headers[":path"], http.path);
    }

    #[test]
    fn places_are_words() {
        assert_eq!("bearer".parse(), Ok(Place::Bearer));
        assert_eq!("header:X-Key".parse(), Ok(Place::Header("x-key".into())));
        for bad in ["", "header", "header:", "body:x"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
