//! How crypt writes digests: 6 bits a character, the lowest first, the bytes in an order of each scheme's own.

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The order of MD5 in `$apr1$`.
pub(super) const MD5: [u8; 16] = [12, 6, 0, 13, 7, 1, 14, 8, 2, 15, 9, 3, 5, 10, 4, 11];

/// The order of SHA-256 in `$5$`.
pub(super) const SHA256: [u8; 32] = [
    20, 10, 0, 11, 1, 21, 2, 22, 12, 23, 13, 3, 14, 4, 24, 5, 25, 15, 26, 16, 6, 17, 7, 27, 8, 28,
    18, 29, 19, 9, 30, 31,
];

/// The order of SHA-512 in `$6$`.
pub(super) const SHA512: [u8; 64] = [
    42, 21, 0, 1, 43, 22, 23, 2, 44, 45, 24, 3, 4, 46, 25, 26, 5, 47, 48, 27, 6, 7, 49, 28, 29, 8,
    50, 51, 30, 9, 10, 52, 31, 32, 11, 53, 54, 33, 12, 13, 55, 34, 35, 14, 56, 57, 36, 15, 16, 58,
    37, 38, 17, 59, 60, 39, 18, 19, 61, 40, 41, 20, 62, 63,
];

/// Reads a digest of exactly `N` bytes; `None` if the text is not one.
pub(super) fn decode<const N: usize>(text: &[u8], order: &[u8; N]) -> Option<[u8; N]> {
    let mut digest = [0; N];
    let mut places = order.iter();
    let (mut bits, mut count) = (0_u32, 0);
    for character in text {
        let value = ALPHABET.iter().position(|known| known == character)?;
        bits |= u32::try_from(value).ok()? << count;
        count += 6;
        if count >= 8 {
            let place = usize::from(*places.next()?);
            *digest.get_mut(place)? = u8::try_from(bits & 0xff).ok()?;
            bits >>= 8;
            count -= 8;
        }
    }
    // A character too many, or bits that belong to no byte, would be a second spelling of the same digest.
    (places.next().is_none() && bits == 0 && count < 6).then_some(digest)
}
