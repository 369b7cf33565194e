//! `spec.auth`, with the credentials that it refers to.
//!
//! Two kinds of things go wrong, and neither opens a route. A section that does not make sense cannot be used at all:
//! nobody is let in. A Secret that is missing or broken costs its own method, which refuses whoever shows its
//! credential, and the others go on. What is broken in a Secret that is usable otherwise (a line, a key) costs that
//! line and is told.

mod access_key;
mod api_key;
mod basic;
mod credentials;
mod external;
mod jwt;
mod unreachable;

use std::{collections::BTreeSet, sync::Arc};

use hale_crds::{ExemptPath, ExemptPathType};
use hale_dataplane::{
    config::{
        Action, Auth, AuthMethod, AuthRules, ExternalService, ObjectRef, PathRule, Problem,
        Resolved,
    },
    reason::Reason,
};

use super::sections::{Judged, Place};

pub(in crate::translate) use external::Question;

/// Methods of a section.
const MOST_METHODS: usize = 8;
/// Exempt paths of a section.
const MOST_PATHS: usize = 16;

/// What the section says.
pub(super) struct Guard {
    policy: ObjectRef,
    /// `None`: the section cannot be used, and nobody is let in.
    rules: Option<Arc<AuthRules>>,
    /// The Service that must be an upstream before rules can ask it.
    question: Option<Question>,
    /// The methods, by name, each once.
    pub(super) methods: Vec<&'static str>,
    /// What the policy is not accepted for.
    pub(super) errors: Vec<String>,
    /// What is broken and costs only itself.
    pub(super) notes: Vec<String>,
    /// Methods that can never decide, and why.
    pub(super) unreachable: Vec<String>,
}

/// What is wrong, as it is found.
#[derive(Default)]
struct Told {
    errors: Vec<String>,
    notes: Vec<String>,
}

impl Told {
    /// What could be had, or what refuses in its place.
    fn resolved<T>(&mut self, field: &str, judged: Judged<T>) -> Resolved<T> {
        match judged {
            Ok(value) => Resolved::Known(value),
            Err(why) => {
                self.errors.push(format!("{field}: {why}"));
                Resolved::Unavailable(why)
            }
        }
    }

    fn notes(&mut self, field: &str, notes: Vec<String>) {
        let notes = notes.into_iter().map(|note| format!("{field}: {note}"));
        self.notes.extend(notes);
    }
}

/// Reads the section.
pub(super) fn read(section: &hale_crds::Auth, place: &Place<'_>) -> Guard {
    let mut told = Told::default();
    let mut question = None;
    let mut wrong = Vec::new();
    let mut methods = Vec::new();
    for (index, method) in section.any_of.iter().enumerate() {
        let field = format!("auth.anyOf[{index}]");
        match self::method(method, &field, place, &mut question, &mut told) {
            Ok(method) => methods.push(method),
            Err(error) => wrong.push(error),
        }
    }
    if !(1..=MOST_METHODS).contains(&section.any_of.len()) {
        wrong.push(format!(
            "auth.anyOf: 1 to {MOST_METHODS} methods are wanted"
        ));
    }
    let last = section.any_of.len().saturating_sub(1);
    let decides = |(index, method): (usize, &hale_crds::AuthMethod)| {
        method.external.is_some() && index != last
    };
    if section.any_of.iter().enumerate().any(decides) {
        wrong.push(
            "auth.anyOf: external decides about every request: it can only be the last method"
                .to_owned(),
        );
    }
    let exempt_paths = exempt_paths(&section.exempt_paths);
    let rules = match (exempt_paths, wrong.is_empty()) {
        (Ok(exempt_paths), true) => Some(Arc::new(AuthRules {
            source: place.policy.clone(),
            methods,
            exempt_paths,
            forward_credential: section.forward_credential,
        })),
        (Ok(_), false) => None,
        (Err(error), _) => {
            wrong.push(error);
            None
        }
    };
    wrong.append(&mut told.errors);
    let mut named = BTreeSet::new();
    Guard {
        policy: place.policy.clone(),
        question: question.filter(|_| rules.is_some()),
        rules,
        methods: section
            .any_of
            .iter()
            .flat_map(names)
            .filter(|name| named.insert(*name))
            .collect(),
        errors: wrong,
        notes: told.notes,
        unreachable: unreachable::unreachable(&section.any_of),
    }
}

fn method(
    method: &hale_crds::AuthMethod,
    field: &str,
    place: &Place<'_>,
    question: &mut Option<Question>,
    told: &mut Told,
) -> Judged<AuthMethod> {
    let hale_crds::AuthMethod {
        basic,
        jwt,
        access_key,
        api_key,
        external,
    } = method;
    match (basic, jwt, access_key, api_key, external) {
        (Some(it), None, None, None, None) => {
            basic::read(it, &format!("{field}.basic"), place, told).map(AuthMethod::Basic)
        }
        (None, Some(it), None, None, None) => {
            jwt::read(it, &format!("{field}.jwt"), place, told).map(AuthMethod::Jwt)
        }
        (None, None, Some(it), None, None) => {
            let field = format!("{field}.accessKey");
            access_key::read(it, &field, place, told).map(AuthMethod::AccessKey)
        }
        (None, None, None, Some(it), None) => {
            api_key::read(it, &format!("{field}.apiKey"), place, told).map(AuthMethod::ApiKey)
        }
        (None, None, None, None, Some(it)) => {
            let field = format!("{field}.external");
            external::read(it, &field, place, question, told).map(AuthMethod::External)
        }
        _ => Err(format!(
            "{field}: set exactly one of basic, jwt, accessKey, apiKey and external"
        )),
    }
}

fn names(method: &hale_crds::AuthMethod) -> impl Iterator<Item = &'static str> {
    [
        method.basic.is_some().then_some("basic"),
        method.jwt.is_some().then_some("jwt"),
        method.access_key.is_some().then_some("accessKey"),
        method.api_key.is_some().then_some("apiKey"),
        method.external.is_some().then_some("external"),
    ]
    .into_iter()
    .flatten()
}

fn exempt_paths(paths: &[ExemptPath]) -> Judged<Vec<PathRule>> {
    if paths.len() > MOST_PATHS {
        return Err(format!("auth.exemptPaths: at most {MOST_PATHS} paths"));
    }
    let rule = |(index, path): (usize, &ExemptPath)| {
        let field = format!("auth.exemptPaths[{index}].path");
        let text = path.path.as_str();
        if text.contains(['?', '#']) {
            return Err(format!("{field}: {text:?} is more than a path"));
        }
        let rule = match path.kind {
            ExemptPathType::Exact => PathRule::exact(text),
            ExemptPathType::Prefix => PathRule::prefix(text),
        };
        match rule.map_err(|error| format!("{field}: {error}"))? {
            PathRule::Prefix(prefix) if prefix.is_empty() => Err(format!(
                "{field}: this exempts every path: remove the auth section for that"
            )),
            rule => Ok(rule),
        }
    };
    paths.iter().enumerate().map(rule).collect()
}

impl Guard {
    /// For the dataplane.
    pub(super) fn config(&self) -> Auth {
        match &self.rules {
            Some(rules) => Auth::AnyOf(Arc::clone(rules)),
            None => Auth::Unavailable(Problem {
                reason: Reason::AuthUnavailable,
                message: format!(
                    "{}: {}: nobody is let in until that is mended",
                    self.policy,
                    self.errors.join("; ")
                ),
            }),
        }
    }

    /// The Service that must be an upstream.
    pub(super) fn question(&self) -> Option<&Question> {
        self.question.as_ref()
    }

    /// Takes what became of it.
    pub(super) fn answer(&mut self, action: Action) {
        self.question = None;
        let service = match action {
            Action::Forward(id) => ExternalService::Upstream(id),
            Action::Reject(problem) => ExternalService::Unavailable(problem.message),
        };
        let Some(rules) = &mut self.rules else {
            return;
        };
        let rules = Arc::make_mut(rules);
        if let Some(AuthMethod::External(external)) = rules.methods.last_mut() {
            external.service = service;
        }
    }

    /// Whether nobody at all is let in.
    pub(super) fn is_unusable(&self) -> bool {
        self.rules.is_none()
    }

    /// `requests need basic or apiKey; 2 paths are exempt`.
    pub(super) fn words(&self) -> String {
        let need = match self.methods.as_slice() {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        };
        let exempt = self.rules.as_ref().map_or(0, |it| it.exempt_paths.len());
        match exempt {
            0 => format!("requests need {need}"),
            1 => format!("requests need {need}; 1 path is exempt"),
            many => format!("requests need {need}; {many} paths are exempt"),
        }
    }
}
