//! Kubernetes' programs, etcd and helm, built from `e2e/cluster`.
//!
//! Building takes minutes and needs the network, so the result is cached under
//! a hash of the module's files. The cold build prints what it is doing.

use crate::cache;
use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Changes when the way of building does, though the module's files are the same.
const RECIPE: &[u8] = b"1";

/// The folder with the programs; they are built first if it is not there.
///
/// # Errors
/// When the module cannot be read or a build fails.
pub fn ensure_built(cache: &Path) -> anyhow::Result<PathBuf> {
    let module = cache::repository().join("e2e/cluster");
    let read = |name: &str| {
        std::fs::read(module.join(name)).with_context(|| format!("reading e2e/cluster/{name}"))
    };
    let go_mod = read("go.mod")?;
    let name = cache::hash(&[RECIPE, &go_mod, &read("go.sum")?]);
    let done = cache.join(format!("bin-{name}"));
    if done.exists() {
        return Ok(done);
    }
    let _one_at_a_time = cache::lock(cache, "bin.lock")?;
    if done.exists() {
        return Ok(done);
    }
    let began = Instant::now();
    eprintln!(
        "e2e: building Kubernetes, etcd and helm into {} (once; minutes)",
        done.display()
    );
    let unfinished = cache.join(format!("bin-{name}.unfinished"));
    std::fs::create_dir_all(&unfinished)?;

    let go_mod = String::from_utf8(go_mod).context("e2e/cluster/go.mod is not text")?;
    let (kubernetes, helm) = (
        version(&go_mod, "k8s.io/kubernetes")?,
        version(&go_mod, "helm.sh/helm/v4")?,
    );
    let minor = kubernetes
        .split('.')
        .nth(1)
        .context("Kubernetes' version has no minor part")?;
    let base = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {base}.gitVersion={kubernetes} -X {base}.gitMajor=1 -X {base}.gitMinor={minor} \
         -X helm.sh/helm/v4/internal/version.version={helm}"
    );
    // One by one: so the progress is seen, and etcd's last path element is no name for a program.
    for package in tools(&go_mod) {
        let program = match package {
            "go.etcd.io/etcd/server/v3" => "etcd",
            other => other.rsplit('/').next().unwrap_or(other),
        };
        eprintln!(
            "e2e: building {program} ({:.0} s so far)",
            began.elapsed().as_secs_f64()
        );
        let output = Command::new("go")
            .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
            .args([unfinished.join(program).as_os_str(), package.as_ref()])
            .current_dir(&module)
            .env("CGO_ENABLED", "0")
            .output()
            .context("running go")?;
        ensure!(
            output.status.success(),
            "go build {package}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    std::fs::rename(&unfinished, &done)?;
    eprintln!("e2e: built in {:.0} s", began.elapsed().as_secs_f64());
    Ok(done)
}

/// The packages in the module's `tool (…)` block.
fn tools(go_mod: &str) -> impl Iterator<Item = &str> {
    go_mod
        .lines()
        .skip_while(|line| *line != "tool (")
        .skip(1)
        .take_while(|line| *line != ")")
        .map(str::trim)
}

/// The version that the module requires of another.
fn version<'a>(go_mod: &'a str, module: &str) -> anyhow::Result<&'a str> {
    go_mod
        .lines()
        .find_map(|line| {
            let mut words = line.trim().trim_start_matches("require ").split(' ');
            (words.next() == Some(module))
                .then(|| words.next())
                .flatten()
                .filter(|word| word.starts_with('v'))
        })
        .with_context(|| format!("e2e/cluster/go.mod does not require {module}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_module_names_what_the_cluster_needs() {
        let go_mod = include_str!("../cluster/go.mod");
        let tools: Vec<_> = tools(go_mod).collect();
        assert_eq!(tools.len(), 8, "{tools:?}");
        assert!(tools.contains(&"k8s.io/kubernetes/cmd/kubelet"));
        assert!(
            version(go_mod, "k8s.io/kubernetes")
                .unwrap()
                .starts_with("v1.")
        );
        assert!(
            version(go_mod, "helm.sh/helm/v4")
                .unwrap()
                .starts_with("v4.")
        );
    }
}
