//! What became of each policy: the conditions `Accepted` and `Programmed`, and findings.

use std::collections::{BTreeMap, BTreeSet};

use hale_crds::TargetKind;
use hale_dataplane::config::UpstreamId;

use crate::{
    cluster::key,
    finding::{FindingReason, Severity},
    settings::ObjectKey,
    translate::{
        AcceptedReason, Findings, Judgement, PolicyOutcome, ProgrammedReason, TargetOutcome,
    },
};

use super::{Entry, Policies, Target, attachment::Attachment, section::Section};

/// What routes reach.
#[derive(Default)]
pub(in crate::translate) struct Reached {
    by_service: BTreeMap<ObjectKey, BTreeSet<UpstreamId>>,
    /// Upstreams, by Ingress.
    pub(in crate::translate) by_ingress: BTreeMap<ObjectKey, BTreeSet<UpstreamId>>,
}

impl Reached {
    /// Notes that a route of an Ingress (or of the default backend) reaches an upstream.
    pub(in crate::translate) fn add(&mut self, id: &UpstreamId, ingress: Option<&ObjectKey>) {
        let service = ObjectKey::new(&*id.namespace, &*id.service);
        self.by_service
            .entry(service)
            .or_default()
            .insert(id.clone());
        if let Some(ingress) = ingress {
            let upstreams = self.by_ingress.entry(ingress.clone()).or_default();
            upstreams.insert(id.clone());
        }
    }

    fn upstreams(&self, target: &Target) -> Vec<UpstreamId> {
        let reached = match target.kind {
            TargetKind::Service => self.by_service.get(&target.object),
            TargetKind::Ingress => self.by_ingress.get(&target.object),
        };
        reached
            .into_iter()
            .flatten()
            .filter(|id| target.port.as_ref().is_none_or(|port| *port == id.port))
            .cloned()
            .collect()
    }
}

impl Policies<'_> {
    /// Judges every policy, when everything that is served is known.
    pub(in crate::translate) fn outcomes(
        &self,
        reached: &Reached,
        findings: &mut Findings,
    ) -> Vec<PolicyOutcome> {
        let mut outcomes: Vec<PolicyOutcome> = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| self.outcome(index, entry, reached, findings))
            .collect();
        outcomes.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        outcomes
    }

    fn outcome(
        &self,
        index: usize,
        entry: &Entry<'_>,
        reached: &Reached,
        findings: &mut Findings,
    ) -> PolicyOutcome {
        let key = key(&entry.policy.metadata);
        let targets = entry
            .targets
            .iter()
            .zip(&entry.policy.spec.target_refs)
            .map(|(attachment, target)| {
                let accepted = self.accepted(entry, attachment);
                let upstreams = reached.upstreams(&attachment.target);
                let programmed = self.programmed(index, entry, attachment, &upstreams);
                let programmed = in_part(&accepted, programmed);
                if let Some(reason) = finding(accepted.reason)
                    && let Some(policy) = self.reference(index)
                {
                    let message = accepted.message.clone();
                    findings.add(policy, reason, Severity::Warning, message);
                }
                let guard = entry.sections.auth.as_ref();
                let guard = guard.filter(|_| self.has(index, attachment, Section::Auth));
                TargetOutcome {
                    target: target.clone(),
                    accepted,
                    programmed,
                    upstreams,
                    methods: guard.map_or_else(Vec::new, |guard| guard.methods.clone()),
                }
            })
            .collect();
        if let (Some(auth), Some(policy)) = (&entry.sections.auth, self.reference(index)) {
            let notes = auth.notes.iter();
            let notes = notes.map(|note| (FindingReason::CredentialInvalid, note));
            let unreachable = auth.unreachable.iter();
            let unreachable = unreachable.map(|note| (FindingReason::MethodUnreachable, note));
            for (reason, note) in notes.chain(unreachable) {
                findings.add(policy.clone(), reason, Severity::Warning, note.clone());
            }
        }
        PolicyOutcome {
            namespace: key.namespace,
            name: key.name,
            generation: entry.policy.metadata.generation,
            targets,
        }
    }

    fn accepted(&self, entry: &Entry<'_>, attachment: &Attachment) -> Judgement<AcceptedReason> {
        let judgement = |reason, message| Judgement { reason, message };
        let errors: Vec<&str> = entry
            .sections
            .errors()
            .into_iter()
            .chain(attachment.errors.iter().map(String::as_str))
            .collect();
        if !errors.is_empty() {
            return judgement(AcceptedReason::Invalid, errors.join("; "));
        }
        if let Some(missing) = &attachment.missing {
            return judgement(AcceptedReason::TargetNotFound, missing.clone());
        }
        if attachment.lost.is_empty() {
            let mut message = format!("accepted for {}", name(&attachment.target));
            if let Some(auth) = &entry.sections.auth {
                let words = std::iter::once(auth.words());
                for part in words.chain(auth.notes.iter().chain(&auth.unreachable).cloned()) {
                    message = format!("{message}; {part}");
                }
            }
            return judgement(AcceptedReason::Accepted, message);
        }
        let message = format!(
            "{} of {} {} already taken: {}",
            join(attachment.lost.iter().map(|(section, _)| *section)),
            name(&attachment.target),
            if attachment.lost.len() == 1 {
                "is"
            } else {
                "are"
            },
            self.winners(attachment)
        );
        judgement(AcceptedReason::Conflicted, message)
    }

    fn winners(&self, attachment: &Attachment) -> String {
        let mut by_winner: BTreeMap<usize, Vec<Section>> = BTreeMap::new();
        for (section, winner) in &attachment.lost {
            by_winner.entry(*winner).or_default().push(*section);
        }
        let winners: Vec<String> = by_winner
            .into_iter()
            .filter_map(|(winner, sections)| {
                let winner = self.reference(winner)?;
                Some(format!("{winner} came first with {}", join(sections)))
            })
            .collect();
        winners.join(", ")
    }

    /// Whether a section of a policy is in force for a target.
    fn has(&self, index: usize, attachment: &Attachment, section: Section) -> bool {
        let place = (attachment.target.clone(), section);
        self.owners.get(&place) == Some(&index) && self.in_force.contains(&place)
    }

    /// Whether it is for any target.
    fn is_in_force(&self, index: usize, section: Section) -> bool {
        let targets = self.entries.get(index).map(|entry| &entry.targets);
        let mut targets = targets.into_iter().flatten();
        targets.any(|attachment| self.has(index, attachment, section))
    }

    fn programmed(
        &self,
        index: usize,
        entry: &Entry<'_>,
        attachment: &Attachment,
        upstreams: &[UpstreamId],
    ) -> Judgement<ProgrammedReason> {
        let judgement = |reason, message| Judgement { reason, message };
        let wanted: Vec<Section> = Section::ALL
            .into_iter()
            .filter(|section| entry.sections.has(*section))
            .collect();
        let in_force: Vec<Section> = wanted
            .iter()
            .copied()
            .filter(|section| self.has(index, attachment, *section))
            .collect();
        if let Some(missing) = &attachment.missing {
            let stray = in_force.iter().any(|it| it.protects()) && attachment.target.port.is_some();
            let message = match stray {
                true => format!(
                    "{missing}: nobody is let in to what no other policy of that Service protects"
                ),
                false => missing.clone(),
            };
            return judgement(ProgrammedReason::Pending, message);
        }
        if upstreams.is_empty() && in_force.is_empty() {
            let message = match attachment.target.kind {
                TargetKind::Service => "no Ingress that Hale serves routes to it",
                TargetKind::Ingress => "Hale serves no route of it",
            };
            let message = format!("{}: {message}", name(&attachment.target));
            return judgement(ProgrammedReason::Pending, message);
        }
        if wanted.is_empty() {
            let message = "the policy has no section: health is told, and nothing is changed";
            return judgement(ProgrammedReason::Programmed, message.to_owned());
        }
        if !in_force.is_empty() {
            let refusals: Vec<&str> = in_force
                .iter()
                .filter_map(|section| entry.sections.refusal(*section))
                .collect();
            let mut message = format!("in force: {}", join(in_force));
            for refusal in refusals {
                message = format!("{message}; {refusal}");
            }
            return judgement(ProgrammedReason::Programmed, message);
        }
        if wanted
            .iter()
            .any(|section| self.is_in_force(index, *section))
        {
            let message = "in force through another target of this policy".to_owned();
            return judgement(ProgrammedReason::Programmed, message);
        }
        if wanted
            .iter()
            .all(|section| !attachment.can_have(*section, &entry.sections))
        {
            let message = "no section is valid for it".to_owned();
            return judgement(ProgrammedReason::Pending, message);
        }
        let message = if attachment.lost.is_empty() {
            "policies for a port of the Service, or for the Ingresses before it, go first"
                .to_owned()
        } else {
            self.winners(attachment)
        };
        judgement(ProgrammedReason::Overridden, message)
    }
}

/// A policy that is not accepted is not programmed, though some of its sections may be in force.
fn in_part(
    accepted: &Judgement<AcceptedReason>,
    programmed: Judgement<ProgrammedReason>,
) -> Judgement<ProgrammedReason> {
    if accepted.reason.status() || !programmed.reason.status() {
        return programmed;
    }
    Judgement {
        reason: match accepted.reason {
            AcceptedReason::Conflicted => ProgrammedReason::Overridden,
            _ => ProgrammedReason::Pending,
        },
        message: format!("not accepted as a whole; {}", programmed.message),
    }
}

/// The finding that goes with a condition that is not true.
fn finding(reason: AcceptedReason) -> Option<FindingReason> {
    match reason {
        AcceptedReason::Accepted => None,
        AcceptedReason::Invalid => Some(FindingReason::PolicyInvalid),
        AcceptedReason::Conflicted => Some(FindingReason::PolicyConflicted),
        AcceptedReason::TargetNotFound => Some(FindingReason::PolicyTargetNotFound),
    }
}

/// A target, for people.
fn name(target: &Target) -> String {
    let kind = target.kind.as_str();
    match &target.port {
        Some(port) => format!("{kind} {}, port {port}", target.object),
        None => format!("{kind} {}", target.object),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn join(sections: impl IntoIterator<Item = Section>) -> String {
    let names: Vec<&str> = sections.into_iter().map(Section::as_str).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
