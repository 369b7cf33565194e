//! A URL of a policy, taken apart once.

use std::{fmt, net::IpAddr};

use http::{HeaderValue, Uri, uri::PathAndQuery};
use rustls_pki_types::ServerName;

use super::authority;

/// Where a question goes.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For `Host`: without the port where that is the scheme's own.
    pub(super) authority: HeaderValue,
    pub(super) server_name: ServerName<'static>,
    /// What the URL says behind the host.
    pub(crate) path: PathAndQuery,
}

impl Origin {
    /// Takes `http://…` or `https://…`, without user, password and fragment.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        if url.contains('#') {
            return Err("it has a fragment");
        }
        let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it begins neither with https:// nor with http://"),
        };
        let Some(named) = uri.authority() else {
            return Err("it has no host");
        };
        if named.as_str().contains('@') {
            return Err("it has a user");
        }
        let usual = if https { 443 } else { 80 };
        let bracketed = named.host();
        // A port that is too large is no port to `http`, which would leave the usual one.
        let port = match named.as_str().strip_prefix(bracketed) {
            Some("") => usual,
            Some(port) => match port.strip_prefix(':').map(str::parse) {
                Some(Ok(port)) if port > 0 => port,
                _ => return Err("its port cannot be used"),
            },
            None => return Err("its host is no name"),
        };
        let host = bracketed.trim_start_matches('[').trim_end_matches(']');
        let server_name =
            ServerName::try_from(host.to_owned()).map_err(|_| "its host is no name")?;
        let authority = if port == usual {
            authority(bracketed)?
        } else {
            authority(&format!("{bracketed}:{port}"))?
        };
        let root = PathAndQuery::from_static("/");
        let path = match uri.path_and_query() {
            Some(path) if path.as_str().starts_with('/') => path.clone(),
            Some(path) if !path.as_str().is_empty() => {
                PathAndQuery::try_from(format!("/{}", path.as_str()))
                    .map_err(|_| "its path cannot be sent")?
            }
            _ => root,
        };
        Ok(Self {
            https,
            host: host.to_owned(),
            port,
            authority,
            server_name,
            path,
        })
    }

    /// The address, where the URL has one in place of a name.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// Scheme, host and port: what may be told. A path may hold what is secret.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        let authority = self.authority.to_str().unwrap_or_default();
        write!(f, "{scheme}://{authority}")
    }
}
