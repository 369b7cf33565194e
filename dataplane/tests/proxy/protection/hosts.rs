//! Spellings of the host × policies.

use hale_dataplane::config::{Config, HostPattern, RequestPolicy, VirtualHost};

use super::{EXHAUSTED, policies, reached, routes};
use crate::{
    support::{Hale, Shop},
    wire::{Recorder, get, status, talk, values},
};

/// Whole requests that name their host, or their path, in unusual ways. `HOST` stands for the protected host.
const WHOLE: [&str; 32] = [
    "GET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nHOST: HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost:HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: \t HOST \t\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST.\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST..\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:80\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST.:443\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:99999\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:80:80\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST%2e\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: %48OST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST\0\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST, other\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other, HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other@HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST/x\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other\r\nhost: HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST\r\nhost: other\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other\r\n HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost : HOST\r\n\r\n",
    "GET http://HOST/admin HTTP/1.1\r\nhost: other\r\n\r\n",
    "GET HTTP://HOST:80//admin HTTP/1.1\r\nhost: other\r\n\r\n",
    "GET http://HOST./x/../admin HTTP/1.1\r\nhost: other\r\n\r\n",
    "GET http://u:p@HOST/admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
    "GET ftp://HOST/admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
    "GET http:/admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
    "GET /admin HTTP/1.0\r\n\r\n",
    "GET /admin HTTP/1.0\r\nhost: HOST\r\n\r\n",
    "GET /admin\r\n\r\n",
    "GET  /admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
];

/// Every policy on a host of its own; every other host leads, unprotected, to the same origin.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_the_host_gets_past_a_policy() {
    let recorder = Recorder::new().await;
    let shop = Shop::of(&[recorder.origin.address]);
    let mut names = Vec::new();
    let mut hosts = Vec::new();
    for (number, (name, policy)) in policies().into_iter().enumerate() {
        if name == EXHAUSTED {
            continue;
        }
        let host = format!("h{number:02}.test");
        let prefixes = [("/", RequestPolicy::default()), ("/admin", policy)];
        hosts.push(VirtualHost {
            host: HostPattern::parse(&host).unwrap(),
            routes: routes(&shop, &prefixes),
        });
        names.push((host, name));
    }
    let open = routes(&shop, &[("/", RequestPolicy::default())]).pop();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    let hale = Hale::start(Config {
        hosts,
        default_route: open,
        ..shop.config()
    });
    let other = get("/admin", "").replace("shop.test", "other.test");
    assert_eq!(
        status(&talk(&hale, other).await),
        "200",
        "other hosts are open"
    );
    for (host, name) in &names {
        for spelled in [
            host.clone(),
            host.to_ascii_uppercase(),
            host.replace('h', "H"),
        ] {
            for request in WHOLE {
                let request = request
                    .replace("HOST", &spelled)
                    .replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
                talk(&hale, request).await;
            }
        }
        let protected = |request: &&String| {
            values(request, "host").iter().any(|seen| {
                let seen = seen.split(':').next().unwrap_or_default();
                seen.trim_end_matches('.').eq_ignore_ascii_case(host)
            })
        };
        let reached = reached(&recorder);
        let reached: Vec<_> = reached.iter().filter(protected).collect();
        assert!(reached.is_empty(), "{name}: {reached:#?}");
    }
}
