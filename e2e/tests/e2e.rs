//! The whole product on a real cluster.

use hale_e2e::cluster::Cluster;
use hale_e2e::sandbox::{self, Place};
use std::path::Path;
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
    let folder = match sandbox::place() {
        Place::Outside => return sandbox::supervise(Path::new(env!("CARGO_BIN_EXE_origin"))),
        Place::Inside(folder) => folder,
        Place::Existing(_) => anyhow::bail!("soon"),
    };
    sandbox::settle(&folder)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let cluster = runtime.block_on(Cluster::start(&folder))?;
    println!(
        "{}",
        runtime.block_on(cluster.kubectl(&["get", "node,pod", "-A"]))?
    );
    Ok(ExitCode::SUCCESS)
}
