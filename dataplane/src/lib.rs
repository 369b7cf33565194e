//! Hale's proxy.
