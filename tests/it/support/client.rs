//! gRPC callers of a running program: a channel over any socket, and one HTTP/2 connection to look at closely.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use keystile::ext_authz::service::CHECK_PATH;
use prost::Message as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Uri};

use super::check;

pub(crate) async fn tcp(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    endpoint.connect().await.unwrap()
}

pub(crate) async fn unix(path: &Path) -> Channel {
    let path: PathBuf = path.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connect).await.unwrap()
}

/// Asks about a request with these headers, and answers the HTTP status that Envoy would give: 200 is an allow.
pub(crate) async fn ask(channel: &Channel, headers: &[(&str, &str)]) -> i32 {
    answer_to(channel, check::headers(headers)).await
}

/// The same from an address.
pub(crate) async fn ask_from(channel: &Channel, headers: &[(&str, &str)], source: &str) -> i32 {
    answer_to(channel, check::from(check::headers(headers), source)).await
}

/// The HTTP status; none when the process is gone.
pub(crate) async fn try_ask(channel: &Channel, headers: &[(&str, &str)]) -> Option<i32> {
    let answer = AuthorizationClient::new(channel.clone())
        .check(check::headers(headers))
        .await;
    answer.ok().map(|answer| http_status(answer.get_ref()))
}

/// The HTTP status, and what `x-ratelimit-remaining` says.
pub(crate) async fn ask_left(channel: &Channel, headers: &[(&str, &str)]) -> (i32, Option<u64>) {
    use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
    let answer = AuthorizationClient::new(channel.clone())
        .check(check::headers(headers))
        .await
        .expect("an answer in band")
        .into_inner();
    let set = match &answer.http_response {
        Some(HttpResponse::OkResponse(ok)) => &ok.response_headers_to_add[..],
        Some(HttpResponse::DeniedResponse(denied)) => &denied.headers[..],
        _ => &[],
    };
    let mut set = set.iter().filter_map(|set| set.header.as_ref());
    let left = set.find(|header| header.key == "x-ratelimit-remaining");
    let left = left.map(|left| left.value.parse().expect("a number"));
    (http_status(&answer), left)
}

pub(crate) async fn answer_to(channel: &Channel, message: CheckRequest) -> i32 {
    let answer = AuthorizationClient::new(channel.clone())
        .check(message)
        .await
        .expect("an answer in band")
        .into_inner();
    http_status(&answer)
}

pub(crate) fn http_status(answer: &CheckResponse) -> i32 {
    use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
    let code = answer.status.as_ref().expect("a status").code;
    match &answer.http_response {
        Some(HttpResponse::OkResponse(_)) if code == 0 => 200,
        Some(HttpResponse::DeniedResponse(denied)) if code != 0 => {
            denied.status.as_ref().expect("an HTTP status").code
        }
        other => panic!("neither allow nor deny: {code} {other:?}"),
    }
}

/// A request body that comes when the test sends it.
pub(crate) struct Slow(mpsc::Receiver<Bytes>);

impl Slow {
    pub(crate) fn new() -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel(8);
        (sender, Self(receiver))
    }

    /// All of it at once.
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        let (sender, slow) = Self::new();
        sender.try_send(bytes.into()).unwrap();
        slow
    }
}

impl Body for Slow {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let chunk = self.0.poll_recv(context);
        chunk.map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// One HTTP/2 connection; `ended` is done when the server has closed it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Slow>,
    pub(crate) ended: JoinHandle<hyper::Result<()>>,
}

pub(crate) async fn connect(port: u16) -> Connection {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    Connection {
        sender,
        ended: tokio::spawn(connection),
    }
}

pub(crate) fn check_request(body: Slow) -> Request<Slow> {
    Request::post(format!("http://authz{CHECK_PATH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

/// The HTTP status that Envoy would give, from a whole and proper answer.
pub(crate) async fn read_answer(response: Response<Incoming>) -> hyper::Result<i32> {
    let body = response.into_body().collect().await?;
    let status = body
        .trailers()
        .map(|trailers| trailers["grpc-status"].clone());
    assert_eq!(status.expect("trailers"), "0");
    let answer = CheckResponse::decode(&body.to_bytes()[5..]).expect("an answer");
    Ok(http_status(&answer))
}
