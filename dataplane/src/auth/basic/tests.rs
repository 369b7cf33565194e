use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;

use super::*;

const FILE: &[u8] = include_bytes!("../../../tests/htpasswd/apache");

fn users(text: &[u8]) -> Users {
    Users::from_htpasswd(text).0
}

fn config(users: Users) -> config::Basic {
    config::Basic {
        realm: "Hale".into(),
        users: Resolved::Known(users),
    }
}

fn compiled(users: Users) -> Basic {
    Basic::compile(&config(users), "shop", &Memory::default())
}

fn given(user: &str, password: &str) -> UserPass {
    let mut headers = HeaderMap::new();
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
    match credential::find(&headers) {
        Claim::Given(given) => given,
        other => panic!("{other:?}"),
    }
}

/// Outcome, and the consumer.
async fn judged(basic: &Basic, hashing: &Hashing, who: (&str, &str)) -> (Outcome, String) {
    let client = IpAddr::from([192, 0, 2, 1]);
    match basic.judge(given(who.0, who.1), client, hashing).await {
        Decision::Granted(granted) => (Outcome::Allowed, granted.consumer.unwrap().to_string()),
        Decision::Denied(outcome) | Decision::Unavailable(outcome, _) => (outcome, String::new()),
        _ => panic!("neither granted nor denied"),
    }
}

#[tokio::test]
async fn right_wrong_and_unknown() {
    let hashing = Hashing::start().unwrap();
    let basic = compiled(users(FILE));
    let allowed = |name: &str| (Outcome::Allowed, name.to_owned());
    let denied = |outcome| (outcome, String::new());
    for who in [
        ("bcrypt-4", "colon:in:it"),
        ("sha256", "pässwörd"),
        ("sha1", "sesame"),
    ] {
        for _ in 0..2 {
            assert_eq!(judged(&basic, &hashing, who).await, allowed(who.0));
        }
        let wrong = judged(&basic, &hashing, (who.0, "wrong")).await;
        assert_eq!(wrong, denied(Outcome::WrongCredential));
    }
    let unknown = judged(&basic, &hashing, ("nobody", "sesame")).await;
    assert_eq!(unknown, denied(Outcome::UnknownConsumer));
}

#[tokio::test]
async fn successes_are_remembered_and_nothing_else() {
    let hashing = Hashing::start().unwrap();
    let basic = compiled(users(FILE));
    for (who, kept) in [
        (("bcrypt-4", "wrong"), 0),
        (("nobody", "colon:in:it"), 0),
        (("bcrypt-4", "colon:in:it"), 1),
        (("bcrypt-4", "colon:in:it"), 1),
        (("bcrypt-4", "wrong"), 1),
        (("apr1", "battery staple"), 2),
    ] {
        judged(&basic, &hashing, who).await;
        assert_eq!(basic.successes.count(), kept, "{who:?}");
    }
}

#[tokio::test]
async fn a_rotated_or_removed_password_is_refused_at_once() {
    let hashing = Hashing::start().unwrap();
    let memory = Memory::default();
    let compiled = |users| Basic::compile(&config(users), "shop", &memory);
    let basic = compiled(users(FILE));
    let (alice, bob) = (("bcrypt-4", "colon:in:it"), ("apr1", "battery staple"));
    for who in [alice, bob] {
        assert_eq!(judged(&basic, &hashing, who).await.0, Outcome::Allowed);
    }
    let text = String::from_utf8(FILE.to_vec()).unwrap();
    let other = text.lines().find_map(|line| line.strip_prefix("bcrypt:"));
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    let rotated = format!("bcrypt-4:{}\n{}", other.unwrap(), line("apr1:"));
    let rotated = compiled(users(rotated.as_bytes()));
    assert_eq!(
        judged(&rotated, &hashing, alice).await.0,
        Outcome::WrongCredential
    );
    assert_eq!(judged(&rotated, &hashing, bob).await.0, Outcome::Allowed);
    let removed = users(line("apr1:").as_bytes());
    let removed = compiled(removed);
    assert_eq!(
        judged(&removed, &hashing, alice).await.0,
        Outcome::UnknownConsumer
    );
}

/// Each try with a password that is not known to be right is one job of the pool, whether there is such a user or not.
#[tokio::test]
async fn unknown_users_cost_one_hash_like_wrong_passwords() {
    let basic = compiled(users(FILE));
    let Resolved::Known(known) = &basic.users else {
        panic!("there are users");
    };
    let cost = known.find("nobody").unwrap().hash.cost();
    let usual = known
        .names()
        .find(|name| known.find(name).unwrap().hash.cost() == cost);
    let hashing = Hashing::start().unwrap();
    for (index, who) in [usual.unwrap(), "nobody"].into_iter().enumerate() {
        assert_eq!(hashing.entered(), index as u64);
        let (outcome, _) = judged(&basic, &hashing, (who, "wrong")).await;
        assert_ne!(outcome, Outcome::Allowed);
    }
    assert_eq!(hashing.entered(), 2);
}

#[tokio::test]
async fn without_users_nobody_is_judged() {
    let hashing = Hashing::start().unwrap();
    let basic = compiled(Users::default());
    assert!(basic.unavailable().is_some());
    let (outcome, _) = judged(&basic, &hashing, ("alice", "")).await;
    assert_eq!(outcome, Outcome::Unavailable);
}

#[test]
fn a_realm_cannot_end_its_quotes() {
    for (realm, wanted) in [
        ("Hale", "Basic realm=\"Hale\", charset=\"UTF-8\""),
        ("a\"b\\c", "Basic realm=\"a\\\"b\\\\c\", charset=\"UTF-8\""),
        ("a\r\nb\u{e4}c", "Basic realm=\"abc\", charset=\"UTF-8\""),
    ] {
        assert_eq!(challenge(realm), wanted);
    }
}

#[test]
fn a_user_whose_line_cannot_be_used_is_told_apart_from_nobody() {
    let sesame = "{SHA}CEo1Ae3vaEXy8eQZjsOiuBz1xrw=";
    let text = format!("alice:{sesame}\nbob:plain-secret\nalice:another-secret\n");
    let basic = compiled(users(text.as_bytes()));
    let told = |user: &str| {
        let mut headers = HeaderMap::new();
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:guess")));
        headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
        basic.explain(&headers, Outcome::UnknownConsumer)
    };
    let bob = told("bob").unwrap();
    assert!(
        bob.starts_with("the Secret has this user, but cannot let them in: line 2: user \"bob\": the password is not hashed"),
        "{bob}"
    );
    assert!(!bob.contains("secret") && !bob.contains("guess"), "{bob}");
    assert_eq!((told("alice"), told("carol")), (None, None));
}
