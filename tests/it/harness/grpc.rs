//! A gRPC caller: HTTP/2 and an empty message, which is all that a check looks at. And any other request over HTTP/2.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::time::timeout;

use super::PATIENCE;
use super::http1::Reply;

/// Five bytes: not compressed, length zero.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// Calls `path`; trailers come back among the headers.
#[track_caller]
pub(crate) fn call(port: u16, path: &str, headers: &[(String, Vec<u8>)]) -> Reply {
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let grpc = grpc.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    send(
        port,
        "POST",
        path,
        &[&grpc, headers].concat(),
        EMPTY_MESSAGE,
    )
}

/// Sends a request with a method as it is written, which HTTP/1.1 would not let through.
#[track_caller]
pub(crate) fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(String, Vec<u8>)],
    body: &'static [u8],
) -> Reply {
    let request = (method, path, headers, body);
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("make a runtime");
    runtime
        .block_on(async { timeout(PATIENCE, exchange(port, request)).await })
        .expect("an answer in time")
        .expect("an answer over HTTP/2")
}

/// Method, path, headers, body.
type Asked<'a> = (&'a str, &'a str, &'a [(String, Vec<u8>)], &'static [u8]);

async fn exchange(
    port: u16,
    (method, path, headers, body): Asked<'_>,
) -> Result<Reply, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://api.test{path}"));
    for (name, value) in headers {
        request = request.header(name, value.as_slice());
    }
    let body = Full::new(Bytes::from_static(body));
    let response = sender.send_request(request.body(body)?).await?;
    let mut reply = Reply {
        status: response.status().as_u16(),
        ..Reply::default()
    };
    add(&mut reply, response.headers());
    let collected = response.into_body().collect().await?;
    if let Some(trailers) = collected.trailers() {
        add(&mut reply, trailers);
    }
    reply.body = collected.to_bytes().to_vec();
    driver.abort();
    Ok(reply)
}

fn add(reply: &mut Reply, headers: &http::HeaderMap) {
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        reply.headers.push((name.as_str().to_owned(), value));
    }
}
