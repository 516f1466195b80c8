//! The slots of a Cluster: one marker in each, so that a primary that has lost its data does not look like one that
//! never had any.

use std::sync::LazyLock;

/// How many slots every Redis Cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a name, by its hash tag if it has one.
pub(super) fn slot_of(name: &[u8]) -> u16 {
    crc16(tag(name).unwrap_or(name)) % SLOTS
}

/// What is between the first brace and the next closing one, unless that is nothing.
fn tag(name: &[u8]) -> Option<&[u8]> {
    let open = name.iter().position(|byte| *byte == b'{')?;
    let rest = name.get(open + 1..)?;
    let close = rest.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// CRC-16/XMODEM, as the Cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let crc = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(crc, |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

/// For each slot the least number whose text is in it.
static TAGS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut tags = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    let mut number = 0_u32;
    while missing > 0 {
        let place = &mut tags[usize::from(slot_of(number.to_string().as_bytes()))];
        if place.is_none() {
            *place = Some(number);
            missing -= 1;
        }
        number += 1;
    }
    tags.into_iter().flatten().collect()
});

/// A hash tag that is in the slot.
pub(super) fn tag_in(slot: u16) -> u32 {
    TAGS[usize::from(slot % SLOTS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_slots_that_redis_puts_them_in() {
        for (name, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{user1000}.following", 3_443),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("foo{bar}{zap}", 5_061),
        ] {
            assert_eq!(slot_of(name.as_bytes()), slot, "{name}");
        }
    }

    #[test]
    fn every_slot_has_a_tag_of_its_own() {
        for slot in 0..SLOTS {
            let name = format!("ks:root:{{{}}}", tag_in(slot));
            assert_eq!(slot_of(name.as_bytes()), slot);
        }
    }
}
