use std::{future::poll_fn, pin::pin, task::Poll};

use super::*;

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
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
        (self.0.next().unwrap().work)();
    }

    fn waiting(&self) -> usize {
        let waiting = self.0.lock().jobs.len();
        assert_eq!(waiting, self.0.waiting.load(Ordering::Relaxed));
        waiting
    }
}

#[tokio::test]
async fn work_is_done_on_another_thread_of_the_lowest_priority() {
    let hashing = Hashing::start().unwrap();
    let (name, priority) = hashing
        .run(client(1), || {
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
    let threads = std::thread::available_parallelism().unwrap().get();
    for _ in 0..=threads {
        let gone: Result<(), Busy> = hashing.run(client(1), || unreachable!("in a test")).await;
        assert_eq!(gone, Err(Busy));
    }
    assert_eq!(hashing.run(client(1), || 7).await, Ok(7));
}

#[tokio::test]
async fn clients_take_turns() {
    let hashing = Hashing::idle();
    let order = Arc::new(Mutex::new(Vec::new()));
    let job = |who: u8, what: &'static str| {
        let order = Arc::clone(&order);
        Box::pin(hashing.run(client(who), move || order.lock().unwrap().push(what)))
    };
    let mut jobs = vec![job(1, "a1"), job(1, "a2"), job(1, "a3"), job(2, "b1")];
    for job in &mut jobs {
        begun(job.as_mut()).await;
    }
    hashing.work_off_one();
    hashing.work_off_one();
    hashing.work_off_one();
    let mut late = [job(3, "c1"), job(2, "b2")];
    for job in &mut late {
        begun(job.as_mut()).await;
    }
    for _ in 0..3 {
        hashing.work_off_one();
    }
    assert_eq!(*order.lock().unwrap(), ["a1", "b1", "a2", "c1", "b2", "a3"]);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_at_once() {
    let hashing = Hashing::idle();
    let mut places = Vec::new();
    for who in 1..=4 {
        for _ in 0..QUEUE_OF_ONE {
            places.push(hashing.0.enter(client(who), Box::new(|| ())).unwrap());
        }
        let more = hashing.0.enter(client(who), Box::new(|| ()));
        assert!(more.is_err(), "a client has its part alone");
    }
    assert_eq!(hashing.waiting(), QUEUE);
    assert_eq!(hashing.run(client(9), || ()).await, Err(Busy));
    places.pop();
    assert!(hashing.0.enter(client(9), Box::new(|| ())).is_ok());
    drop(places);
    assert_eq!(hashing.waiting(), 0);
}

#[tokio::test]
async fn who_goes_away_leaves_the_queue() {
    let hashing = Hashing::idle();
    {
        let mut gone = pin!(hashing.run(client(1), || unreachable!("nobody waits for it")));
        begun(gone.as_mut()).await;
        assert_eq!(hashing.waiting(), 1);
    }
    assert_eq!(hashing.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let hashing = Hashing::idle();
    assert_eq!(hashing.run(client(1), || ()).await, Err(Busy));
    assert_eq!(hashing.waiting(), 0);
}

#[test]
fn an_ipv6_network_is_one_client() {
    let of = |text: &str| sanitize::network(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}
