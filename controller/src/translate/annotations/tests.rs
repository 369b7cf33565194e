use super::*;

#[test]
fn only_what_asks_for_something_is_told() {
    let nginx = |name: &str| format!("nginx.ingress.kubernetes.io/{name}");
    let told = [
        ("auth-type", "basic"),
        ("whitelist-source-range", "10.0.0.0/8, 192.0.2.0/24"),
        ("enable-global-auth", "true"),
        ("satisfy", "any"),
        ("ssl-redirect", "false"),
        ("backend-protocol", "GRPC"),
        ("proxy-next-upstream", "off"),
    ];
    for (name, value) in told {
        assert!(is_told(&nginx(name), value), "{name}: {value}");
    }
    let neutral = [
        ("auth-type", ""),
        // What cert-manager sets on the Ingresses of its challenges.
        ("whitelist-source-range", "0.0.0.0/0,::/0"),
        ("enable-global-auth", "false"),
        ("satisfy", "all"),
        ("ssl-redirect", "true"),
        ("backend-protocol", "HTTP"),
        ("limit-rps", "0"),
        ("auth-realm", "only a detail"),
        ("nobody-knows", "it"),
    ];
    for (name, value) in neutral {
        assert!(!is_told(&nginx(name), value), "{name}: {value}");
    }
    for name in [
        "auth-type",
        "kubernetes.io/ingress.class",
        "cert-manager.io/cluster-issuer",
        "example.com/auth-type",
        "konghq.com/auth-type",
    ] {
        assert!(!is_told(name, "basic"), "{name}");
    }
}

#[test]
fn what_is_kept_is_judged_as_before_and_tells_no_value() {
    let annotations = [
        ("kubernetes.io/ingress.class", "hale"),
        ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
        ("nginx.ingress.kubernetes.io/auth-secret", "users"),
        ("nginx.ingress.kubernetes.io/auth-realm", "a long text"),
        (
            "nginx.ingress.kubernetes.io/whitelist-source-range",
            "0.0.0.0/0",
        ),
        ("nginx.ingress.kubernetes.io/server-snippet", "a long text"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut kept: BTreeMap<String, String> = annotations.map(owned).into();
    trim(&mut kept, "kubernetes.io/ingress.class");
    let wanted = [
        ("kubernetes.io/ingress.class", "hale"),
        ("nginx.ingress.kubernetes.io/auth-secret", ASKED),
        ("nginx.ingress.kubernetes.io/server-snippet", ASKED),
    ];
    assert_eq!(kept, wanted.map(owned).into());
    let again = kept.clone();
    trim(&mut kept, "kubernetes.io/ingress.class");
    assert_eq!(kept, again);
    for group in KNOWN {
        assert!(!group.neutral.contains(&ASKED));
    }
}

#[test]
fn a_finding_fits_into_an_event() {
    // The longest names of each group, so that as many explanations as possible are told with them.
    let mut names: Vec<(usize, String)> = Vec::new();
    for (index, group) in KNOWN.iter().enumerate() {
        let longest = |texts: &[&'static str]| texts.iter().copied().max_by_key(|it| it.len());
        let (prefix, name) = (longest(group.prefixes), longest(group.names));
        let name = format!(
            "{}/{}",
            prefix.unwrap_or_default(),
            name.unwrap_or_default()
        );
        names.push((index, name));
    }
    for window in names.windows(MOST + 1) {
        let said: Said<'_> = window
            .iter()
            .map(|(index, name)| {
                (
                    (*index, KNOWN[*index].instead.to_owned()),
                    vec![name.as_str()],
                )
            })
            .collect();
        let text = list(&said);
        assert!(text.len() < 900, "{}: {text}", text.len());
        assert!(text.ends_with(", and 1 more"), "{text}");
    }
}

#[test]
fn an_annotation_is_in_one_group() {
    let mut seen = std::collections::HashSet::new();
    for group in KNOWN {
        assert!(group.neutral.iter().all(|it| *it == it.to_lowercase()));
        for prefix in group.prefixes {
            for name in group.names {
                assert!(
                    seen.insert((prefix, name)),
                    "{prefix}/{name} is there twice"
                );
            }
        }
    }
}
