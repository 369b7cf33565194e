//! Clients that sign, written from the schemes' own texts. What independent libraries sign is in `tests/data`; those
//! signatures are as old as the data, and these are of now.

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use hale_dataplane::config::SignatureProfile;

/// A key id and its secret.
#[derive(Clone, Copy)]
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(crate) fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// Now, as AWS and Huawei write it.
pub(crate) fn stamp() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

impl Signer {
    /// The lines that sign a request to `shop.test` now, its body included. `path` is plain, and has no query.
    pub(crate) fn sign(
        self,
        profile: SignatureProfile,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> String {
        match profile {
            SignatureProfile::Aws4 => self.aws4(method, path, &sha256(body), true),
            SignatureProfile::Sdk => self.sdk(method, path, body),
            SignatureProfile::HttpSignature => self.message_signature(method, path, body),
            SignatureProfile::Cavage => self.cavage(method, path, body),
        }
    }

    /// `scope` is date, region, service and `aws4_request`.
    pub(crate) fn aws4_signature(self, scope: &str, text: &str) -> String {
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = mac(&key, part);
        }
        hex(&mac(&key, text))
    }

    /// `digest` is that of the body; it is told where `told`.
    pub(crate) fn aws4(self, method: &str, path: &str, digest: &str, told: bool) -> String {
        let time = stamp();
        let mut fields = vec![("host", "shop.test"), ("x-amz-date", &time)];
        if told {
            fields.insert(1, ("x-amz-content-sha256", digest));
        }
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = fields
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{digest}");
        let scope = format!("{}/local/execute-api/aws4_request", &time[..8]);
        let text = format!(
            "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
            sha256(canonical.as_bytes())
        );
        let signature = self.aws4_signature(&scope, &text);
        let told = match told {
            true => format!("x-amz-content-sha256: {digest}\r\n"),
            false => String::new(),
        };
        format!(
            "x-amz-date: {time}\r\n{told}authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, \
             SignedHeaders={names}, Signature={signature}\r\n",
            self.id
        )
    }

    fn sdk(self, method: &str, path: &str, body: &[u8]) -> String {
        let time = stamp();
        let slash = if path.ends_with('/') { "" } else { "/" };
        let canonical = format!(
            "{method}\n{path}{slash}\n\nhost:shop.test\nx-sdk-date:{time}\n\nhost;x-sdk-date\n{}",
            sha256(body)
        );
        let text = format!("SDK-HMAC-SHA256\n{time}\n{}", sha256(canonical.as_bytes()));
        format!(
            "x-sdk-date: {time}\r\nauthorization: SDK-HMAC-SHA256 Access={}, \
             SignedHeaders=host;x-sdk-date, Signature={}\r\n",
            self.id,
            hex(&mac(self.secret.as_bytes(), &text))
        )
    }

    fn message_signature(self, method: &str, path: &str, body: &[u8]) -> String {
        let digest = STANDARD.encode(digest::digest(&digest::SHA256, body));
        let digest = format!("sha-256=:{digest}:");
        let created = jiff::Timestamp::now().as_second();
        let parameters = format!(
            "(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\");created={created};\
             keyid=\"{}\";alg=\"hmac-sha256\"",
            self.id
        );
        let base = format!(
            "\"@method\": {method}\n\"@authority\": shop.test\n\"@path\": {path}\n\"@query\": ?\n\
             \"content-digest\": {digest}\n\"@signature-params\": {parameters}"
        );
        let signature = STANDARD.encode(mac(self.secret.as_bytes(), &base));
        format!(
            "content-digest: {digest}\r\nsignature-input: sig1={parameters}\r\n\
             signature: sig1=:{signature}:\r\n"
        )
    }

    fn cavage(self, method: &str, path: &str, body: &[u8]) -> String {
        let digest = STANDARD.encode(digest::digest(&digest::SHA256, body));
        let digest = format!("SHA-256={digest}");
        let now = jiff::Timestamp::now();
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let base = format!(
            "(request-target): {} {path}\nhost: shop.test\ndate: {date}\ndigest: {digest}",
            method.to_lowercase()
        );
        let signature = STANDARD.encode(mac(self.secret.as_bytes(), &base));
        format!(
            "date: {date}\r\ndigest: {digest}\r\nauthorization: Signature keyId=\"{}\",\
             algorithm=\"hmac-sha256\",headers=\"(request-target) host date digest\",\
             signature=\"{signature}\"\r\n",
            self.id
        )
    }
}
