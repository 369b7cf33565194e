//! Pods that authenticate connections (NTLM, Negotiate): a login is for the client that made it.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    support::{Origin, Shop},
    wire::{read_until, status},
};

/// A pod on whose connections users log in, in two steps. Its answers name the user, and the pod.
async fn pod(name: &'static str, scheme: &'static str) -> Origin {
    Origin::raw(move |mut stream, _| async move {
        let mut user = "";
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let login = format!("authorization: {scheme} ").to_lowercase();
            let token = head.to_lowercase().split_once(&login).map(|(_, rest)| rest.to_owned());
            let challenge = match token.as_deref() {
                Some(token) if token.starts_with("hello") => format!("{scheme} challenge"),
                Some(token) if token.starts_with("alice") => {
                    user = "alice";
                    String::new()
                }
                _ if user.is_empty() => scheme.to_owned(),
                _ => String::new(),
            };
            let answer = match challenge.as_str() {
                "" => format!("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{user}@{name}."),
                challenge => format!(
                    "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: {challenge}\r\ncontent-length: 1\r\n\r\n."
                ),
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// One request on a kept connection.
async fn ask(stream: &mut TcpStream, lines: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: shop.test\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(stream, "\r\n\r\n").await;
    // The body may have come with it.
    match head.ends_with('.') {
        true => head,
        false => head + &read_until(stream, ".").await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_to_a_connection_is_its_clients_alone() {
    for scheme in ["NTLM", "Negotiate"] {
        let pods = [pod("1", scheme).await, pod("2", scheme).await];
        let hale = Shop::of(&[pods[0].address, pods[1].address]).serve();
        let mut alice = TcpStream::connect(hale.address).await.unwrap();
        assert_eq!(status(&ask(&mut alice, "").await), "401");
        let hello = format!("authorization: {scheme} hello\r\n");
        let challenged = ask(&mut alice, &hello).await;
        assert!(challenged.contains("challenge"), "{challenged}");
        let login = format!("authorization: {scheme} alice\r\n");
        let welcome = ask(&mut alice, &login).await;
        assert!(welcome.contains("alice@"), "{welcome}");
        let (_, pod) = welcome.split_once('@').unwrap();
        for _ in 0..10 {
            let again = ask(&mut alice, "").await;
            assert!(again.contains(&format!("alice@{pod}")), "{again}");
            let mut other = TcpStream::connect(hale.address).await.unwrap();
            assert_eq!(status(&ask(&mut other, "").await), "401");
        }
        drop(alice);
        for _ in 0..10 {
            let mut other = TcpStream::connect(hale.address).await.unwrap();
            assert_eq!(status(&ask(&mut other, "").await), "401");
        }
    }
}
