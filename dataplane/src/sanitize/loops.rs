//! How often a request passed Hale, so that one that comes back again and again ends.
//!
//! `CDN-Loop` (RFC 8586) is made for this: whoever passes a request on adds itself, and nothing else reads it. `Via`
//! would do as well, but servers change their answers for it: nginx does not compress them, for one.

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// Every Hale's name, whatever its cluster: a loop may lead through several.
const NAME: &str = "hale";
/// How often a request may pass Hale. Chains of proxies (an edge, a cluster, a service that calls another by way of the
/// ingress) are shorter.
pub(crate) const MOST_PASSES: usize = 8;

/// How often the request says that it passed Hale before; counts no further than to `MOST_PASSES`.
pub(crate) fn passes(headers: &HeaderMap) -> usize {
    headers
        .get_all(CDN_LOOP)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter(|entry| {
            let id = entry.split(|byte| *byte == b';').next().unwrap_or_default();
            id.trim_ascii().eq_ignore_ascii_case(NAME.as_bytes())
        })
        .take(MOST_PASSES)
        .count()
}

/// Adds this pass.
pub(crate) fn add_pass(headers: &mut HeaderMap) {
    headers.append(CDN_LOOP, HeaderValue::from_static(NAME));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&'static str]) -> usize {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CDN_LOOP, HeaderValue::from_static(line));
        }
        passes(&headers)
    }

    #[test]
    fn passes_are_entries_with_our_name() {
        for (lines, wanted) in [
            (&[][..], 0),
            (&["hale"], 1),
            (&["other, hale;v=1 ; x,HALE"], 2),
            (&["hale", "cloudflare; hale", "hale"], 2),
            (&["halesworth, x-hale, \"hale\", , ;"], 0),
            (
                &["hale,hale,hale,hale,hale,hale,hale,hale,hale,hale"],
                MOST_PASSES,
            ),
        ] {
            assert_eq!(of(lines), wanted, "{lines:?}");
        }
    }
}
