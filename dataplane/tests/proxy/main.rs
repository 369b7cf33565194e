//! The dataplane in this process: real sockets on loopback, origins that are scripted to answer, hang,
//! reset and close early.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
mod wire;

mod access;
mod access_key;
mod api_key;
mod attempts;
mod balancing;
mod basic_auth;
mod basics;
mod both_ways;
mod connections;
mod cors;
mod deadlines;
mod external_auth;
mod framing;
mod grpc;
mod guesses;
mod headers;
mod health;
mod jwt;
mod limits;
mod login;
mod loops;
mod malformed;
mod observed;
mod outlier;
mod own_checks;
mod paths;
mod peers;
mod protection;
mod proxy_protocol;
mod rate_limit;
mod reasons;
mod retries;
mod rollout;
mod shutdown;
mod signed_bodies;
mod signing;
mod small_frames;
mod tls;
mod told;
mod upgrade;
mod why;
