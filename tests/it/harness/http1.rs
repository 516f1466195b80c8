//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// What came back. Names are lower-case; duplicates stay apart.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(n, _)| n == name);
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// Sends and reads one reply; `bodiless` is for an answer to HEAD, and to CONNECT.
pub(crate) fn send(port: u16, request: &[u8], bodiless: bool) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server may answer, and close, before it has read a long body; the answer is what counts then.
    let written = stream.write_all(request);
    let reply = read_reply(&mut BufReader::new(stream), bodiless);
    if reply.is_err() {
        written?;
    }
    reply
}

fn read_reply(from: &mut impl BufRead, bodiless: bool) -> io::Result<Reply> {
    loop {
        let mut reply = read_head(from)?;
        if reply.status == 101 || reply.status >= 200 {
            if !bodiless {
                reply.body = read_body(from, &reply.headers)?;
            }
            return Ok(reply);
        }
    }
}

fn read_head(from: &mut impl BufRead) -> io::Result<Reply> {
    let first = read_line(from)?;
    let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not HTTP: {first:?}")))?;
    let headers = read_headers(from)?
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    Ok(Reply {
        status,
        headers,
        body: Vec::new(),
    })
}

/// Header lines up to the blank one, values as the bytes they are.
pub(crate) fn read_headers(from: &mut impl BufRead) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(headers);
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| io::Error::other("a header line without a colon"))?;
        let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
}

pub(crate) fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(line.trim_ascii()).into_owned())
}

/// The body as its headers frame it; none when they do not.
pub(crate) fn read_body<V: AsRef<[u8]>>(
    from: &mut impl BufRead,
    headers: &[(String, V)],
) -> io::Result<Vec<u8>> {
    let find = |name: &str| {
        let found = headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| String::from_utf8_lossy(value.as_ref()).to_lowercase())
    };
    let mut body = Vec::new();
    if find("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        loop {
            let line = read_line(from)?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(io::Error::other)?;
            let start = body.len();
            body.resize(start + size, 0);
            from.read_exact(&mut body[start..])?;
            if size == 0 {
                read_headers(from)?;
                return Ok(body);
            }
            read_line_end(from)?;
        }
    }
    if let Some(length) = find("content-length").and_then(|value| value.parse().ok()) {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
    }
    Ok(body)
}

fn read_line_end(from: &mut impl Read) -> io::Result<()> {
    from.read_exact(&mut [0; 2])
}
