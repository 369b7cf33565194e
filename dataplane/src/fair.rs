//! Fair sharing of bounded resources.
//!
//! A resource that many use has a bound, and one namespace or one client must not use up what others need. Every use
//! has a [`Holder`]: the *tenant* (the namespace of the object that caused the use) and the *member* (the client
//! network within it). The password queue is shared by two rules:
//!
//! - A use that can be taken back (a queued job) yields to a newcomer who
//!   holds less: [`Shares::yields`] names the largest member of the largest tenant. A newcomer is rejected only where
//!   no other holder has more than the newcomer would have.
//! - Waiting work is served in rounds ([`Queue`]): each tenant has one turn in a round, and its members take its turns
//!   one after another. An arrival joins the next round, so it delays work that waits already by no more
//!   than one turn of each tenant.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// The user of a shared resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holder<T, M> {
    pub(crate) tenant: T,
    pub(crate) member: M,
}

impl<T, M> Holder<T, M> {
    pub(crate) fn new(tenant: T, member: M) -> Self {
        Self { tenant, member }
    }
}

/// How much of a resource each holder has, in units of the caller's choice (places, bytes).
#[derive(Debug)]
pub(crate) struct Shares<T, M> {
    used: u64,
    tenants: HashMap<T, Share<M>>,
}

#[derive(Debug)]
struct Share<M> {
    used: u64,
    members: HashMap<M, u64>,
}

impl<T, M> Default for Shares<T, M> {
    fn default() -> Self {
        Self {
            used: 0,
            tenants: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash, M: Clone + Eq + Hash> Shares<T, M> {
    /// All that is in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// What one holder uses.
    pub(crate) fn used_by(&self, holder: &Holder<T, M>) -> u64 {
        let share = self.tenants.get(&holder.tenant);
        share
            .and_then(|share| share.members.get(&holder.member))
            .copied()
            .unwrap_or(0)
    }

    fn used_by_tenant(&self, tenant: &T) -> u64 {
        self.tenants.get(tenant).map_or(0, |share| share.used)
    }

    pub(crate) fn add(&mut self, holder: &Holder<T, M>, amount: u64) {
        let share = self
            .tenants
            .entry(holder.tenant.clone())
            .or_insert_with(|| Share {
                used: 0,
                members: HashMap::new(),
            });
        *share.members.entry(holder.member.clone()).or_insert(0) += amount;
        share.used += amount;
        self.used += amount;
    }

    /// Gives back up to `amount`: a holder cannot give back more than it has.
    pub(crate) fn remove(&mut self, holder: &Holder<T, M>, amount: u64) {
        let Some(share) = self.tenants.get_mut(&holder.tenant) else {
            return;
        };
        let Some(used) = share.members.get_mut(&holder.member) else {
            return;
        };
        let amount = amount.min(*used);
        *used -= amount;
        if *used == 0 {
            share.members.remove(&holder.member);
        }
        share.used -= amount;
        if share.used == 0 {
            self.tenants.remove(&holder.tenant);
        }
        self.used -= amount;
    }

    /// The holder that gives up `amount` so that `newcomer` can have it; `None` if no other holder has more than
    /// `newcomer` would have then.
    pub(crate) fn yields(&self, newcomer: &Holder<T, M>, amount: u64) -> Option<Holder<T, M>> {
        let largest = self.tenants.iter().max_by_key(|(_, share)| share.used);
        if let Some((tenant, share)) = largest
            && *tenant != newcomer.tenant
            && share.used > self.used_by_tenant(&newcomer.tenant) + amount
        {
            let member = share.largest()?.0.clone();
            return Some(Holder::new(tenant.clone(), member));
        }
        let own = self.tenants.get(&newcomer.tenant)?;
        let (member, used) = own.largest()?;
        let larger = *member != newcomer.member && used > self.used_by(newcomer) + amount;
        larger.then(|| Holder::new(newcomer.tenant.clone(), member.clone()))
    }
}

impl<M> Share<M> {
    fn largest(&self) -> Option<(&M, u64)> {
        let largest = self.members.iter().max_by_key(|(_, used)| **used);
        largest.map(|(member, used)| (member, *used))
    }
}

/// The place of one job in a [`Queue`].
#[derive(Clone, Debug)]
pub(crate) struct Ticket<T, M> {
    holder: Holder<T, M>,
    number: u64,
}

/// Jobs that wait, of all holders: bounded, and served in rounds.
#[derive(Debug)]
pub(crate) struct Queue<T, M, J> {
    capacity: usize,
    shares: Shares<T, M>,
    tenants: HashMap<T, Waiting<M, J>>,
    clock: u64,
    /// Orders arrivals and turns.
    next: u64,
    entered: u64,
}

#[derive(Debug)]
struct Waiting<M, J> {
    turn: Turn,
    clock: u64,
    members: HashMap<M, Jobs<J>>,
}

#[derive(Debug)]
struct Jobs<J> {
    turn: Turn,
    /// Oldest first, each with the number of its ticket.
    jobs: VecDeque<(u64, J)>,
}

/// The round in which a tenant or member is served next, and its order within that round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    round: u64,
    order: u64,
}

/// A job that entered a queue.
#[derive(Debug)]
pub(crate) struct Entered<T, M, J> {
    pub(crate) ticket: Ticket<T, M>,
    /// The job that lost its place.
    pub(crate) displaced: Option<J>,
}

impl<T: Clone + Eq + Hash, M: Clone + Eq + Hash, J> Queue<T, M, J> {
    /// A queue of at most `capacity` jobs.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            shares: Shares::default(),
            tenants: HashMap::new(),
            clock: 0,
            next: 0,
            entered: 0,
        }
    }

    /// Jobs that wait.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.shares.used()).unwrap_or(usize::MAX)
    }

    /// Jobs that ever entered.
    #[cfg(test)]
    pub(crate) fn entered(&self) -> u64 {
        self.entered
    }

    /// Jobs of one holder that wait.
    pub(crate) fn len_of(&self, holder: &Holder<T, M>) -> u64 {
        self.shares.used_by(holder)
    }

    /// Adds a job. In a full queue the newest job of the largest holder makes room.
    ///
    /// # Errors
    ///
    /// Gives the job back if the queue is full and no other holder has more jobs than `holder` would have.
    pub(crate) fn push(&mut self, holder: Holder<T, M>, job: J) -> Result<Entered<T, M, J>, J> {
        let mut displaced = None;
        if self.len() >= self.capacity {
            let Some(largest) = self.shares.yields(&holder, 1) else {
                return Err(job);
            };
            displaced = self.remove(&largest, VecDeque::pop_back);
        }
        let number = self.next;
        self.next += 1;
        self.entered += 1;
        let joins = |clock: u64| Turn {
            round: clock + 1,
            order: number,
        };
        let tenant = self
            .tenants
            .entry(holder.tenant.clone())
            .or_insert_with(|| Waiting {
                turn: joins(self.clock),
                clock: 0,
                members: HashMap::new(),
            });
        let turn = joins(tenant.clock);
        let member = tenant.members.entry(holder.member.clone());
        let member = member.or_insert_with(|| Jobs {
            turn,
            jobs: VecDeque::new(),
        });
        member.jobs.push_back((number, job));
        self.shares.add(&holder, 1);
        Ok(Entered {
            ticket: Ticket { holder, number },
            displaced,
        })
    }

    /// The next job, of any holder.
    #[cfg(test)]
    pub(crate) fn pop(&mut self) -> Option<(Holder<T, M>, J)> {
        self.pop_if(|_| true)
    }

    /// The next job of a holder that may be served now: the oldest of the member whose turn it is, of the tenant whose
    /// turn it is. Other holders keep their turns.
    pub(crate) fn pop_if(
        &mut self,
        mut serves: impl FnMut(&Holder<T, M>) -> bool,
    ) -> Option<(Holder<T, M>, J)> {
        let mut tenants: Vec<(Turn, &T)> = (self.tenants.iter())
            .map(|(tenant, waiting)| (waiting.turn, tenant))
            .collect();
        tenants.sort_unstable_by_key(|(turn, _)| *turn);
        let holder = tenants.into_iter().find_map(|(_, tenant)| {
            let waiting = self.tenants.get(tenant)?;
            let mut members: Vec<(Turn, &M)> = (waiting.members.iter())
                .map(|(member, jobs)| (jobs.turn, member))
                .collect();
            members.sort_unstable_by_key(|(turn, _)| *turn);
            members
                .into_iter()
                .map(|(_, member)| Holder::new(tenant.clone(), member.clone()))
                .find(&mut serves)
        })?;
        let order = self.next;
        if let Some(tenant) = self.tenants.get_mut(&holder.tenant) {
            self.clock = self.clock.max(tenant.turn.round);
            tenant.turn = Turn {
                round: self.clock + 1,
                order,
            };
            if let Some(member) = tenant.members.get_mut(&holder.member) {
                tenant.clock = tenant.clock.max(member.turn.round);
                member.turn = Turn {
                    round: tenant.clock + 1,
                    order,
                };
            }
        }
        // Those who were served come after those who joined before, and before those who join later.
        self.next += 1;
        let job = self.remove(&holder, VecDeque::pop_front)?;
        Some((holder, job))
    }

    /// Takes a job back; `None` if it was served or displaced already.
    pub(crate) fn take(&mut self, ticket: &Ticket<T, M>) -> Option<J> {
        self.remove(&ticket.holder, |jobs| {
            let index = jobs
                .iter()
                .position(|(number, _)| *number == ticket.number)?;
            jobs.remove(index)
        })
    }

    fn remove(
        &mut self,
        holder: &Holder<T, M>,
        which: impl FnOnce(&mut VecDeque<(u64, J)>) -> Option<(u64, J)>,
    ) -> Option<J> {
        let tenant = self.tenants.get_mut(&holder.tenant)?;
        let member = tenant.members.get_mut(&holder.member)?;
        let (_, job) = which(&mut member.jobs)?;
        if member.jobs.is_empty() {
            tenant.members.remove(&holder.member);
        }
        if tenant.members.is_empty() {
            self.tenants.remove(&holder.tenant);
        }
        self.shares.remove(holder, 1);
        Some(job)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
