//! The Kubernetes side of Hale: reads objects, decides what is served, tells what it found. It never
//! proxies.
//!
//! A library, so that the command, the golden tests and the end-to-end tests use the same code.

// What is decided, without a clock or I/O.
pub mod cluster;
pub mod expiry;
pub mod finding;
pub mod manifests;
pub mod settings;
pub mod translate;

// What runs.
pub mod args;
pub mod demo;
pub mod lifecycle;
pub mod metrics;
pub mod process;
pub mod publish;
pub mod run;
pub mod serve;
pub mod watch;

// What is told.
pub mod admin;
pub mod api_error;
pub mod client;
pub mod crds;
pub mod events;
pub mod http_client;
pub mod lease;
pub mod status;
pub mod stdout;
