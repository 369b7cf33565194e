//! `spec.access`.

use std::{net::IpAddr, sync::Arc};

use hale_crds::Access;
use hale_dataplane::config::{AccessRules, ObjectRef};
use ipnet::IpNet;

use super::Judged;

/// Networks of a list.
const MOST: usize = 256;

pub(super) fn read(section: &Access, source: &ObjectRef) -> Judged<Arc<AccessRules>> {
    if section.allow.is_empty() && section.deny.is_empty() {
        return Err("access: set allow, deny or both".to_owned());
    }
    Ok(Arc::new(AccessRules {
        source: source.clone(),
        allow: networks("access.allow", &section.allow)?,
        deny: networks("access.deny", &section.deny)?,
    }))
}

fn networks(field: &str, texts: &[String]) -> Judged<Vec<IpNet>> {
    if texts.len() > MOST {
        return Err(format!("{field}: at most {MOST} networks"));
    }
    let network = |(index, text): (usize, &String)| {
        let field = format!("{field}[{index}]");
        let network: IpNet = text.parse().map_err(|_| {
            format!(
                "{field}: {text:?} is no network: write 10.0.0.0/8, or 192.0.2.7/32 for one address"
            )
        })?;
        match network.addr() {
            // Clients of IPv4 are seen by their own addresses: such a rule would never apply.
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Err(format!(
                "{field}: {text:?} is a network of IPv4: write it as one"
            )),
            _ => Ok(network.trunc()),
        }
    };
    texts.iter().enumerate().map(network).collect()
}
