//! `spec.cors`.

use std::{sync::Arc, time::Duration};

use hale_crds::CorsMethod;
use hale_dataplane::config::{Cors, ObjectRef};
use http::Uri;

use super::{super::names, Judged, duration};

pub(super) fn read(section: &hale_crds::Cors, source: &ObjectRef) -> Judged<Arc<Cors>> {
    if section.allow_origins.is_empty() {
        return Err("cors.allowOrigins: at least one origin is wanted".to_owned());
    }
    let has_all = |list: &[String]| list.iter().any(|it| it == "*");
    if section.allow_credentials && has_all(&section.allow_origins) {
        return Err(
            "cors.allowOrigins: with allowCredentials the origin * would give every web page the user's session: name the origins"
                .to_owned(),
        );
    }
    if section.allow_credentials && has_all(&section.expose_headers) {
        return Err(
            "cors.exposeHeaders: browsers do not take * for all headers where allowCredentials is true: name the headers"
                .to_owned(),
        );
    }
    if section.allow_methods.len() != 1 && section.allow_methods.contains(&CorsMethod::All) {
        return Err("cors.allowMethods: * is all methods: remove the others".to_owned());
    }
    let origins = section.allow_origins.iter().enumerate();
    let headers = |name: &str, headers: &[String]| -> Judged<Vec<String>> {
        let named = headers.iter().enumerate();
        named
            .map(|(index, header)| names::token(&format!("cors.{name}[{index}]"), header))
            .collect()
    };
    let day = Duration::from_secs(24 * 3600);
    Ok(Arc::new(Cors {
        source: source.clone(),
        allow_origins: origins
            .map(|(index, text)| {
                origin(text).ok_or_else(|| {
                    format!(
                        "cors.allowOrigins[{index}]: {text:?} is no origin: write scheme, host and port, as in https://app.example.com"
                    )
                })
            })
            .collect::<Judged<_>>()?,
        allow_methods: section
            .allow_methods
            .iter()
            .map(|method| method.as_str().to_owned())
            .collect(),
        allow_headers: headers("allowHeaders", &section.allow_headers)?,
        expose_headers: headers("exposeHeaders", &section.expose_headers)?,
        allow_credentials: section.allow_credentials,
        max_age: duration("cors.maxAge", &section.max_age, Duration::ZERO..=day)?,
    }))
}

/// The origin as browsers write it: lower case, and without the port that is the scheme's own.
fn origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let host = authority.strip_prefix("*.").unwrap_or(authority);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    // A host of its own must be one; the rest of a wildcard, too.
    let uri: Uri = format!("{scheme}://{host}/").parse().ok()?;
    if host.is_empty() || !host.bytes().all(fits) || uri.host().is_none_or(str::is_empty) {
        return None;
    }
    let own = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let authority = authority.strip_suffix(own).unwrap_or(authority);
    Some(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        for (text, wanted) in [
            ("*", "*"),
            ("https://App.Example.com", "https://app.example.com"),
            ("https://a.test:443", "https://a.test"),
            ("http://a.test:80", "http://a.test"),
            ("http://a.test:443", "http://a.test:443"),
            ("https://*.example.com", "https://*.example.com"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(origin(text).as_deref(), Some(wanted), "{text}");
        }
        for text in [
            "",
            "a.test",
            "https://",
            "https://a.test/",
            "https://a.test/x",
            "https://u@a.test",
            "https://*",
            "https://a.*.test",
            "https://*a.test",
            "null",
            "https://a b",
        ] {
            assert_eq!(origin(text), None, "{text}");
        }
    }
}
