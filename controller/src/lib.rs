//! The controller: Kubernetes in, a dataplane's config out, and health back.

pub mod admin;
pub mod args;
pub mod client;
pub mod http_client;
pub mod lease;
pub mod lifecycle;
