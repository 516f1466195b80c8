//! Protobuf fields, read in place and appended in order.

use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint,
    encoded_len_varint, skip_field,
};

/// One field of a message.
pub(super) enum Field<'a> {
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    /// A number, or a kind that we have no use for.
    Other,
}

/// Calls `each` with every field of a message, in order.
pub(super) fn fields<'a>(
    mut message: &'a [u8],
    mut each: impl FnMut(u32, Field<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message)?;
        if wire_type == WireType::LengthDelimited {
            each(tag, Field::Bytes(take(&mut message)?))?;
        } else {
            skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
            each(tag, Field::Other)?;
        }
    }
    Ok(())
}

fn take<'a>(message: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let len = usize::try_from(decode_varint(message)?).unwrap_or(usize::MAX);
    let (field, rest) = message.split_at_checked(len).ok_or_else(cut_short)?;
    *message = rest;
    Ok(field)
}

/// `prost` makes its errors itself: this one comes from reading a number where there is none.
fn cut_short() -> DecodeError {
    decode_varint(&mut [].as_slice()).expect_err("there is no number in an empty slice")
}

/// The key and value of a map entry, or of a message whose first two fields are strings.
pub(super) fn entry(message: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    fields(message, |tag, field| {
        if let Field::Bytes(bytes) = field {
            match tag {
                1 => key = bytes,
                2 => value = bytes,
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok((key, value))
}

/// Appends a string, bytes or an encoded message.
pub(super) fn put(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    put_head(out, tag, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends what stands before a field of `len` bytes.
pub(super) fn put_head(out: &mut Vec<u8>, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// Appends a number.
pub(super) fn put_number(out: &mut Vec<u8>, tag: u32, number: u64) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(number, out);
}

/// How long a field of `len` bytes is with what stands before it, for tags below 16.
pub(super) fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// How long a number is with its tag, for tags below 16.
pub(super) fn number_len(number: u64) -> usize {
    1 + encoded_len_varint(number)
}
