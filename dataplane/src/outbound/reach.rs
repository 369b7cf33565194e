//! Which addresses Hale asks. A policy names the URL, and Hale's network reaches what the policy's author
//! perhaps may not: the node, its cloud's metadata, Hale's own loopback doors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses may be asked, and in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Loopback addresses, too.
    pub(crate) loopback: bool,
    /// Without TLS elsewhere than on loopback, too.
    pub(crate) plain: bool,
}

/// Where clouds tell machines their secrets, outside of link-local: AWS over IPv6, Alibaba, Azure, Oracle.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

impl Reach {
    /// Whether an address may be asked; else why not.
    pub(crate) fn check(self, address: IpAddr, https: bool) -> Result<(), &'static str> {
        let address = embedded(address);
        let loopback = address.is_loopback();
        if loopback && !self.loopback {
            return Err("it is loopback");
        }
        if unusable(address) {
            return Err("it belongs to no single host");
        }
        if link_local(address) {
            return Err("it is link-local");
        }
        if METADATA.contains(&address) {
            return Err("it is a cloud's metadata service");
        }
        if !https && !loopback && !self.plain {
            return Err("it would be asked without TLS");
        }
        Ok(())
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64, 6to4.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

fn unusable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
