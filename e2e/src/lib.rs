//! Hale as a whole, on a real Kubernetes.
//!
//! The tests bring their own cluster: Kubernetes' programs are built from the
//! Go module in `e2e/cluster` and cached by content, images are built without a
//! registry, and everything runs inside Linux namespaces of its own, so that
//! nothing of it is left when the last process is gone, whatever ended it.
//!
//! Outside those namespaces [`sandbox`] prepares ([`requirements`],
//! [`binaries`], [`images`]) and supervises; inside them the same program
//! starts again, brings the [`cluster`] up and runs the scenarios, which use
//! [`kubectl`] for what people do, [`client`] and [`load`] for traffic, and
//! [`wait`] instead of sleeping.

pub mod binaries;
pub mod cache;
pub mod client;
pub mod cluster;
pub mod images;
pub mod kubectl;
pub mod load;
pub mod process;
pub mod requirements;
pub mod sandbox;
pub mod wait;
