//! A route, compiled: where it leads, and what decides about its requests.

use std::{collections::HashMap, sync::Arc};

use super::{Guards, Upstream};
use crate::{
    auth::Protection,
    config::{self, Action, Auth, AuthMethod, ExternalService, Problem, RequestPolicy, UpstreamId},
    cors::Cors,
    metrics::{Metrics, PolicyMetrics},
    rate_limit::Limiter,
};

/// A route as a request needs it.
pub(crate) struct CompiledRoute {
    pub(crate) target: Target,
    pub(crate) policy: RequestPolicy,
    pub(crate) protection: Protection,
    /// The upstream that the protection's external method asks.
    pub(crate) authority_service: Option<Arc<Upstream>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) cors: Option<Arc<Cors>>,
    /// Where what its policies decide is counted.
    pub(crate) counters: Counters,
}

/// Where the decisions of a route's policies are counted, by section.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) auth: Option<Arc<PolicyMetrics>>,
    pub(crate) access: Option<Arc<PolicyMetrics>>,
    pub(crate) limit: Option<Arc<PolicyMetrics>>,
}

impl Counters {
    fn of(policy: &RequestPolicy, metrics: &Metrics) -> Self {
        Self {
            auth: policy.auth.source().map(|source| metrics.policy(source)),
            access: policy.access.source().map(|source| metrics.policy(source)),
            limit: policy
                .rate_limit
                .as_ref()
                .map(|limit| metrics.policy(&limit.source)),
        }
    }
}

/// Where a route leads.
pub(crate) enum Target {
    Forward(Arc<Upstream>),
    Reject(Problem),
}

pub(super) fn compile_route(
    route: &config::Route,
    upstreams: &HashMap<&UpstreamId, &Arc<Upstream>>,
    guards: &Guards,
    metrics: &Metrics,
) -> CompiledRoute {
    let target = match &route.action {
        Action::Reject(problem) => Target::Reject(problem.clone()),
        Action::Forward(id) => match upstreams.get(id) {
            Some(upstream) => Target::Forward(Arc::clone(upstream)),
            // The controller lists what it names; if it did not, the route says so and stays closed.
            None => Target::Reject(Problem {
                reason: crate::reason::Reason::ServiceNotFound,
                message: format!("the upstream {id} is not known"),
            }),
        },
    };
    let compiled = guards.of(&route.policy);
    CompiledRoute {
        target,
        protection: compiled.protection,
        authority_service: authority_service(&route.policy.auth)
            .and_then(|id| upstreams.get(id))
            .map(|upstream| Arc::clone(upstream)),
        limiter: compiled.limiter,
        cors: compiled.cors,
        counters: Counters::of(&route.policy, metrics),
        policy: route.policy.clone(),
    }
}

/// The upstream that is asked about requests.
fn authority_service(auth: &Auth) -> Option<&UpstreamId> {
    let Auth::AnyOf(rules) = auth else {
        return None;
    };
    rules.methods.iter().find_map(|method| match method {
        AuthMethod::External(external) => match &external.service {
            ExternalService::Upstream(id) => Some(id),
            _ => None,
        },
        _ => None,
    })
}
