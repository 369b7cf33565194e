//! What policies say of requests, compiled once for each policy and carried from table to table: password
//! caches, fetched keys and counters outlive a change of something else.

use std::{collections::HashMap, sync::Arc};

use crate::{
    auth::{AuthGuard, Memory, Protection, jwt::Endpoint},
    config::{self, Auth, Config, ObjectRef, RequestPolicy},
    cors::Cors,
    rate_limit::Limiter,
};

/// By policy.
#[derive(Default)]
pub(super) struct Guards {
    auth: HashMap<ObjectRef, Arc<AuthGuard>>,
    memory: Arc<Memory>,
    limits: HashMap<ObjectRef, Arc<Limiter>>,
    cors: HashMap<ObjectRef, (Arc<config::Cors>, Arc<Cors>)>,
}

/// What is compiled of one route.
pub(super) struct Compiled {
    pub(super) protection: Protection,
    pub(super) limiter: Option<Arc<Limiter>>,
    pub(super) cors: Option<Arc<Cors>>,
}

impl Guards {
    /// Those of a config; what is as it was in `old` is shared with it.
    pub(super) fn compile(config: &Config, old: &Self) -> Self {
        let mut guards = Self {
            memory: Arc::clone(&old.memory),
            ..Self::default()
        };
        guards.memory.sweep(jiff::Timestamp::now().as_second());
        let routes = config.hosts.iter().flat_map(|host| &host.routes);
        for route in routes.chain(&config.default_route) {
            guards.add(&route.policy, old);
        }
        guards
    }

    fn add(&mut self, policy: &RequestPolicy, old: &Self) {
        if let Auth::AnyOf(rules) = &policy.auth
            && !self.auth.contains_key(&rules.source)
        {
            let guard = match old.auth.get(&rules.source) {
                Some(old) if old.rules == *rules => Arc::clone(old),
                old => {
                    let old = old.map(|old| &**old);
                    Arc::new(AuthGuard::compile(rules, &self.memory, old))
                }
            };
            self.auth.insert(rules.source.clone(), guard);
        }
        if let Some(limit) = &policy.rate_limit
            && !self.limits.contains_key(&limit.source)
        {
            let limiter = match old.limits.get(&limit.source) {
                Some(old) if old.config == *limit => Arc::clone(old),
                old => Arc::new(Limiter::compile(limit, old.map(|old| &**old))),
            };
            self.limits.insert(limit.source.clone(), limiter);
        }
        if let Some(cors) = &policy.cors
            && !self.cors.contains_key(&cors.source)
        {
            let compiled = match old.cors.get(&cors.source) {
                Some((config, compiled)) if config == cors => Arc::clone(compiled),
                _ => Arc::new(Cors::compile(cors)),
            };
            self.cors
                .insert(cors.source.clone(), (Arc::clone(cors), compiled));
        }
    }

    /// Where keys of tokens are fetched.
    pub(super) fn key_endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.auth.values().flat_map(|guard| guard.key_endpoints())
    }

    /// Those of one route.
    pub(super) fn of(&self, policy: &RequestPolicy) -> Compiled {
        let protection = match &policy.auth {
            Auth::Open => Protection::Open,
            Auth::Unavailable(problem) => Protection::Unavailable(problem.clone()),
            Auth::AnyOf(rules) => match self.auth.get(&rules.source) {
                // One policy has one set of rules; were there two, neither would stand in for the other.
                Some(guard) if guard.rules == *rules => Protection::AnyOf(Arc::clone(guard)),
                _ => Protection::AnyOf(Arc::new(AuthGuard::compile(rules, &self.memory, None))),
            },
        };
        Compiled {
            protection,
            limiter: policy
                .rate_limit
                .as_ref()
                .and_then(|limit| self.limits.get(&limit.source).cloned()),
            cors: policy
                .cors
                .as_ref()
                .and_then(|cors| Some(Arc::clone(&self.cors.get(&cors.source)?.1))),
        }
    }
}
