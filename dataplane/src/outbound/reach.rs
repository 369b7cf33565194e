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

/// Where clouds tell machines their secrets, outside of link-local: Alibaba, Azure, Oracle (twice), Google, Scaleway.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

impl Reach {
    /// Whether an address may be asked; else why not.
    pub(crate) fn check(self, address: IpAddr, https: bool) -> Result<(), &'static str> {
        let address = embedded(address);
        let loopback = address.is_loopback() || translated(address).any(|it| it.is_loopback());
        if loopback && !self.loopback {
            return Err("it is loopback");
        }
        if unusable(address) {
            return Err("it belongs to no single host");
        }
        if link_local(address) || translated(address).any(link_local) {
            return Err("it is link-local");
        }
        if metadata(address) || translated(address).any(metadata) {
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

/// The IPv4 addresses that one of 64:ff9b:1::/48 may stand for. Where in it the address is depends on the length of
/// the prefix that a network chose (RFC 8215, RFC 6052 §2.2), which nobody tells: any of them will do.
fn translated(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let bits = match address {
        IpAddr::V6(v6) if v6.segments()[..3] == [0x64, 0xff9b, 1] => Some(v6.to_bits()),
        _ => None,
    };
    // Of 96, 64, 56 and 48 bits; bits 64 to 71 belong to none.
    let read = |bits: u128| {
        [
            bits,
            bits >> 24,
            (bits >> 64 & 0xff) << 24 | bits >> 32 & 0xff_ffff,
            (bits >> 64 & 0xffff) << 16 | bits >> 40 & 0xffff,
        ]
    };
    let found = bits.map(read).into_iter().flatten();
    found.map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits as u32)))
}

fn metadata(address: IpAddr) -> bool {
    // All that EC2 tells over IPv6 is in one network.
    let ec2 = |v6: Ipv6Addr| v6.segments()[..2] == [0xfd00, 0xec2];
    METADATA.contains(&address) || matches!(address, IpAddr::V6(v6) if ec2(v6))
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
