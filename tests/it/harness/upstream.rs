//! The application behind Envoy: remembers, byte by byte, what reached it.

use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use super::http1::{read_body, read_headers, read_line};

/// The header that tells which row of a table a request belongs to.
pub(crate) const ROW: &str = "x-row";

/// One request as it arrived. Names are lower-case; duplicates stay apart.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body_len: usize,
}

#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<HashMap<String, Vec<Arrived>>>>);

#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) port: u16,
    memory: Memory,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the upstream");
        let port = listener.local_addr().expect("has an address").port();
        let memory = Memory::default();
        let upstream = Self {
            port,
            memory: memory.clone(),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let memory = memory.clone();
                // Envoy ends a connection when it likes; what arrived before that is in the memory.
                thread::spawn(move || drop(memory.serve(stream)));
            }
        });
        upstream
    }

    /// What arrived with this value of the row header.
    pub(crate) fn arrived(&self, row: &str) -> Vec<Arrived> {
        self.memory.0.lock().get(row).cloned().unwrap_or_default()
    }
}

impl Memory {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut answer = stream.try_clone()?;
        let mut from = BufReader::new(stream);
        loop {
            let first = read_line(&mut from)?;
            let headers = read_headers(&mut from)?;
            let body_len = read_body(&mut from, &headers)?.len();
            let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v);
            let grpc = find("content-type").is_some_and(|v| v.starts_with(b"application/grpc"));
            let row = find(ROW).map(|value| String::from_utf8_lossy(value).into_owned());
            let arrived = Arrived {
                target: first.split(' ').nth(1).unwrap_or_default().to_owned(),
                headers,
                body_len,
            };
            let mut memory = self.0.lock();
            memory
                .entry(row.unwrap_or_default())
                .or_default()
                .push(arrived);
            drop(memory);
            let target = first.split(' ').nth(1).unwrap_or_default();
            match target.split_once("redirect/") {
                Some((_, to)) => answer.write_all(redirect(to).as_bytes())?,
                None => answer.write_all(if grpc { GRPC_OK } else { OK })?,
            }
            if first.starts_with("CONNECT ") {
                return Ok(());
            }
        }
    }
}

/// For `/redirect/to` and all that ends so: the app sends the caller to `/to`.
fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: http://api.test/{to}\r\ncontent-length: 0\r\n\r\n")
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nx-from: upstream\r\n\r\nupstream\n";
const GRPC_OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-from: upstream\r\n\
    content-type: application/grpc\r\ngrpc-status: 0\r\n\r\n";
