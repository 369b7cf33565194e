//! The cluster of the tests, to look around in: it stays until Ctrl-C.
//!
//! `cargo run -p hale-e2e --bin cluster` prints how to reach it. The images of
//! Hale and of the test backend are in it; nothing is installed.

use anyhow::Context as _;
use hale_e2e::cluster::Cluster;
use hale_e2e::sandbox::{self, Place};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<ExitCode> {
    match sandbox::place() {
        Place::Outside => sandbox::supervise(&origin()?),
        Place::Existing(_) => anyhow::bail!("HALE_E2E_KUBECONFIG names a cluster already"),
        Place::Inside(folder) => stay(&folder),
    }
}

/// The test backend that cargo built beside this program.
fn origin() -> anyhow::Result<PathBuf> {
    let origin = std::env::current_exe()?.with_file_name("origin");
    anyhow::ensure!(
        origin.exists(),
        "build the test backend first: cargo build -p hale-e2e --bin origin"
    );
    Ok(origin)
}

fn stay(folder: &Path) -> anyhow::Result<ExitCode> {
    sandbox::settle(folder)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let cluster = Cluster::start(folder).await?;
        let outside = std::fs::read_link("/proc/self/ns/pid").context("reading the namespace")?;
        println!(
            "A shell in it, from another terminal (Ctrl-C here ends the cluster):\n\n  \
             nsenter -t $(lsns -no PID {namespace} | head -1) -a env KUBECONFIG={kubeconfig} PATH={bin}:$PATH bash\n",
            namespace = outside.to_string_lossy().trim_start_matches("pid:[").trim_end_matches(']'),
            kubeconfig = cluster.kubeconfig().display(),
            bin = folder.join("bin").display(),
        );
        std::future::pending::<()>().await;
        Ok(ExitCode::SUCCESS)
    })
}
