//! No reading of a forwarded path is under a policy that the route that decides does not have.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    config::{
        AccessRules, Action, Config, HostPattern, ObjectRef, PathRule, Problem, RequestPolicy,
        Route, VirtualHost,
    },
    metrics::Metrics,
    reason::Reason,
};

/// A route that is open, or that only the policy of this name lets anybody pass.
fn route(path: &str, guard: Option<&str>) -> Route {
    let reference = |kind, name: &str| ObjectRef {
        kind,
        namespace: "shop".into(),
        name: name.into(),
    };
    let access = guard.map_or(Access::Everybody, |name| {
        Access::Rules(Arc::new(AccessRules {
            source: reference("UpstreamPolicy", name),
            allow: Vec::new(),
            deny: Vec::new(),
        }))
    });
    Route {
        path: PathRule::prefix(path).unwrap(),
        source: reference("Ingress", "web"),
        https_redirect: false,
        action: Action::Reject(Problem {
            reason: Reason::NotAccepted,
            message: String::new(),
        }),
        policy: RequestPolicy {
            access,
            ..RequestPolicy::default()
        },
    }
}

fn table(mut routes: Vec<Route>) -> PeerTable {
    routes.sort_by(|a, b| a.path.cmp(&b.path));
    let config = Config {
        hosts: vec![VirtualHost {
            host: HostPattern::Any,
            routes,
        }],
        ..Config::default()
    };
    PeerTable::empty().next(config, &Metrics::default())
}

/// The rule that decides, or why none does.
fn decides(table: &PeerTable, raw: &str) -> String {
    let path = match sanitize::canonical_path(raw) {
        Ok(path) => path,
        Err(error) => return format!("{error:?}"),
    };
    match table.resolve("shop.test", &path) {
        Ok(Routed { found: None, .. }) => "none".into(),
        Ok(Routed {
            found: Some(found), ..
        }) => table.config.hosts[found.host].routes[found.route]
            .path
            .to_string(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn the_path_as_sent_decides_where_policies_do_not_differ() {
    let table = table(vec![
        route("/", None),
        route("/api", None),
        route("/api/v4", None),
    ]);
    for (raw, wanted) in [
        ("/api/v4/projects/group%2Fproject", "/api/v4/*"),
        ("/api%2Fv4", "/*"),
        ("//api", "/*"),
        ("/api//v4", "/api/*"),
        ("/api;x/v4", "/*"),
        ("/api/v4//x", "/api/v4/*"),
    ] {
        assert_eq!(decides(&table, raw), wanted, "{raw}");
    }
}

#[test]
fn another_reading_takes_what_no_rule_takes_as_it_was_sent() {
    let table = table(vec![route("/api", None)]);
    for (raw, wanted) in [
        ("//api", "/api/*"),
        ("/%2Fapi", "/api/*"),
        ("/api", "/api/*"),
        ("/apis", "none"),
        ("//", "none"),
    ] {
        assert_eq!(decides(&table, raw), wanted, "{raw}");
    }
}

#[test]
fn a_guard_holds_for_every_reading() {
    let table = table(vec![
        route("/", None),
        route("/admin", Some("a")),
        route("/@me", Some("b")),
        route("/admin/b", Some("b")),
    ]);
    for (raw, wanted) in [
        ("/admin", "/admin/*"),
        ("//admin", "/admin/*"),
        ("/%2Fadmin", "/admin/*"),
        ("/%2fadmin", "/admin/*"),
        ("/%2F%2Fadmin//x", "/admin/*"),
        ("/admin%2F", "/admin/*"),
        ("/admin%2Fx", "/admin/*"),
        ("/admin%3Fx", "/admin/*"),
        ("/admin%23", "/admin/*"),
        ("/admin%23x/y", "/admin/*"),
        ("/x%3F/../admin", "/admin/*"),
        ("/admin;x%3Fy", "/admin/*"),
        ("/;x%2F/admin", "/admin/*"),
        ("/;x%2Fadmin", "/admin/*"),
        ("/%3Bx%2Fadmin", "/admin/*"),
        ("/;%2F;/%2Fadmin", "/admin/*"),
        ("/;%2Fadmin;/..%3B/", "/admin/*"),
        ("/x/..%2Fadmin", "EncodedDots"),
        ("/x%2F..%2Fadmin", "EncodedDots"),
        ("/x//..%3B/admin", "/admin/*"),
        ("/admin%2Fb", "/admin/b/*"),
        ("/admin//b", "Ambiguous"),
        ("/admin/b%2Fc", "Ambiguous"),
        ("/@me", "/@me/*"),
        ("/%40me", "/@me/*"),
        ("/%40me%2Fx", "/@me/*"),
        // Nothing is decoded twice.
        ("/%252Fadmin", "/*"),
        ("/admin%252Fx", "/*"),
        ("/admin%253Fx", "/*"),
        ("/x%2Fadmin", "/*"),
        ("/admins%2F", "/*"),
    ] {
        let found = decides(&table, raw);
        assert!(
            found == wanted || found == format!("Path({wanted})"),
            "{raw}: {found}, not {wanted}"
        );
    }
}

#[test]
fn a_policy_rejects_decodes_and_merges() {
    let with = |escaped_slashes, repeated_slashes| {
        let mut all = route("/", None);
        all.policy.path = PathHandling {
            escaped_slashes,
            repeated_slashes,
        };
        table(vec![all, route("/api", None)])
    };
    let forwarded = |table: &PeerTable, raw: &str| {
        let path = sanitize::canonical_path(raw).unwrap();
        let routed = table.resolve("shop.test", &path);
        routed.map(|routed| routed.path.unwrap_or_else(|| path.into_owned()))
    };
    let keep = with(EscapedSlashes::Keep, RepeatedSlashes::Keep);
    assert_eq!(forwarded(&keep, "/a%2fb//c").unwrap(), "/a%2Fb//c");
    let reject = with(EscapedSlashes::Reject, RepeatedSlashes::Merge);
    for raw in ["/a%2fb", "/api%2Fx"] {
        let error = forwarded(&reject, raw).unwrap_err();
        assert_eq!(error, LookupError::Path(PathError::EncodedSlash), "{raw}");
    }
    assert_eq!(forwarded(&reject, "/api/a%2Fb").unwrap(), "/api/a%2Fb");
    assert_eq!(forwarded(&reject, "//a///b").unwrap(), "/a/b");
    let decode = with(EscapedSlashes::Decode, RepeatedSlashes::Merge);
    assert_eq!(forwarded(&decode, "/a%2F%2Fb//c").unwrap(), "/a/b/c");
    assert_eq!(decides(&decode, "//api"), "/api/*", "matched again");
    assert_eq!(decides(&decode, "/%2Fapi"), "/api/*");
}

#[test]
fn the_work_for_readings_has_a_bound() {
    let table = table(vec![route("/", None), route("/admin", Some("a"))]);
    let odd = format!("/{}", ";a%3Bb%2Fc%3Fd%23e//".repeat(700));
    assert_eq!(decides(&table, &odd), "Path(TooManyReadings)");
    let key = format!("/bucket//{}", "a%2Fb//".repeat(2_000));
    assert_eq!(decides(&table, &key), "/*");
}

/// Every path that some server may take a path for, by steps in any order; an independent and slow model.
fn model(path: &str) -> Vec<String> {
    // The rule of `readings`: other reserved characters mean the same plainly and escaped.
    let mut all = vec![path.replace("%40", "@")];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        let cut = |mark: &str| path.split(mark).next().unwrap().to_owned();
        let strip = |mark: &str| {
            let segments = path.split('/');
            let plain = segments.map(|segment| segment.split(mark).next().unwrap());
            plain.collect::<Vec<_>>().join("/")
        };
        let mut steps = vec![path.replace("%2F", "/"), strip(";"), cut("%3F"), cut("%23")];
        if path.contains("%3B") {
            steps.push(path.replace("%3B", ";"));
        }
        for step in steps {
            if !all.contains(&step) {
                all.push(step);
            }
        }
        assert!(all.len() < 5_000);
    }
    let merge = |path: &str| {
        let mut path = path.to_owned();
        while path.contains("//") {
            path = path.replace("//", "/");
        }
        path
    };
    let resolve = |path: &str| {
        let mut kept: Vec<&str> = Vec::new();
        for segment in path.split('/').skip(1) {
            match segment {
                "." => {}
                ".." => drop(kept.pop()),
                segment => kept.push(segment),
            }
        }
        format!("/{}", kept.join("/"))
    };
    let forms = all
        .iter()
        .flat_map(|path| [resolve(path), merge(&resolve(path)), resolve(&merge(path))]);
    forms.collect()
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "//", "%2F", "%2f", "a", "b", "@", "%40", ";", ";x", "%3B", "%3b", "%3F", "%23",
        "..", ".", "%2e", "%25", "%252F", "/a", "/b", "/..;/", "/..%3B/", "%61",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_guard_of_every_reading_is_passed(
        raw in pieces(),
        guards in prop::collection::vec(
            (prop::sample::select(vec!["/a", "/b", "/a/b", "/@", "/b/a", "/a/@"]),
             prop::sample::select(vec![None, Some("one"), Some("two")])),
            0..4,
        ),
    ) {
        let Ok(path) = sanitize::canonical_path(&raw) else { return Ok(()) };
        let mut routes = vec![route("/", None)];
        for (path, guard) in guards {
            let new = route(path, guard);
            if routes.iter().all(|route| route.path != new.path) {
                routes.push(new);
            }
        }
        let table = table(routes);
        let Ok(routed) = table.resolve("shop.test", &path) else { return Ok(()) };
        let decided = table.compiled(routed.found).unwrap();
        for reading in model(&path) {
            let other = table.compiled(table.router.find("shop.test", &reading)).unwrap();
            prop_assert!(
                !other.is_guarded() || other.is_guarded_as(decided),
                "{} is {} to some server", raw, reading
            );
        }
    }
}
