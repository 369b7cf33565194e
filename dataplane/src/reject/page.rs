//! The page for people: small, self-contained, and everything on it escaped.

use std::fmt::Write;

use http::HeaderValue;

use super::{PeerDetail, View};

/// The page loads nothing and runs nothing.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2129;--soft:#5d6675;--line:#dfe3ea;--paper:#fff;--mark:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e8eaee;--soft:#9aa4b4;--line:#30363f;--paper:#14171c;--mark:#ff8a80}}\
*{box-sizing:border-box}\
body{margin:0;padding:12vh 1.5rem 3rem;background:var(--paper);color:var(--ink);\
font:1rem/1.55 system-ui,-apple-system,\"Segoe UI\",sans-serif}\
main{max-width:46rem;margin:0 auto}\
.status{margin:0;color:var(--mark);font-weight:600;letter-spacing:.04em}\
h1{margin:.15em 0 .6em;font-size:clamp(1.6rem,5vw,2.3rem);line-height:1.2;font-weight:650;text-wrap:balance}\
p{margin:0 0 1em}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.5rem;margin:2rem 0 0;padding-top:1.2rem;\
border-top:1px solid var(--line);font-size:.92rem}\
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\
code{font:.93em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}\
.wide{overflow-x:auto;margin-top:2rem}\
table{width:100%;border-collapse:collapse;font-size:.9rem}\
th,td{padding:.45rem .9rem .45rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}\
th{color:var(--soft);font-weight:500}";

/// The whole page.
pub(super) fn html(view: &View<'_>) -> String {
    let mut page = String::with_capacity(4 * 1024);
    let title = Escaped(view.title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\">\
         <style>{STYLE}</style></head><body><main><p class=\"status\">{status}</p><h1>{title}</h1>",
        status = view.status,
    );
    if let Some(message) = view.message {
        let _ = write!(page, "<p>{}.</p>", Escaped(message.trim_end_matches('.')));
    }
    facts(&mut page, view);
    if !view.detail.is_empty() {
        table(&mut page, view.detail);
    }
    page.push_str("</main></body></html>\n");
    page
}

fn facts(page: &mut String, view: &View<'_>) {
    let _ = write!(
        page,
        "<dl><dt>Reason</dt><dd><code>{}</code></dd>",
        view.reason
    );
    if let Some(upstream) = view.upstream {
        let upstream = upstream.to_string();
        let _ = write!(
            page,
            "<dt>Upstream</dt><dd><code>{}</code></dd>",
            Escaped(&upstream)
        );
    }
    if let Some(peers) = view.peers {
        let counts = super::words::counts(&peers.by_reason);
        let _ = write!(page, "<dt>Peers</dt><dd>{}", peers.total);
        if !counts.is_empty() {
            let _ = write!(page, ": {counts}");
        }
        page.push_str("</dd>");
    }
    if let Some(id) = view.request_id {
        let _ = write!(
            page,
            "<dt>Request</dt><dd><code>{}</code></dd>",
            Escaped(id)
        );
    }
    page.push_str("</dl>");
}

fn table(page: &mut String, detail: &[PeerDetail]) {
    page.push_str(
        "<div class=\"wide\"><table><thead><tr><th>Peer</th><th>Pod</th><th>Reason</th><th>Since</th></tr></thead><tbody>",
    );
    for peer in detail {
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td><code>{}</code></td><td><code>{}</code>",
            peer.peer,
            Escaped(peer.pod.as_deref().unwrap_or_default()),
            peer.reason,
        );
        if !peer.message.is_empty() {
            let _ = write!(page, "<br>{}", Escaped(&peer.message));
        }
        let _ = write!(page, "</td><td>{:.0}</td></tr>", peer.since);
    }
    page.push_str("</tbody></table></div>");
}

/// Text that is shown as it is.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
