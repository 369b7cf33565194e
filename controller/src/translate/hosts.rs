//! Who has which host and path. The older Ingress wins, a rule goes before a default backend, and the
//! loser is told who won. Nothing is remembered between translations: a host is free again at once when
//! its owner goes.

use std::collections::{BTreeMap, btree_map::Entry};

use hale_dataplane::config::{HostPattern, ObjectRef, PathRule};
use k8s_openapi::api::networking::v1::IngressBackend;

use crate::finding::{FindingReason, Severity};

use super::Findings;

/// Claims on hosts and paths. Made from the oldest to the youngest object.
#[derive(Default)]
pub(super) struct Hosts<'a> {
    hosts: BTreeMap<HostPattern, Host<'a>>,
}

/// What is claimed below a host.
#[derive(Default)]
pub(super) struct Host<'a> {
    /// The owners of paths.
    pub(super) paths: BTreeMap<PathRule, Claim<'a>>,
}

/// A claim on a path.
#[derive(Clone)]
pub(super) struct Claim<'a> {
    /// The Ingress.
    pub(super) ingress: ObjectRef,
    /// What it wants there.
    pub(super) backend: &'a IngressBackend,
    /// Whether it is a rule, or a default backend.
    pub(super) strength: Strength,
    /// Whether the Ingress also has TLS for the host.
    pub(super) tls: bool,
}

/// How strong a claim is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strength {
    /// The default backend of an Ingress that has rules, for hosts that are not its own: worth a try.
    Spare,
    /// A default backend.
    Default,
    /// A rule.
    Rule,
}

impl<'a> Hosts<'a> {
    /// Makes a claim; false, and a finding if it matters, where another has the path.
    pub(super) fn claim(
        &mut self,
        host: &HostPattern,
        path: PathRule,
        claim: Claim<'a>,
        findings: &mut Findings,
    ) -> bool {
        let paths = &mut self.hosts.entry(host.clone()).or_default().paths;
        match paths.entry(path) {
            Entry::Vacant(free) => {
                free.insert(claim);
                true
            }
            Entry::Occupied(mut taken) => {
                let wins =
                    claim.strength == Strength::Rule && taken.get().strength != Strength::Rule;
                let loser = if wins { taken.insert(claim) } else { claim };
                let winner = taken.get();
                tell(host, taken.key(), winner, &loser, findings);
                wins
            }
        }
    }

    /// Notes that an Ingress has TLS for a host: requests of its own paths are redirected, and no others.
    pub(super) fn with_tls(&mut self, host: &HostPattern, ingress: &ObjectRef) {
        let claims = self.hosts.get_mut(host).into_iter();
        for claim in claims.flat_map(|host| host.paths.values_mut()) {
            claim.tls |= claim.ingress == *ingress;
        }
    }

    /// Whether an Ingress has a path of the host that takes requests for this one: the host itself, else its wildcard,
    /// else the rules without a host.
    pub(super) fn owns(&self, host: &HostPattern, ingress: &ObjectRef) -> bool {
        let taken = self
            .hosts
            .get(host)
            .or_else(|| self.hosts.get(&wildcard(host)?))
            .or_else(|| self.hosts.get(&HostPattern::Any));
        taken.is_some_and(|host| host.paths.values().any(|claim| claim.ingress == *ingress))
    }

    /// Hosts that have a path, sorted by precedence.
    pub(super) fn into_sorted(self) -> impl Iterator<Item = (HostPattern, Host<'a>)> {
        self.hosts
            .into_iter()
            .filter(|(_, host)| !host.paths.is_empty())
    }
}

/// The wildcard that takes a name, too.
pub(super) fn wildcard(host: &HostPattern) -> Option<HostPattern> {
    let HostPattern::Exact(name) = host else {
        return None;
    };
    let (_, suffix) = name.as_str().split_once('.')?;
    HostPattern::parse(&format!("*.{suffix}")).ok()
}

fn tell(
    host: &HostPattern,
    path: &PathRule,
    winner: &Claim<'_>,
    loser: &Claim<'_>,
    findings: &mut Findings,
) {
    let place = place(host, path);
    let mut severity = Severity::Warning;
    let message = match (loser.strength, winner.strength) {
        // Of one Ingress: a rule for / goes before its default backend, as it should.
        (Strength::Default | Strength::Spare, _) if loser.ingress == winner.ingress => return,
        (Strength::Spare, _) => return,
        (Strength::Default, Strength::Rule) => {
            // It was for what no rule takes, and nothing is left.
            severity = Severity::Notice;
            format!(
                "{place} is not served by this default backend: a rule of {} has it",
                winner.ingress
            )
        }
        (Strength::Default, _) => format!(
            "{place} is not served by this default backend: {} came first",
            winner.ingress
        ),
        (Strength::Rule, _) if loser.ingress == winner.ingress => {
            format!("{place} is named twice in this Ingress: the first rule is served")
        }
        (Strength::Rule, _) => format!(
            "{place} is not served for this Ingress: {} came first",
            winner.ingress
        ),
    };
    findings.add(
        loser.ingress.clone(),
        FindingReason::HostConflict,
        severity,
        message,
    );
}

/// A host and path, for people.
pub(super) fn place(host: &HostPattern, path: &PathRule) -> String {
    let host = match host {
        HostPattern::Any => "every host".to_owned(),
        host => format!("host {host}"),
    };
    match path {
        PathRule::Exact(path) => format!("{host}, path {path} (Exact)"),
        PathRule::Prefix(prefix) if prefix.is_empty() => format!("{host}, path /"),
        PathRule::Prefix(prefix) => format!("{host}, path {prefix}"),
    }
}
