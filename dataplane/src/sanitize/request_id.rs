//! A name for each request, so that its lines in different logs find each other.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

use http::{HeaderMap, HeaderValue};

use super::{ClientInfo, client::trusted_first, headers::names::X_REQUEST_ID};

/// Ids of trusted proxies that are longer are replaced.
const MAX_LEN: usize = 128;

/// The id that a trusted proxy gave, else a new one: 128 random bits in hexadecimal.
pub(crate) fn request_id(headers: &HeaderMap, client: &ClientInfo) -> HeaderValue {
    trusted_first(headers, client, &X_REQUEST_ID)
        .filter(|id| is_plain(id))
        .and_then(|id| HeaderValue::from_bytes(id).ok())
        .unwrap_or_else(fresh)
}

/// Fit for any log and page without escaping.
fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/=+".contains(byte);
    (1..=MAX_LEN).contains(&id.len()) && id.iter().all(plain)
}

fn fresh() -> HeaderValue {
    let id = random();
    let mut text = [0; 32];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(id >> (4 * at)) as usize & 15];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// The next 128 bits of this thread's generator (xoroshiro128++), seeded by the system. An id must not
/// repeat; it need not be secret, so this is not a cryptographic generator.
fn random() -> u128 {
    thread_local! {
        static STATE: Cell<(u64, u64)> = Cell::new((seed(), seed() | 1));
    }
    STATE.with(|state| {
        let (first, next) = step(state.get());
        let (second, next) = step(next);
        state.set(next);
        u128::from(first) << 64 | u128::from(second)
    })
}

fn seed() -> u64 {
    RandomState::new().hash_one(std::thread::current().id())
}

const fn step((s0, s1): (u64, u64)) -> (u64, (u64, u64)) {
    let result = s0.wrapping_add(s1).rotate_left(17).wrapping_add(s0);
    let mixed = s1 ^ s0;
    let next = (
        s0.rotate_left(49) ^ mixed ^ (mixed << 21),
        mixed.rotate_left(28),
    );
    (result, next)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_do_not_repeat_within_or_between_threads() {
        let make = || (0..5_000).map(|_| fresh()).collect::<Vec<_>>();
        let other = std::thread::spawn(make);
        let mut all: HashSet<HeaderValue> = make().into_iter().collect();
        all.extend(other.join().unwrap());
        assert_eq!(all.len(), 10_000);
        assert!(
            all.iter()
                .all(|id| id.len() == 32 && is_plain(id.as_bytes()))
        );
    }

    #[test]
    fn only_a_trusted_proxy_names_requests() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let proxy = ClientInfo::new("10.0.0.1".parse().unwrap(), false, &trusted);
        let stranger = ClientInfo::new("192.0.2.1".parse().unwrap(), false, &trusted);
        let with =
            |id: &str| HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(id).unwrap())]);
        assert_eq!(request_id(&with("abc-1"), &proxy), "abc-1");
        assert_ne!(request_id(&with("abc-1"), &stranger), "abc-1");
        for bad in ["", "a b", "a\"b", "<x>", &"a".repeat(129)] {
            assert_ne!(request_id(&with(bad), &proxy), bad);
        }
    }
}
