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

/// Refuses an address that may not. Which address counted, and by which policy, is told to whoever may be explained to.
pub(crate) fn check(
    access: &Access,
    client: IpAddr,
    explain: impl FnOnce() -> bool,
) -> Result<(), Reject> {
    match access {
        Access::Everybody => Ok(()),
        Access::Rules(rules) => {
            let ruling = rule(rules, client);
            if ruling.admits() {
                return Ok(());
            }
            let reject = Reject::new(Reason::AddressDenied);
            Err(match explain() {
                true => reject.explaining(format!(
                    "the client address that counts is {}",
                    ruling.words(client, rules)
                )),
                false => reject,
            })
        }
        Access::Unavailable(problem) => Err(Reject::from(problem)),
    }
}

/// What decided about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ruling<'a> {
    /// An entry of `deny` holds it.
    Denied(&'a IpNet),
    /// An entry of `allow` holds it.
    Allowed(&'a IpNet),
    /// There is an `allow`, and none of its entries holds it.
    NotAllowed,
    /// There is no `allow`, and no entry of `deny` holds it.
    NotDenied,
}

impl Ruling<'_> {
    /// Whether it may.
    pub(crate) const fn admits(self) -> bool {
        matches!(self, Self::Allowed(_) | Self::NotDenied)
    }

    /// `192.0.2.66, which is in deny of UpstreamPolicy shop/office, by 192.0.2.64/26`
    pub(crate) fn words(self, client: IpAddr, rules: &AccessRules) -> String {
        let (client, policy) = (client.to_canonical(), &rules.source);
        match self {
            Self::Denied(network) => {
                format!("{client}, which is in deny of {policy}, by {network}")
            }
            Self::Allowed(network) => {
                format!("{client}, which is in allow of {policy}, by {network}")
            }
            Self::NotAllowed => format!("{client}, which is not in allow of {policy}"),
            Self::NotDenied => format!("{client}, which is not in deny of {policy}"),
        }
    }
}

/// An address in both lists may not, and where there is a list of those who may, nobody else may.
pub(crate) fn rule(rules: &AccessRules, client: IpAddr) -> Ruling<'_> {
    let client = client.to_canonical();
    if let Some(network) = rules.deny.iter().find(|network| holds(network, client)) {
        return Ruling::Denied(network);
    }
    if rules.allow.is_empty() {
        return Ruling::NotDenied;
    }
    let allowed = rules.allow.iter().find(|network| holds(network, client));
    allowed.map_or(Ruling::NotAllowed, Ruling::Allowed)
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
            let admitted = rule(&rules(allow, deny), client.parse().unwrap()).admits();
            assert_eq!(admitted, wanted, "{allow:?} {deny:?} {client}");
        }
    }

    #[test]
    fn what_decided_is_told() {
        for (allow, deny, client, wanted) in [
            (
                &[][..],
                &["10.0.0.0/8", "11.0.0.0/8"][..],
                "::ffff:11.1.2.3",
                "11.1.2.3, which is in deny of UpstreamPolicy shop/web, by 11.0.0.0/8",
            ),
            (
                &[],
                &["10.0.0.0/8"],
                "11.1.2.3",
                "11.1.2.3, which is not in deny of UpstreamPolicy shop/web",
            ),
            (
                &["10.0.0.0/8"],
                &["10.1.0.0/16"],
                "11.1.2.3",
                "11.1.2.3, which is not in allow of UpstreamPolicy shop/web",
            ),
            (
                &["11.0.0.0/8", "10.0.0.0/8"],
                &[],
                "10.1.2.3",
                "10.1.2.3, which is in allow of UpstreamPolicy shop/web, by 10.0.0.0/8",
            ),
        ] {
            let (rules, client) = (rules(allow, deny), client.parse().unwrap());
            assert_eq!(rule(&rules, client).words(client, &rules), wanted);
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
            let admitted = rule(&rules(&[allow], &[]), client.parse().unwrap()).admits();
            assert_eq!(admitted, wanted, "{allow} {client}");
        }
    }
}
