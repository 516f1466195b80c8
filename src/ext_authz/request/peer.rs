//! Where a request comes from: `Peer.address.socket_address.address`, the connection's remote address as Envoy's
//! configuration sees it.

use std::net::IpAddr;

use prost::DecodeError;

use crate::ext_authz::wire::{Field, fields};

/// What has been read of a peer. Messages that come in parts are one, as protobuf merges them: of a text the last
/// counts, and an address of another kind takes the place of the one before.
#[derive(Debug, Default)]
pub(super) struct Peer<'a> {
    is_socket: bool,
    address: &'a [u8],
}

impl<'a> Peer<'a> {
    /// Reads a `Peer`, or another part of one.
    pub(super) fn read(&mut self, peer: &'a [u8]) -> Result<(), DecodeError> {
        fields(peer, |tag, field| match (tag, field) {
            (1, Field::Bytes(address)) => self.read_address(address),
            _ => Ok(()),
        })
    }

    /// One of `socket_address`, `pipe`, `envoy_internal_address`.
    fn read_address(&mut self, address: &'a [u8]) -> Result<(), DecodeError> {
        fields(address, |tag, field| {
            let Field::Bytes(bytes) = field else {
                return Ok(());
            };
            match tag {
                1 => {
                    self.becomes(true);
                    self.read_socket(bytes)
                }
                2 | 3 => {
                    self.becomes(false);
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }

    fn becomes(&mut self, is_socket: bool) {
        if self.is_socket != is_socket {
            *self = Self {
                is_socket,
                address: &[],
            };
        }
    }

    fn read_socket(&mut self, socket: &'a [u8]) -> Result<(), DecodeError> {
        fields(socket, |tag, field| {
            if let (2, Field::Bytes(bytes)) = (tag, field) {
                self.address = bytes;
            }
            Ok(())
        })
    }

    /// The address, if it is one; Envoy writes the zone of a link-local one behind it.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        let text = std::str::from_utf8(self.address).ok()?;
        match text.split_once('%') {
            Some((address, _zone)) => address.parse().ok().map(IpAddr::V6),
            None => text.parse().ok(),
        }
    }
}
