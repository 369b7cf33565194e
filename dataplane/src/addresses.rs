//! The addresses that Hale connects to: one policy for peers and for the URLs of policies.
//!
//! A tenant may write EndpointSlices and URLs, and Hale's network reaches what that tenant perhaps may not: the
//! node, the metadata service of its cloud, Hale's own loopback ports, and the Services of other namespaces.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, LazyLock},
};

use ipnet::IpNet;

/// Checks an address of a peer, as an EndpointSlice names it. `local` allows loopback and link-local addresses: it is
/// for one user's manifests on one machine. The error says why Hale does not connect to it.
pub fn check_peer(address: IpAddr, local: bool) -> Result<(), &'static str> {
    check(address, local, local)
}

/// The addresses that URLs of policies may have, and in which way they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Loopback addresses, too.
    pub(crate) loopback: bool,
    /// Without TLS elsewhere than on loopback, too.
    pub(crate) plain: bool,
    /// The private networks, such as those of a cluster, whose addresses are allowed.
    pub(crate) networks: Arc<[IpNet]>,
}

impl Reach {
    /// Whether an address may be asked; else why not.
    pub(crate) fn check(&self, address: IpAddr, https: bool) -> Result<(), &'static str> {
        check(address, self.loopback, false)?;
        let address = embedded(address);
        let loopback = is_loopback(address);
        let allowed = |net: &IpNet| net.contains(&address);
        if !loopback && is_private(address) && !self.networks.iter().any(allowed) {
            return Err("it is of a private network that --allow-outbound-cidr does not name");
        }
        if !https && !loopback && !self.plain {
            return Err("it would be asked without TLS");
        }
        Ok(())
    }
}

fn check(address: IpAddr, loopback: bool, link_local: bool) -> Result<(), &'static str> {
    let address = embedded(address);
    if is_unusable(address) {
        return Err("it belongs to no single host");
    }
    if !loopback && is_loopback(address) {
        return Err("it is a loopback address");
    }
    if is_tunnel(address) {
        return Err("it stands for an address behind a tunnel (Teredo, ISATAP)");
    }
    if is_metadata(address) || translated(address).any(is_metadata) {
        return Err("it is a cloud's metadata service");
    }
    if !link_local && (is_link_local(address) || translated(address).any(is_link_local)) {
        return Err("it is a link-local address");
    }
    Ok(())
}

/// The metadata services of clouds: nearly all, Alibaba, Azure, Oracle, Google, Oracle, Scaleway, OpenStack.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
];

/// Networks that no public address is in (RFC 6890): private use, shared address space, the protocol assignments,
/// benchmarks, reserved; unique local, the former site-local, and translation for local use (RFC 8215).
static PRIVATE: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let networks = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "fc00::/7",
        "fec0::/10",
        "64:ff9b:1::/48",
    ];
    networks.iter().filter_map(|net| net.parse().ok()).collect()
});

fn is_private(address: IpAddr) -> bool {
    PRIVATE.iter().any(|net| net.contains(&address))
}

fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback() || translated(address).any(|it| it.is_loopback())
}

/// Teredo (RFC 4380) and ISATAP (RFC 5214): tunnels that end at an IPv4 address of the sender's choice.
fn is_tunnel(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => matches!(
            v6.segments(),
            [0x2001, 0, ..] | [_, _, _, _, 0 | 0x200, 0x5efe, _, _]
        ),
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
/// the prefix that a network chose (RFC 8215, RFC 6052 §2.2), which Hale does not know: each one counts.
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

fn is_metadata(address: IpAddr) -> bool {
    // All of EC2's local services have addresses of one network.
    let ec2 = |v6: Ipv6Addr| v6.segments()[..2] == [0xfd00, 0xec2];
    METADATA.contains(&address) || matches!(address, IpAddr::V6(v6) if ec2(v6))
}

fn is_unusable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reach(loopback: bool, plain: bool, networks: &[&str]) -> Reach {
        Reach {
            loopback,
            plain,
            networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn addresses_that_nothing_connects_to() {
        let everywhere = reach(true, true, &["0.0.0.0/0", "::/0"]);
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "fe80::a9fe:a9fe",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::ffff:0.1.2.3",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            // RFC 8215, with each length of RFC 6052 §2.2 that fits.
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:ffff:0:0:a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "64:ff9b:1::100.100.100.200",
            "2002:a9fe:a9fe::1",
            "::ffff:100.100.100.200",
            "::ffff:0:169.254.169.254",
            // Teredo and ISATAP.
            "2001:0:a9fe:a9fe::5601:5601",
            "2001:db8::5efe:10.0.0.1",
            "fd00::200:5efe:169.254.169.254",
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert!(everywhere.check(ip, true).is_err(), "{address}");
            for local in [false, true] {
                assert!(check_peer(ip, local).is_err(), "{address}");
            }
        }
    }

    #[test]
    fn loopback_and_link_local_addresses_are_for_one_machine() {
        for address in [
            "127.0.0.1",
            "127.8.9.1",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
        ] {
            let ip: IpAddr = address.parse().unwrap();
            let networks = ["0.0.0.0/0", "::/0"];
            assert!(
                reach(true, false, &[]).check(ip, false).is_ok(),
                "{address}"
            );
            assert!(
                reach(false, true, &networks).check(ip, true).is_err(),
                "{address}"
            );
            assert!(check_peer(ip, true).is_ok(), "{address}");
            assert!(check_peer(ip, false).is_err(), "{address}");
        }
        for address in ["169.254.0.1", "fe80::1", "febf::1"] {
            let ip: IpAddr = address.parse().unwrap();
            assert!(
                reach(true, true, &["0.0.0.0/0", "::/0"])
                    .check(ip, true)
                    .is_err(),
                "{address}"
            );
            assert!(check_peer(ip, true).is_ok(), "{address}");
            assert!(check_peer(ip, false).is_err(), "{address}");
        }
    }

    #[test]
    fn private_networks_are_for_peers_and_by_permission_for_urls() {
        for (address, network) in [
            ("10.0.0.1", "10.0.0.0/8"),
            ("172.31.255.1", "172.16.0.0/12"),
            ("192.168.1.1", "192.168.1.1/32"),
            ("100.64.3.4", "100.64.0.0/10"),
            ("192.0.0.8", "192.0.0.0/24"),
            ("198.19.0.1", "198.18.0.0/15"),
            ("250.1.1.1", "240.0.0.0/4"),
            ("fd00::1", "fd00::/16"),
            ("fd00:ec3::254", "fd00::/16"),
            ("fec0::1", "fec0::/10"),
            ("64:ff9b:1::203.0.113.7", "64:ff9b:1::/48"),
            ("64:ff9b:1:cb00:71:700::", "64:ff9b:1::/48"),
            ("::ffff:10.0.0.1", "10.0.0.0/8"),
            ("64:ff9b::10.0.0.1", "10.0.0.0/8"),
            ("2002:a00:1::1", "10.0.0.0/8"),
        ] {
            let ip: IpAddr = address.parse().unwrap();
            let refused = reach(true, true, &["10.0.0.0/32", "fc00::/32"]).check(ip, true);
            assert!(
                refused.unwrap_err().contains("--allow-outbound-cidr"),
                "{address}"
            );
            assert_eq!(
                reach(false, false, &[network]).check(ip, true),
                Ok(()),
                "{address}"
            );
            assert_eq!(check_peer(ip, false), Ok(()), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_asked_with_tls_unless_allowed_without() {
        for address in [
            "203.0.113.7",
            "192.0.1.1",
            "2001:db8::1",
            "2001:1::1",
            "64:ff9b::203.0.113.7",
        ] {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(
                reach(false, false, &[]).check(ip, true),
                Ok(()),
                "{address}"
            );
            assert_eq!(
                reach(false, true, &[]).check(ip, false),
                Ok(()),
                "{address}"
            );
            assert!(
                reach(true, false, &[]).check(ip, false).is_err(),
                "{address}"
            );
            assert_eq!(check_peer(ip, false), Ok(()), "{address}");
        }
    }
}
