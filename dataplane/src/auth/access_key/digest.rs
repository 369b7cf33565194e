//! Digests of bodies: what a signature says that a body is.

use aws_lc_rs::{constant_time, digest};
use http::HeaderValue;

use super::{Malformed, structured};

/// The digests that a body must have: at least one.
#[derive(Clone, Default)]
pub(crate) struct Digests {
    sha256: Option<[u8; 32]>,
    sha512: Option<Box<[u8; 64]>>,
}

impl Digests {
    pub(super) fn sha256(digest: [u8; 32]) -> Self {
        Self {
            sha256: Some(digest),
            sha512: None,
        }
    }

    /// Those of this body.
    #[cfg(test)]
    pub(crate) fn of(body: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, body);
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest.as_ref());
        Self::sha256(sha256)
    }

    /// Begins to look at a body.
    pub(crate) fn begin(self) -> Digester {
        let context = |wanted, algorithm| Option::map(wanted, |()| digest::Context::new(algorithm));
        Digester {
            sha256: context(self.sha256.map(drop), &digest::SHA256),
            sha512: context(self.sha512.as_ref().map(drop), &digest::SHA512),
            wanted: self,
        }
    }

    /// Whether no body at all has them.
    pub(super) fn are_of_nothing(self) -> bool {
        self.begin().finish()
    }

    fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }

    /// `Content-Digest` (RFC 9530 §2). `None` if it has no algorithm that is known.
    pub(super) fn content_digest(value: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut digests = Self::default();
        for (algorithm, value) in structured::byte_sequences(value)? {
            digests.add(&algorithm, &value)?;
        }
        Ok((!digests.is_empty()).then_some(digests))
    }

    /// `Digest` (RFC 3230 §4.3.2). `None` if it has no algorithm that is known.
    pub(super) fn digest<'a>(
        values: impl Iterator<Item = &'a HeaderValue>,
    ) -> Result<Option<Self>, Malformed> {
        let mut digests = Self::default();
        for value in values {
            for instance in value.to_str().map_err(|_| Malformed)?.split(',') {
                let (algorithm, value) = instance.trim().split_once('=').ok_or(Malformed)?;
                let algorithm = algorithm.to_ascii_lowercase();
                if matches!(algorithm.as_str(), "sha-256" | "sha-512") {
                    digests.add(&algorithm, &structured::base64(value)?)?;
                }
            }
        }
        Ok((!digests.is_empty()).then_some(digests))
    }

    fn add(&mut self, algorithm: &str, value: &[u8]) -> Result<(), Malformed> {
        match algorithm {
            "sha-256" if self.sha256.is_none() => {
                self.sha256 = Some(value.try_into().map_err(|_| Malformed)?);
            }
            "sha-512" if self.sha512.is_none() => {
                let value = <[u8; 64]>::try_from(value).map_err(|_| Malformed)?;
                self.sha512 = Some(Box::new(value));
            }
            "sha-256" | "sha-512" => return Err(Malformed),
            _ => {}
        }
        Ok(())
    }
}

/// A body is looked at.
pub(crate) struct Digester {
    wanted: Digests,
    sha256: Option<digest::Context>,
    sha512: Option<digest::Context>,
}

impl Digester {
    /// So much more of it.
    pub(crate) fn update(&mut self, data: &[u8]) {
        for context in [&mut self.sha256, &mut self.sha512].into_iter().flatten() {
            context.update(data);
        }
    }

    /// Whether it is the one that was signed.
    pub(crate) fn finish(self) -> bool {
        let same = |context: Option<digest::Context>, wanted: Option<&[u8]>| match (context, wanted)
        {
            (None, None) => true,
            (Some(context), Some(wanted)) => {
                constant_time::verify_slices_are_equal(context.finish().as_ref(), wanted).is_ok()
            }
            _ => false,
        };
        let sha512 = self.wanted.sha512.as_ref().map(|digest| &digest[..]);
        !self.wanted.is_empty()
            && same(
                self.sha256,
                self.wanted.sha256.as_ref().map(|digest| &digest[..]),
            )
            && same(self.sha512, sha512)
    }
}
