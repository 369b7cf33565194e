//! The controller: Kubernetes in, a dataplane's config out, and health back.

pub mod args;
