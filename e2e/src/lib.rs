//! Hale as a whole, on a real Kubernetes.
