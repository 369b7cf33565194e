//! The `hale` command: parse, set the process up, run.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
};

use anyhow::{Context, anyhow};
use clap::Parser;
use hale::args::{Cli, Command, LogArgs, LogFormat};
use tracing_subscriber::{EnvFilter, fmt};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            // All levels of the error on one line: what was tried, and why it failed.
            eprintln!("hale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    start_log(&cli.log, matches!(cli.command, Command::Demo(_)))?;
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider was installed before ours"))?;
    // The control thread. The proxy's own threads are the dataplane's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread")?;
    runtime.block_on(async {
        match &cli.command {
            Command::Serve(args) => hale::serve::serve(args).await?,
            Command::Run(args) => hale::run::run(args).await?,
            Command::Demo(args) => hale::demo::demo(args).await?,
            Command::Crds => hale::stdout::print(&hale::crds::yaml()?)?,
            Command::Why(args) => return Ok(hale::client::why(args).await?),
            Command::Status(args) => return Ok(hale::client::status(args).await?),
            Command::Probe(args) => return Ok(hale::client::probe(args).await?),
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn start_log(args: &LogArgs, quiet: bool) -> anyhow::Result<()> {
    let usual = if quiet { "warn" } else { "info" };
    let level = args.log_level.as_deref().unwrap_or(usual);
    // What kube's client says of each failed request, we say once and with its cause.
    let filter = EnvFilter::try_new(format!("kube_client=off,kube_runtime=off,{level}"))
        .with_context(|| format!("--log-level {level:?} is not a filter"))?;
    let log = fmt().with_env_filter(filter).with_writer(stderr);
    match args.log_format {
        LogFormat::Text => log
            .with_ansi(stderr().is_terminal())
            .with_target(false)
            .init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
