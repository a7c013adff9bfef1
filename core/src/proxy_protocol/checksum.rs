//! CRC-32C (Castagnoli, RFC 9260 appendix A), bit by bit: one header of at most a few KiB per connection needs no table.

/// The checksum of all pieces, one after the other.
pub(super) fn crc32c<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let add = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !pieces.into_iter().flatten().fold(u32::MAX, add)
}

#[test]
fn the_known_answer_of_the_polynomial_comes_out() {
    assert_eq!(crc32c([&b"12345"[..], b"6789"]), 0xe306_9283);
}
