//! kubectl and helm, used as people use them.

use crate::cluster::Cluster;
use anyhow::{Context as _, bail};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a command printed.
#[derive(Debug)]
pub struct Printed {
    /// Standard output.
    pub out: String,
    /// Standard error; kubectl's warnings are here.
    pub err: String,
    /// Whether it ended with 0.
    pub success: bool,
}

impl Printed {
    /// The standard output of a command that succeeded.
    ///
    /// # Errors
    /// When it did not.
    pub fn ok(self) -> anyhow::Result<String> {
        if !self.success {
            bail!("{}{}", self.err, self.out);
        }
        Ok(self.out)
    }
}

impl Cluster {
    /// Runs kubectl and gives what it printed.
    ///
    /// # Errors
    /// When it failed; the error is what it wrote.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let printed = self.run("kubectl", args, None).await?;
        printed
            .ok()
            .with_context(|| format!("kubectl {}", args.join(" ")))
    }

    /// Applies manifests to a namespace.
    ///
    /// # Errors
    /// When the API server refuses one of them, or warns.
    pub async fn apply(&self, namespace: &str, manifests: &str) -> anyhow::Result<()> {
        let printed = self.try_apply(namespace, manifests).await?;
        if !printed.err.is_empty() {
            bail!("kubectl apply: {}\n{manifests}", printed.err.trim());
        }
        printed.ok().map(drop).context("kubectl apply")
    }

    /// Applies manifests, whatever the API server says to them.
    ///
    /// # Errors
    /// When kubectl cannot be run.
    pub async fn try_apply(&self, namespace: &str, manifests: &str) -> anyhow::Result<Printed> {
        self.run(
            "kubectl",
            &["apply", "-n", namespace, "-f", "-"],
            Some(manifests),
        )
        .await
    }

    /// Runs kubectl with something on its standard input.
    ///
    /// # Errors
    /// When kubectl cannot be run.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> anyhow::Result<Printed> {
        self.run("kubectl", args, Some(input)).await
    }

    /// Runs helm and gives what it printed.
    ///
    /// # Errors
    /// When it failed; the error is what it wrote.
    pub async fn helm(&self, args: &[&str]) -> anyhow::Result<String> {
        let printed = self.run("helm", args, None).await?;
        printed
            .ok()
            .with_context(|| format!("helm {}", args.join(" ")))
    }

    async fn run(
        &self,
        program: &str,
        args: &[&str],
        input: Option<&str>,
    ) -> anyhow::Result<Printed> {
        let mut child = Command::new(self.program(program))
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("running {program}"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        Ok(Printed {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            success: output.status.success(),
        })
    }
}
