//! What policies say of the requests of a route.

use hale_dataplane::{
    config::{Access, Action, Auth, Problem, RequestPolicy, UpstreamId},
    reason::Reason,
};

use crate::settings::ObjectKey;

use super::{Policies, Question, section::Section};

impl Policies<'_> {
    /// How requests of an Ingress (without one, those that the flag for a default backend takes) to a Service
    /// port are treated. A route that cannot forward is protected all the same; it has no use for the rest.
    pub(in crate::translate) fn requests(
        &mut self,
        ingress: Option<&ObjectKey>,
        port: Option<&UpstreamId>,
        forwards: bool,
    ) -> RequestPolicy {
        if self.owners.is_empty() {
            return RequestPolicy {
                path: self.path,
                ..RequestPolicy::default()
            };
        }
        let mut policy = RequestPolicy {
            auth: self.auth(ingress, port),
            access: self.access(ingress, port),
            path: self.path,
            ..RequestPolicy::default()
        };
        let mut find = |section| self.find(ingress, port, section);
        let (rate_limit, cors) = (find(Section::RateLimit), find(Section::Cors));
        let wanted = |section| forwards.then_some(section);
        let retry = wanted(Section::Retry).and_then(&mut find);
        let timeouts = wanted(Section::Timeouts).and_then(&mut find);
        let path = wanted(Section::Path).and_then(&mut find);
        let sections = |index: Option<usize>| Some(&self.entries.get(index?)?.sections);
        policy.rate_limit =
            sections(rate_limit).and_then(|it| it.rate_limit.as_ref()?.as_ref().ok().cloned());
        policy.cors = sections(cors).and_then(|it| it.cors.as_ref()?.as_ref().ok().cloned());
        policy.path = sections(path).and_then(|it| it.path).unwrap_or(policy.path);
        policy.retry = sections(retry).and_then(|it| it.retry.as_ref()?.as_ref().ok().cloned());
        policy.timeouts = sections(timeouts)
            .and_then(|it| it.timeouts.as_ref()?.as_ref().ok().cloned())
            .unwrap_or_default();
        policy
    }

    /// The Service that must be an upstream before requests can be authorised by it.
    pub(in crate::translate) fn question(
        &mut self,
        ingress: Option<&ObjectKey>,
        port: Option<&UpstreamId>,
    ) -> Option<(usize, Question)> {
        let index = self.find(ingress, port, Section::Auth)?;
        let auth = self.entries.get(index)?.sections.auth.as_ref()?;
        Some((index, auth.question()?.clone()))
    }

    /// Says what became of the question of a policy.
    pub(in crate::translate) fn answer(&mut self, index: usize, action: Action) {
        let entry = self.entries.get_mut(index);
        if let Some(auth) = entry.and_then(|entry| entry.sections.auth.as_mut()) {
            auth.answer(action);
        }
    }

    fn auth(&mut self, ingress: Option<&ObjectKey>, port: Option<&UpstreamId>) -> Auth {
        if let Some(index) = self.find(ingress, port, Section::Auth) {
            let entry = self.entries.get(index);
            // A policy that has the section and cannot be read is no reason to be open.
            return match entry.and_then(|entry| entry.sections.auth.as_ref()) {
                Some(auth) => auth.config(),
                None => Auth::Unavailable(unusable(Reason::AuthUnavailable, String::new())),
            };
        }
        match self.stray(port, Section::Auth) {
            Some(why) => Auth::Unavailable(unusable(Reason::AuthUnavailable, why)),
            None => Auth::Open,
        }
    }

    fn access(&mut self, ingress: Option<&ObjectKey>, port: Option<&UpstreamId>) -> Access {
        if let Some(index) = self.find(ingress, port, Section::Access) {
            let entry = self.entries.get(index);
            return match entry.and_then(|entry| entry.sections.access.as_ref()) {
                Some(Ok(rules)) => Access::Rules(rules.clone()),
                Some(Err(error)) => {
                    let source = self.reference(index).map(|it| it.to_string());
                    let why = format!("{}: {error}", source.unwrap_or_default());
                    Access::Unavailable(unusable(Reason::NotAccepted, why))
                }
                None => Access::Unavailable(unusable(Reason::NotAccepted, String::new())),
            };
        }
        match self.stray(port, Section::Access) {
            Some(why) => Access::Unavailable(unusable(Reason::NotAccepted, why)),
            None => Access::Everybody,
        }
    }

    fn find(
        &mut self,
        ingress: Option<&ObjectKey>,
        port: Option<&UpstreamId>,
        section: Section,
    ) -> Option<usize> {
        if let Some(owner) = ingress.and_then(|ingress| self.of_ingress(ingress, section)) {
            return Some(owner);
        }
        let port = port?;
        let service = ObjectKey::new(&*port.namespace, &*port.service);
        self.of_service(&service, &port.port, section)
    }

    /// Why nobody is let in, though no policy names this very port.
    fn stray(&mut self, port: Option<&UpstreamId>, section: Section) -> Option<String> {
        if self.strays.is_empty() {
            return None;
        }
        let port = port?;
        let service = ObjectKey::new(&*port.namespace, &*port.service);
        let (index, target) = self.strays.get(&(service, section))?.clone();
        let policy = self.reference(index)?;
        let attachments = &self.entries.get(index)?.targets;
        let attachment = attachments.iter().find(|it| it.target == target)?;
        let missing = attachment.missing.clone().unwrap_or_default();
        self.in_force.insert((target, section));
        let section = section.as_str();
        Some(format!(
            "{policy}: {missing}: {section} for this port keeps everybody out of the whole Service until that is mended"
        ))
    }
}

fn unusable(reason: Reason, message: String) -> Problem {
    Problem { reason, message }
}
