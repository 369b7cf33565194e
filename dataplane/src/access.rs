//! Which client addresses may send requests.
//!
//! The address is the client's own: behind trusted proxies the one that they tell of. The lists are short, and a
//! network is compared in a few instructions: a walk through them costs less than a tree would.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    config::{Access, AccessRules},
    reason::Reason,
    reject::Reject,
};

/// Refuses an address that may not.
pub(crate) fn check(access: &Access, client: IpAddr) -> Result<(), Reject> {
    match access {
        Access::Everybody => Ok(()),
        Access::Rules(rules) if admits(rules, client) => Ok(()),
        Access::Rules(_) => Err(Reject::new(Reason::AddressDenied)),
        Access::Unavailable(problem) => Err(Reject::from(problem)),
    }
}

/// An address in both lists may not, and where there is a list of those who may, nobody else may.
fn admits(rules: &AccessRules, client: IpAddr) -> bool {
    let client = client.to_canonical();
    let within = |networks: &[IpNet]| networks.iter().any(|network| holds(network, client));
    !within(&rules.deny) && (rules.allow.is_empty() || within(&rules.allow))
}

/// Whether the network holds the address. IPv4-mapped IPv6 is IPv4, in networks as in addresses: a rule means the
/// same to clients of a socket for both kinds.
fn holds(network: &IpNet, client: IpAddr) -> bool {
    match (network, client) {
        (IpNet::V6(mapped), IpAddr::V4(client)) if mapped.prefix_len() >= 96 => {
            mapped.contains(&client.to_ipv6_mapped())
        }
        _ => network.contains(&client),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::ObjectRef;

    fn rules(allow: &[&str], deny: &[&str]) -> AccessRules {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        AccessRules {
            source: ObjectRef {
                kind: "UpstreamPolicy",
                namespace: "shop".into(),
                name: "web".into(),
            },
            allow: networks(allow),
            deny: networks(deny),
        }
    }

    #[test]
    fn deny_comes_before_allow_and_a_list_of_allowed_is_all_that_are() {
        for (allow, deny, client, wanted) in [
            (&["10.0.0.0/8"][..], &[][..], "10.1.2.3", true),
            (&["10.0.0.0/8"], &[], "11.1.2.3", false),
            (&["10.0.0.0/8"], &[], "2001:db8::1", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.2.3", true),
            (&["10.1.2.3/32"], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["10.0.0.0/8"], "192.0.2.1", true),
            (&[], &["10.0.0.0/8"], "2001:db8::1", true),
            (&["2001:db8::/32"], &[], "2001:db8:1::1", true),
            (&["2001:db8::/32"], &[], "2001:db9::1", false),
            (&["0.0.0.0/0"], &[], "192.0.2.1", true),
            (&["0.0.0.0/0"], &[], "2001:db8::1", false),
            (&["::/0"], &[], "192.0.2.1", false),
        ] {
            let admitted = admits(&rules(allow, deny), client.parse().unwrap());
            assert_eq!(admitted, wanted, "{allow:?} {deny:?} {client}");
        }
    }

    #[test]
    fn an_ipv4_mapped_address_is_ipv4_on_both_sides() {
        for (allow, client, wanted) in [
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "::ffff:11.1.2.3", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("::ffff:0:0/96", "11.1.2.3", true),
        ] {
            let admitted = admits(&rules(&[allow], &[]), client.parse().unwrap());
            assert_eq!(admitted, wanted, "{allow} {client}");
        }
    }
}
