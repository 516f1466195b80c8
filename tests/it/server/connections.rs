//! What strangers do to the sockets, and what others see of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::{PATIENCE, wait_for};
use crate::support::program::Place;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A connection of HTTP/2 on which nothing has been asked.
fn hello(port: u16, more: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused at once.
    stream
        .write_all(&[PREFACE, &SETTINGS[..], more].concat())
        .unwrap_or_default();
    stream
}

#[test]
fn peers_that_break_the_protocol_do_not_fill_the_log() {
    let place = Place::bootstrapped();
    let running = place.serve();
    let unasked_ack = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], b"evilevil"].concat();
    for port in [place.authz, place.admin, place.ops] {
        let mut all: Vec<_> = (0..100).map(|_| hello(port, &unasked_ack)).collect();
        for stream in &mut all {
            let mut head = [0; 9];
            stream.read_exact(&mut head).unwrap();
        }
    }
    let complaint = "recv PING ack that we never sent";
    wait_for("the complaint", || {
        running.log().contains(complaint).then_some(())
    });
    let lines = running.log().matches(complaint).count();
    assert!(lines < 20, "{lines}");
}
