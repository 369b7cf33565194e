//! Who has bodies read before their requests go on: no client may have all the memory that there is for it.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::sanitize;

/// Bodies of one client that are read at a time; of IPv6 of one network of 64 bits.
const MOST: u32 = 16;

/// Only requests with such bodies come here, once when theirs begins and once when it has ended.
static READERS: Readers = Readers(Mutex::new(BTreeMap::new()));

struct Readers(Mutex<BTreeMap<IpAddr, u32>>);

impl Readers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        // Counts are whole, whoever held them when a thread died.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that is being read; dropping it ends that.
pub(super) struct Reader(IpAddr);

impl Reader {
    /// `None` where the client has enough of them.
    pub(super) fn begin(client: IpAddr) -> Option<Self> {
        let client = sanitize::network(client);
        let mut readers = READERS.lock();
        let count = readers.entry(client).or_default();
        (*count < MOST).then(|| {
            *count += 1;
            Self(client)
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = READERS.lock();
        if let Some(count) = readers.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.0);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_gives_it_back() {
        let of = |client: &str| Reader::begin(client.parse().unwrap());
        let mut held: Vec<_> = (0..MOST).map(|_| of("2001:db8:7::1").unwrap()).collect();
        assert!(of("2001:db8:7::2").is_none());
        assert!(of("2001:db8:8::1").is_some());
        held.pop();
        assert!(of("2001:db8:7::2").is_some());
        drop(held);
        assert!(
            !READERS
                .lock()
                .contains_key(&"2001:db8:7::".parse().unwrap())
        );
    }
}
