//! Where the methods of a policy look for credentials, and what does not go upstream therefore.
//!
//! All of them are emptied, not just that of the method which let a request in: a client that sends two credentials
//! shows neither to the pods.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::api_key::remove_cookie;

/// Places of credentials.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Whole headers.
    headers: Vec<HeaderName>,
    /// Of `Authorization` the schemes: another may well be the upstream's own.
    schemes: Vec<&'static str>,
    parameters: Vec<String>,
    cookies: Vec<String>,
}

impl Places {
    /// In `Authorization`, by this scheme.
    pub(super) fn scheme(scheme: &'static str) -> Self {
        Self {
            schemes: vec![scheme],
            ..Self::default()
        }
    }

    /// In these headers.
    pub(super) fn headers(names: &[HeaderName]) -> Self {
        Self {
            headers: names.to_vec(),
            ..Self::default()
        }
    }

    /// In this parameter of the query.
    pub(super) fn parameter(name: &str) -> Self {
        Self {
            parameters: vec![name.to_owned()],
            ..Self::default()
        }
    }

    /// In this cookie.
    pub(super) fn cookie(name: &str) -> Self {
        Self {
            cookies: vec![name.to_owned()],
            ..Self::default()
        }
    }

    /// Here and there.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.headers.extend(other.headers);
        self.schemes.extend(other.schemes);
        self.parameters.extend(other.parameters);
        self.cookies.extend(other.cookies);
        self
    }

    /// The schemes of `Authorization` among them.
    pub(super) fn schemes(&self) -> Vec<&'static str> {
        let api_key = self.headers.contains(&header::AUTHORIZATION);
        let api_key = api_key.then_some("ApiKey");
        self.schemes.iter().copied().chain(api_key).collect()
    }

    /// The parameters among them.
    pub(super) fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// Empties those that are in headers.
    pub(super) fn empty(&self, headers: &mut HeaderMap) {
        for name in &self.headers {
            headers.remove(name);
        }
        for name in &self.cookies {
            remove_cookie(headers, name);
        }
        let given = headers.get_all(header::AUTHORIZATION);
        if given.iter().any(|value| self.is_ours(value)) {
            headers.remove(header::AUTHORIZATION);
        }
    }

    fn is_ours(&self, value: &HeaderValue) -> bool {
        let value = value.as_bytes().trim_ascii_start();
        self.schemes.iter().any(|scheme| {
            let given = value.split_at_checked(scheme.len());
            given.is_some_and(|(name, rest)| {
                name.eq_ignore_ascii_case(scheme.as_bytes())
                    && !rest.first().is_some_and(u8::is_ascii_alphanumeric)
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_schemes_of_the_policy_are_taken_out() {
        let places = Places::scheme("Basic").and(Places::scheme("AWS4-HMAC-SHA256"));
        for (value, taken) in [
            ("Basic YWxp", true),
            ("bAsIc\tYWxp", true),
            ("Basic", true),
            ("AWS4-HMAC-SHA256 Credential=a", true),
            ("Bearer abc", false),
            ("Basically no", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            places.empty(&mut headers);
            assert_eq!(headers.is_empty(), taken, "{value}");
        }
    }

    #[test]
    fn all_places_are_emptied_and_no_other() {
        let places = Places::headers(&[HeaderName::from_static("x-key")])
            .and(Places::cookie("key"))
            .and(Places::parameter("key"));
        let mut headers = HeaderMap::new();
        headers.append("x-key", HeaderValue::from_static("1"));
        headers.append("x-key", HeaderValue::from_static("2"));
        headers.append("x-other", HeaderValue::from_static("3"));
        headers.append("cookie", HeaderValue::from_static("a=1; key=2"));
        headers.append("authorization", HeaderValue::from_static("Basic YWxp"));
        places.empty(&mut headers);
        let mut left: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("authorization", "Basic YWxp"),
                ("cookie", "a=1"),
                ("x-other", "3"),
            ]
        );
        assert_eq!(places.parameters(), ["key"]);
    }
}
