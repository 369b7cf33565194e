use super::*;

const APACHE: &[u8] = include_bytes!("../../../tests/htpasswd/apache");
const OPENSSL: &[u8] = include_bytes!("../../../tests/htpasswd/openssl");
const PYTHON: &[u8] = include_bytes!("../../../tests/htpasswd/python");
const PASSWORDS: &str = include_str!("../../../tests/htpasswd/passwords");

const GOOD: &str = "{SHA}CEo1Ae3vaEXy8eQZjsOiuBz1xrw=";

fn is_password(users: &Users, name: &str, password: &str) -> bool {
    let user = users.find(name).unwrap();
    user.hash.verify(password.as_bytes()) && user.exists
}

#[test]
fn files_of_the_real_programs_are_read_and_their_passwords_known() {
    let (users, messages) = Users::from_htpasswd(&[APACHE, OPENSSL, PYTHON].concat());
    let refused: Vec<&str> = messages
        .iter()
        .map(|message| message.split_once("user ").unwrap().1)
        .map(|message| message.split_once(": the").unwrap().0)
        .collect();
    assert_eq!(
        refused,
        ["\"refused-des\"", "\"refused-plain\"", "\"refused-md5\""],
        "{messages:?}"
    );
    let known: Vec<(&str, &str)> = PASSWORDS
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .collect();
    assert_eq!(users.names().count(), known.len());
    for (name, password) in known {
        assert!(is_password(&users, name, password), "{name}");
        assert!(
            !is_password(&users, name, &format!("x{password}")),
            "{name}"
        );
        assert!(!is_password(&users, name, "wrong"), "{name}");
    }
}

#[test]
fn a_bad_line_costs_its_own_user_and_names_no_hash() {
    let long = "u".repeat(256);
    let text = format!(
        "\u{feff}# staff\r\n\r\n  \nalice:{GOOD}\r\nbob:plain-secret\ncarol:{GOOD}:a comment\nalice:{GOOD}\n\
         no-colon-secret\n:{GOOD}\ndave:\nerin:$2y$15$BrV4QsutVPLNpRktGd9jWuUwgs0FpiubOUxgrJ6FsVzFeQOOk2gci\n\
         frank:$6$rounds=200001$UH5KTlCUCA13jq.s$PYx\nfay:$6$rounds=999$UH5KTlCUCA13jq.s$PYx\n\
         gina:$2x$05$BrV4QsutVPLNpRktGd9jWuUwgs0FpiubOUxgrJ6FsVzFeQOOk2gci\nheidi:{{SSHA}}CEo1Ae3vaEXy8eQZjsOiuBz1xrw=\n\
         ivan:GM36IIZLtxFLk\njudy :{GOOD}\nk\u{7}:{GOOD}\n{long}:{GOOD}\nlast:{GOOD}\nbob:{GOOD}"
    );
    let (users, messages) = Users::from_htpasswd(text.as_bytes());
    assert_eq!(
        users.names().collect::<Vec<_>>(),
        ["alice", "carol", "last"]
    );
    let told = [
        "line 5: user \"bob\": the password is not hashed",
        "line 7: user \"alice\": is there already",
        "line 8: there is no colon",
        "line 9: user \"\": the name is empty",
        "line 10: user \"dave\": has no hash",
        "line 11: user \"erin\": the cost of its bcrypt hash is not in 4–14",
        "line 12: user \"frank\": the rounds",
        "line 13: user \"fay\": the rounds",
        "line 14: user \"gina\": the hash is of a kind",
        "line 15: user \"heidi\": the hash is of a kind",
        "line 16: user \"ivan\": the hash is made by DES crypt",
        "line 17: user \"judy \": the name begins or ends",
        "line 18: user \"k\\u{7}\": the name has a control",
        "line 19: user \"uuu",
        // Whose first line cannot be used is not let in by a second one.
        "line 21: user \"bob\": is there already",
    ];
    assert_eq!(messages.len(), told.len(), "{messages:#?}");
    for (message, told) in messages.iter().zip(told) {
        assert!(message.starts_with(told), "{message}");
        assert!(
            !message.contains("secret") && !message.contains("BrV4"),
            "{message}"
        );
        assert!(message.len() < 200, "{message}");
    }
}

#[test]
fn damaged_hashes_are_refused() {
    for hash in [
        "{SHA}CEo1Ae3vaEXy8eQZjsOiuBz1xrw",
        "{SHA}CEo1Ae3vaEXy8eQZjsOiuBz1xr==",
        "{SHA}CEo1Ae3vaEXy8eQZjsOiuBz1xrwA",
        "{SHA}",
        "$2y$05$BrV4QsutVPLNpRktGd9jWuUwgs0FpiubOUxgrJ6FsVzFeQOOk2gc",
        "$2y$05$BrV4QsutVPLNpRktGd9jWuUwgs0FpiubOUxgrJ6FsVzFeQOOk2gcia",
        "$2y$5$BrV4QsutVPLNpRktGd9jWuUwgs0FpiubOUxgrJ6FsVzFeQOOk2gci",
        "$2y$+5$BrV4QsutVPLNpRktGd9jWuUwgs0FpiubOUxgrJ6FsVzFeQOOk2gci",
        "$2y$05$BrV4QsutVPLNpRktGd9jW!Uwgs0FpiubOUxgrJ6FsVzFeQOOk2gci",
        "$2y$03$BrV4QsutVPLNpRktGd9jWuUwgs0FpiubOUxgrJ6FsVzFeQOOk2gci",
        "$apr1$71j5ISzR$W52akZBtdRfS.qxalDs76",
        "$apr1$71j5ISzR$W52akZBtdRfS.qxalDs76z",
        "$apr1$$W52akZBtdRfS.qxalDs761",
        "$apr1$71j5ISzR9$W52akZBtdRfS.qxalDs761",
        "$5$IgUBycU3M4tBdZqo$LrAuYKM7I8dzFBB2O3akt43kgzy3idOPid.Lug33OS",
        "$5$rounds=$IgUBycU3M4tBdZqo$LrAuYKM7I8dzFBB2O3akt43kgzy3idOPid.Lug33OS.",
        "$5$rounds=+5000$IgUBycU3M4tBdZqo$LrAuYKM7I8dzFBB2O3akt43kgzy3idOPid.Lug33OS.",
        "$5$rounds=99999999999$IgUBycU3M4tBdZqo$LrAuYKM7I8dzFBB2O3akt43kgzy3idOPid.Lug33OS.",
        "$5$x$y$IgUBycU3M4tBdZqo$LrAuYKM7I8dzFBB2O3akt43kgzy3idOPid.Lug33OS.",
        "$6$",
        "$6",
        "$",
        "$y$j9T$abc$def",
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$hash",
        "!",
        "*",
        "x",
    ] {
        assert!(Hash::parse(hash.as_bytes()).is_err(), "{hash}");
    }
}

#[test]
fn users_one_by_one() {
    let hash = format!("{GOOD}\n");
    let map = [("alice", hash.as_bytes()), ("bob", b"plain".as_slice())];
    let (users, messages) = Users::from_map(map.into_iter());
    assert!(is_password(&users, "alice", "sesame"));
    assert_eq!(users.names().collect::<Vec<_>>(), ["alice"]);
    assert_eq!(messages.len(), 1);
    assert!(messages[0].starts_with("user \"bob\": "), "{messages:?}");
    let (none, messages) = Users::from_map(std::iter::empty());
    assert!(none.is_empty() && messages.is_empty() && none.find("alice").is_none());
}

#[test]
fn who_is_not_there_costs_what_most_others_do() {
    for file in [APACHE, OPENSSL, PYTHON] {
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            let (users, _) = Users::from_htpasswd(line);
            let Some(name) = users.names().next() else {
                continue;
            };
            let (known, nobody) = (users.find(name).unwrap(), users.find("nobody").unwrap());
            assert!(known.exists && !nobody.exists, "{name}");
            assert_eq!(known.hash.cost(), nobody.hash.cost(), "{name}");
        }
    }
    let (users, _) =
        Users::from_htpasswd(&[format!("a:{GOOD}\n").as_bytes(), PYTHON, OPENSSL].concat());
    let of = |name| users.find(name).unwrap().hash.cost();
    assert_eq!(
        of("nobody"),
        of("python-2b"),
        "two of bcrypt 5, two of $6$, and bcrypt costs more"
    );
}

#[test]
fn what_is_long_is_wrong_without_work() {
    let (users, _) = Users::from_htpasswd(APACHE);
    for name in ["sha512", "nobody"] {
        assert!(!is_password(
            &users,
            name,
            &"x".repeat(LONGEST_PASSWORD + 1)
        ));
    }
}

#[test]
fn nothing_secret_is_printed() {
    let (users, _) = Users::from_htpasswd(APACHE);
    assert_eq!(format!("{users:?}"), "Users(13)");
    assert_eq!(serde_json::to_string(&users).unwrap(), "\"13 users\"");
    let (again, _) = Users::from_htpasswd(APACHE);
    assert!(users == again && users != Users::default());
    let (rotated, _) = Users::from_htpasswd(format!("sha1:{GOOD}").as_bytes());
    assert!(users != rotated);
}
