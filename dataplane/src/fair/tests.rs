//! Five clients and two namespaces against a third namespace, for each rule.

use proptest::prelude::*;

use super::*;

type Who = Holder<&'static str, u32>;

fn who(tenant: &'static str, member: u32) -> Who {
    Holder::new(tenant, member)
}

/// Pushes until the queue rejects the attackers: five clients in each of two namespaces.
fn attacked(capacity: usize) -> Queue<&'static str, u32, Who> {
    let mut queue = Queue::new(capacity);
    for _ in 0..capacity {
        for tenant in ["a", "b"] {
            for member in 0..5 {
                let holder = who(tenant, member);
                let _ = queue.push(holder.clone(), holder);
            }
        }
    }
    assert_eq!(queue.len(), capacity);
    queue
}

#[test]
fn a_newcomer_displaces_the_newest_job_of_the_largest_holder() {
    let mut queue = attacked(64);
    let entered = queue.push(who("c", 9), who("c", 9)).unwrap();
    let displaced = entered.displaced.unwrap();
    assert_ne!(displaced.tenant, "c");
    assert_eq!(queue.len(), 64);
}

#[test]
fn a_client_of_the_attacked_namespace_displaces_attackers_as_well() {
    let mut queue = attacked(64);
    let entered = queue.push(who("a", 9), who("a", 9)).unwrap();
    assert!(entered.displaced.is_some());
    assert_eq!(queue.len_of(&who("a", 9)), 1);
}

#[test]
fn attackers_displace_no_one_who_holds_less() {
    let mut queue = attacked(64);
    let mine = queue.push(who("c", 9), who("c", 9)).unwrap().ticket;
    for round in 0..1000 {
        let holder = who(if round % 2 == 0 { "a" } else { "b" }, round % 5);
        let _ = queue.push(holder.clone(), holder);
    }
    assert_eq!(queue.take(&mine), Some(who("c", 9)));
}

#[test]
fn waiting_work_is_served_in_rounds() {
    let mut queue = attacked(60);
    for _ in 0..3 {
        queue.push(who("c", 9), who("c", 9)).unwrap();
    }
    let served: Vec<&str> = std::iter::from_fn(|| queue.pop())
        .map(|(holder, _)| holder.tenant)
        .collect();
    // A turn for each namespace in each round.
    let places: Vec<usize> = (0..served.len()).filter(|at| served[*at] == "c").collect();
    assert_eq!(served.len(), 60);
    assert!(places[2] < 9, "{places:?}");
}

#[test]
fn members_take_the_turns_of_their_tenant() {
    let mut queue = Queue::new(64);
    for member in [1, 1, 1, 1, 2] {
        queue.push(who("a", member), ()).unwrap();
    }
    let served: Vec<u32> = std::iter::from_fn(|| queue.pop())
        .map(|(holder, ())| holder.member)
        .collect();
    assert_eq!(served, [1, 2, 1, 1, 1]);
}

#[test]
fn a_stream_of_new_members_does_not_starve_who_waits() {
    let mut queue = Queue::new(1000);
    queue.push(who("a", 0), ()).unwrap();
    queue.push(who("a", 0), ()).unwrap();
    queue.push(who("a", 1), ()).unwrap();
    queue.pop();
    let mut waited = 0;
    for member in 2.. {
        queue.push(who("a", member), ()).unwrap();
        let (served, ()) = queue.pop().unwrap();
        if served.member == 0 {
            break;
        }
        waited += 1;
        assert!(waited < 3);
    }
}

#[test]
fn work_that_may_not_be_served_now_keeps_its_turn() {
    let mut queue = Queue::new(8);
    queue.push(who("a", 1), 1).unwrap();
    queue.push(who("b", 1), 2).unwrap();
    assert_eq!(queue.pop_if(|holder| holder.tenant != "a").unwrap().1, 2);
    assert!(queue.pop_if(|holder| holder.tenant != "a").is_none());
    assert_eq!(queue.pop().unwrap().1, 1);
}

proptest! {
    #[test]
    fn queues_lose_nothing_and_stay_within_their_bound(
        steps in proptest::collection::vec((0_u8..4, 0_u32..4, 0_u8..4), 0..200)
    ) {
        let mut queue = Queue::new(8);
        let (mut entered, mut left, mut tickets) = (0_usize, 0_usize, Vec::new());
        for (tenant, member, step) in steps {
            match step {
                0 | 1 => if let Ok(new) = queue.push(Holder::new(tenant, member), ()) {
                    entered += 1;
                    left += usize::from(new.displaced.is_some());
                    tickets.push(new.ticket);
                },
                2 => left += usize::from(queue.pop().is_some()),
                _ => if let Some(ticket) = tickets.pop() {
                    left += usize::from(queue.take(&ticket).is_some());
                },
            }
            prop_assert!(queue.len() <= 8);
            prop_assert_eq!(queue.len(), entered - left);
            prop_assert_eq!(queue.entered(), u64::try_from(entered).unwrap());
        }
        while queue.pop().is_some() {
            left += 1;
        }
        prop_assert_eq!(entered, left);
        prop_assert!(queue.tenants.is_empty());
    }
}
