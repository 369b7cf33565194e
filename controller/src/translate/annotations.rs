//! What annotations of other controllers ask for.
//!
//! Hale reads none of them, and refuses nothing because of them. But whoever moves here with `auth-type: basic` on an
//! Ingress believes it to be protected, and it is open: that is told, with what says the same here. Where a policy has
//! the section for every route of the Ingress, somebody has seen to it, and what is left is worth knowing and no more.
//! Values are judged only by whether they ask for anything, and never repeated.

mod known;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use hale_dataplane::config::{ObjectRef, RequestPolicy, VirtualHost};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;

use crate::finding::{FindingReason, Severity};

use super::{Findings, ingress};
use known::{Guard, KNOWN};

/// Annotations that a finding names. An Event has room for 1024 bytes.
const MOST: usize = 8;
/// What stands for a value that asks for something.
const ASKED: &str = "set";

/// Whether an annotation asks another controller for something that Hale does not do.
pub(crate) fn is_told(name: &str, value: &str) -> bool {
    group(name, value).is_some()
}

/// Drops the annotations that are not told, and the values of the others: whether they ask for anything is all that is
/// read of them.
pub(crate) fn trim(annotations: &mut BTreeMap<String, String>, read: &str) {
    annotations.retain(|name, value| {
        if name == read {
            return true;
        }
        let told = is_told(name, value);
        if told {
            ASKED.clone_into(value);
        }
        told
    });
}

/// The place in [`KNOWN`] of an annotation that asks for something.
fn group(name: &str, value: &str) -> Option<usize> {
    let (prefix, name) = name.rsplit_once('/')?;
    let group = KNOWN
        .iter()
        .position(|group| group.prefixes.contains(&prefix) && group.names.contains(&name))?;
    let words = || {
        value
            .split(',')
            .map(|word| word.trim().to_ascii_lowercase())
    };
    let neutral = |word: String| word.is_empty() || KNOWN[group].neutral.contains(&word.as_str());
    (!words().any(neutral)).then_some(group)
}

/// How many routes of an Ingress there are, and for how many of them a policy has a section.
#[derive(Default)]
struct Cover {
    routes: usize,
    auth: usize,
    access: usize,
    rate_limit: usize,
}

impl Cover {
    fn add(&mut self, policy: &RequestPolicy) {
        self.routes += 1;
        self.auth += usize::from(!policy.auth.is_open());
        self.access += usize::from(!policy.access.is_open());
        self.rate_limit += usize::from(policy.rate_limit.is_some());
    }

    /// The section that every route has of what an annotation would guard them with.
    fn section(&self, guard: Guard) -> Option<&'static str> {
        let (guarded, section) = match guard {
            Guard::Auth => (self.auth, "auth"),
            Guard::Access => (self.access, "access"),
            Guard::RateLimit => (self.rate_limit, "rateLimit"),
            Guard::Other | Guard::None => return None,
        };
        (guarded > 0 && guarded == self.routes).then_some(section)
    }
}

/// Annotations by what is said of them.
type Said<'a> = BTreeMap<(usize, String), Vec<&'a str>>;

/// Tells of annotations that are not read: at most two findings for an Ingress.
pub(super) fn tell(ours: &[&Ingress], hosts: &[VirtualHost], findings: &mut Findings) {
    let mut asked = Vec::new();
    for ingress in ours {
        let annotations = ingress.annotations().iter();
        let told: Vec<(usize, &str)> = annotations
            .filter_map(|(name, value)| Some((group(name, value)?, name.as_str())))
            .collect();
        if !told.is_empty() {
            asked.push((ingress::reference(ingress), told));
        }
    }
    if asked.is_empty() {
        return;
    }
    let mut covers: HashMap<&ObjectRef, Cover> = asked
        .iter()
        .map(|(source, _)| (source, Cover::default()))
        .collect();
    for route in hosts.iter().flat_map(|host| &host.routes) {
        if let Some(cover) = covers.get_mut(&route.source) {
            cover.add(&route.policy);
        }
    }
    for (source, told) in &asked {
        let (mut open, mut rest) = (Said::new(), Said::new());
        for (group, name) in told {
            let known = &KNOWN[*group];
            let section = covers.get(source).and_then(|it| it.section(known.guard));
            let (said, words) = match section {
                Some(section) => (&mut rest, format!("{section} of a policy is in force")),
                None if known.guard == Guard::None => (&mut rest, known.instead.to_owned()),
                None => (&mut open, known.instead.to_owned()),
            };
            said.entry((*group, words)).or_default().push(name);
        }
        let mut add = |severity, said: &Said<'_>, words: &str| {
            if !said.is_empty() {
                let message = format!("annotations are not read{words}: {}", list(said));
                let reason = FindingReason::AnnotationIgnored;
                findings.add(source.clone(), reason, severity, message);
            }
        };
        let unguarded = ", so requests are let in without what these ask for";
        add(Severity::Warning, &open, unguarded);
        add(Severity::Notice, &rest, ", so these change nothing");
    }
}

/// `a, b (what says the same); c (…), and 2 more`.
fn list(said: &Said<'_>) -> String {
    let mut text = String::new();
    let mut room = MOST;
    for ((_, words), names) in said {
        let shown = &names[..names.len().min(room)];
        if shown.is_empty() {
            break;
        }
        room -= shown.len();
        let semicolon = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{semicolon}{} ({words})", shown.join(", "));
    }
    let all: usize = said.values().map(Vec::len).sum();
    if all > MOST {
        let _ = write!(text, ", and {} more", all - MOST);
    }
    text
}

#[cfg(test)]
mod tests;
