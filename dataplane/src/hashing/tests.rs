use std::{future::poll_fn, pin::pin, task::Poll};

use super::*;

fn asker(namespace: &str, last: u8) -> Asker {
    Asker {
        namespace: namespace.into(),
        client: IpAddr::from([192, 0, 2, last]),
        costly: false,
    }
}

fn costly(namespace: &str, last: u8) -> Asker {
    Asker {
        costly: true,
        ..asker(namespace, last)
    }
}

/// Begins to wait, and no more.
async fn begun<F: Future>(future: std::pin::Pin<&mut F>) {
    let mut future = future;
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

impl Hashing {
    fn work_off_one(&self) {
        let (costly, job) = self.0.next().unwrap();
        job();
        self.0.done(costly);
    }

    fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }
}

#[tokio::test]
async fn work_is_done_on_another_thread_of_the_lowest_priority() {
    let hashing = Hashing::start().unwrap();
    let (name, priority) = hashing
        .run(asker("a", 1), || {
            let name = std::thread::current().name().map(str::to_owned);
            (name, rustix::process::getpriority_process(None).unwrap())
        })
        .await
        .unwrap();
    assert!(name.unwrap().starts_with("hale-hash-"));
    assert_eq!(priority, 19);
    let own = rustix::process::getpriority_process(None).unwrap();
    assert!(own < 19, "the thread alone, and not the process");
}

#[tokio::test]
async fn who_panics_takes_no_thread_along() {
    let hashing = Hashing::start().unwrap();
    let threads = std::thread::available_parallelism().unwrap().get() + 2;
    for _ in 0..=threads {
        let gone: Result<(), Busy> = hashing
            .run(costly("a", 1), || unreachable!("in a test"))
            .await;
        assert_eq!(gone, Err(Busy));
    }
    assert_eq!(hashing.run(costly("a", 1), || 7).await, Ok(7));
    assert_eq!(hashing.run(asker("a", 1), || 7).await, Ok(7));
}

#[tokio::test]
async fn clients_and_namespaces_take_turns() {
    let hashing = Hashing::idle(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let job = |namespace: &'static str, who: u8, what: &'static str| {
        let order = Arc::clone(&order);
        Box::pin(hashing.run(asker(namespace, who), move || {
            order.lock().unwrap().push(what);
        }))
    };
    let mut jobs = vec![
        job("a", 1, "a1"),
        job("a", 1, "a1 again"),
        job("a", 1, "a1 again"),
        job("a", 2, "a2"),
        job("b", 1, "b1"),
        job("b", 1, "b1 again"),
    ];
    for job in &mut jobs {
        begun(job.as_mut()).await;
    }
    for _ in 0..6 {
        hashing.work_off_one();
    }
    let wanted = ["a1", "b1", "a2", "b1 again", "a1 again", "a1 again"];
    assert_eq!(*order.lock().unwrap(), wanted);
}

#[tokio::test]
async fn a_valid_password_finds_room_while_five_clients_guess_in_two_namespaces() {
    let hashing = Hashing::idle(1);
    let mut guesses = Vec::new();
    for _ in 0..=QUEUE_OF_ONE {
        for namespace in ["a", "b"] {
            for who in 1..=5 {
                guesses.extend(hashing.0.enter(asker(namespace, who), Box::new(|| ())));
            }
        }
    }
    assert_eq!(hashing.waiting(), QUEUE);
    let mut valid: Vec<_> = (0..50)
        .map(|_| Box::pin(hashing.run(asker("c", 9), || "good")))
        .collect();
    for valid in &mut valid {
        begun(valid.as_mut()).await;
    }
    let mut neighbour = Box::pin(hashing.run(asker("a", 9), || "good"));
    begun(neighbour.as_mut()).await;
    // Those who come later displace nobody who has less.
    for who in 1..=5 {
        let _ = hashing.0.enter(asker("b", who), Box::new(|| ()));
    }
    assert_eq!(hashing.waiting(), QUEUE);
    for _ in 0..QUEUE {
        hashing.work_off_one();
    }
    for valid in valid {
        assert_eq!(valid.await, Ok("good"));
    }
    assert_eq!(neighbour.await, Ok("good"));
}

#[tokio::test]
async fn who_is_displaced_hears_of_it_at_once() {
    let hashing = Hashing::idle(1);
    let mut jobs: Vec<_> = (1..=4)
        .flat_map(|who| (0..QUEUE_OF_ONE).map(move |_| who))
        .map(|who| Box::pin(hashing.run(asker("a", who), || ())))
        .collect();
    for job in &mut jobs {
        begun(job.as_mut()).await;
    }
    assert_eq!(hashing.run(asker("a", 1), || ()).await, Err(Busy));
    let _place = hashing.0.enter(asker("b", 1), Box::new(|| ())).unwrap();
    let displaced = futures::future::select_all(jobs).await.0;
    assert_eq!(displaced, Err(Busy));
}

#[test]
fn costly_hashes_leave_a_thread_to_the_others() {
    let hashing = Hashing::idle(1);
    let line = &hashing.0;
    let _places: Vec<_> = [
        costly("a", 1),
        costly("b", 1),
        asker("c", 1),
        asker("c", 1),
        costly("c", 1),
    ]
    .into_iter()
    .map(|asker| line.enter(asker, Box::new(|| ())).unwrap())
    .collect();
    let kinds: Vec<bool> = (0..3).map(|_| line.next().unwrap().0).collect();
    assert_eq!(kinds, [true, false, false]);
    line.done(true);
    assert!(line.next().unwrap().0);
}

#[tokio::test]
async fn who_goes_away_leaves_the_queue() {
    let hashing = Hashing::idle(1);
    {
        let mut gone = pin!(hashing.run(asker("a", 1), || unreachable!("nobody waits for it")));
        begun(gone.as_mut()).await;
        assert_eq!(hashing.waiting(), 1);
    }
    assert_eq!(hashing.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let hashing = Hashing::idle(1);
    assert_eq!(hashing.run(asker("a", 1), || ()).await, Err(Busy));
    assert_eq!(hashing.waiting(), 0);
}

#[test]
fn an_ipv6_network_is_one_client() {
    let of = |text: &str| sanitize::network(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}
