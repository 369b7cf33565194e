//! One program of the cluster: its log, whether it still runs, its end.

use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A program that should run as long as the cluster.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; both its outputs are appended to `logs/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, logs: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let log = logs.join(name).with_extension("log");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Fails with the last lines of its log if it has ended.
    ///
    /// # Errors
    /// When the program is not running any more.
    pub fn running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!(
                "{} ended ({status}):\n{}",
                self.name,
                last_lines(&self.log, 15)
            ),
        }
    }

    /// Kills it, as a machine does that loses power, and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("ending {}", self.name))
    }
}

fn last_lines(file: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
