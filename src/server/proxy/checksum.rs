//! CRC-32C (RFC 3720, B.4), as a PROXY header of version 2 may carry.

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Of all parts, one after the other. Headers are short and checksums in them rare: no table.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ POLYNOMIAL };
    let add = |sum: u32, &byte: &u8| (0..8).fold(sum ^ u32::from(byte), step);
    !parts.iter().copied().flatten().fold(u32::MAX, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_3720() {
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 16], &[0xff; 16]]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[&ascending]), 0x46dd_794e);
    }
}
