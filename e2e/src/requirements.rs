//! What the machine must have, and installing it where that is possible.

use anyhow::{Context as _, bail, ensure};
use std::path::Path;
use std::process::Command;

/// A program, and the Debian package that brings it.
const PROGRAMS: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("buildah", "buildah"),
    ("mount", "mount"),
    ("unshare", "util-linux"),
    ("curl", "curl"),
    ("setpriv", "util-linux"),
];

/// Makes sure that the cluster can be started here; installs missing Debian packages.
///
/// # Errors
/// One line that says what is missing.
pub fn ensure() -> anyhow::Result<()> {
    ensure!(
        is_root()?,
        "the e2e tests start a cluster and must run as root (or set HALE_E2E_KUBECONFIG to use one that runs)"
    );
    ensure!(
        found("go"),
        "the e2e tests build Kubernetes and need Go 1.26 or newer: https://go.dev/dl/ (no `go` in PATH)"
    );
    if missing().is_empty() {
        return Ok(());
    }
    if found("apt-get") {
        install(&missing())?;
    }
    let still = missing();
    ensure!(
        still.is_empty(),
        "the e2e tests need these Debian packages: {}",
        still.join(" ")
    );
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !found(program))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

fn is_root() -> anyhow::Result<bool> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap_or_default();
    Ok(uid.split_whitespace().nth(1) == Some("0"))
}

/// Whether a program is in PATH or where root's programs are.
fn found(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| Path::new(folder).join(program).exists())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    eprintln!("e2e: installing {}", packages.join(" "));
    let apt = |args: &[&str]| {
        Command::new("apt-get")
            .args(["-o", "DPkg::Lock::Timeout=300", "-qq", "-y"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .context("running apt-get")
    };
    // Without package lists `install` knows nothing; whether it does is seen by trying.
    let wanted = [&["install", "--no-install-recommends"], packages].concat();
    if apt(&wanted)?.status.success() {
        return Ok(());
    }
    apt(&["update"])?;
    let second = apt(&wanted)?;
    if !second.status.success() {
        let text = String::from_utf8_lossy(&second.stderr)
            .trim()
            .replace('\n', "; ");
        bail!(
            "the e2e tests need these Debian packages: {} (apt-get: {text})",
            packages.join(" ")
        );
    }
    Ok(())
}
