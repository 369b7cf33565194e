//! Namespaces for a whole run, and the end of it.
//!
//! The cluster lives in a network, process and mount namespace of its own. Its
//! addresses cannot leave the machine or meet those of another run, and its end
//! does not depend on anyone's care: when the first process of the namespace
//! dies the kernel kills all the others, unmounts what they mounted and removes
//! their interfaces. The first process dies with this one, even if this one is
//! killed; what stays then are files and empty cgroups, which the next run removes.

use crate::cache::{self, Run};
use crate::{binaries, images, requirements};
use anyhow::{Context as _, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

/// Set inside the namespaces: the run's folder.
const INSIDE: &str = "HALE_E2E_INSIDE";

/// Where this process stands.
pub enum Place {
    /// In the namespaces, with a run's folder.
    Inside(PathBuf),
    /// A cluster of somebody else's is to be used, by this kubeconfig.
    Existing(PathBuf),
    /// Nothing is set up yet.
    Outside,
}

/// Looks where this process stands.
#[must_use]
pub fn place() -> Place {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    match (variable(INSIDE), variable("HALE_E2E_KUBECONFIG")) {
        (Some(folder), _) => Place::Inside(folder),
        (None, Some(kubeconfig)) => Place::Existing(kubeconfig),
        (None, None) => Place::Outside,
    }
}

/// Prepares everything that can be prepared outside, starts this program again
/// inside, waits for its end and cleans up. Call it from the main thread.
///
/// # Errors
/// When something is missing or cannot be built.
pub fn supervise(origin: &Path) -> anyhow::Result<ExitCode> {
    requirements::ensure()?;
    let cache = cache::folder()?;
    let run = Run::begin(&cache)?;
    let outcome = prepare(&cache, &run, origin).and_then(|()| inside(&run));
    let failed = !matches!(outcome, Ok(0));
    run.end(failed);
    outcome.map(ExitCode::from)
}

fn prepare(cache: &Path, run: &Run, origin: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let programs = binaries::ensure_built(cache)?;
    for entry in std::fs::read_dir(programs)? {
        let entry = entry?;
        std::os::unix::fs::symlink(entry.path(), run.folder.join("bin").join(entry.file_name()))?;
    }
    images::ensure_built(cache, &run.folder, origin)?;
    eprintln!(
        "e2e: programs and images in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    for folder in cache::cgroups(&run.id) {
        make_cgroup(&folder)?;
    }
    Ok(())
}

/// A cpuset admits nobody before it has been given processors and memory.
fn make_cgroup(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("making the cgroup {}", folder.display()))?;
    let parent = folder.parent().unwrap_or(folder);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = std::fs::read(parent.join(file)) {
            std::fs::write(folder.join(file), value)?;
        }
    }
    Ok(())
}

/// Runs this very program in new namespaces; the result is its exit code.
fn inside(run: &Run) -> anyhow::Result<u8> {
    let mut command = Command::new("setpriv");
    // The shell is the first process: it does nothing but to collect orphans, as containerd's shims are.
    command
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--net",
            "--pid",
            "--mount",
            "--mount-proc",
        ])
        .args([
            "--fork",
            "--kill-child=KILL",
            "--",
            "sh",
            "-c",
            "\"$0\" \"$@\"; exit $?",
        ])
        .arg(std::env::current_exe().context("finding this program")?)
        .args(std::env::args_os().skip(1).collect::<Vec<OsString>>())
        .env(INSIDE, &run.folder);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut child = tokio::process::Command::from(command)
            .spawn()
            .context("starting unshare")?;
        let status = tokio::select! {
            status = child.wait() => status?,
            _ = interrupt.recv() => stop(child).await?,
            _ = terminate.recv() => stop(child).await?,
        };
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(130))
    })
}

async fn stop(mut child: tokio::process::Child) -> anyhow::Result<std::process::ExitStatus> {
    eprintln!("e2e: interrupted, ending the cluster");
    child.start_kill()?;
    Ok(child.wait().await?)
}

/// The first thing to do inside: take the run's cgroup, a private `/run`, and the addresses of the node.
///
/// # Errors
/// When the kernel refuses.
pub fn settle(folder: &Path) -> anyhow::Result<()> {
    let id = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for cgroup in cache::cgroups(&id) {
        std::fs::write(cgroup.join("cgroup.procs"), "0")
            .with_context(|| format!("joining {}", cgroup.display()))?;
    }
    // What kubelet, CNI and containerd write to fixed places must not reach the machine.
    for place in ["/run", "/var/log", "/var/lib/cni"] {
        std::fs::create_dir_all(place)?;
        run_command("mount", &["-t", "tmpfs", "tmpfs", place])?;
    }
    run_command("ip", &["link", "set", "lo", "up"])?;
    // Both ends are in this namespace: an address needs an interface, and this kernel may have no dummy one.
    run_command(
        "ip",
        &[
            "link",
            "add",
            "node",
            "type",
            "veth",
            "peer",
            "name",
            "node-peer",
        ],
    )?;
    run_command("ip", &["address", "add", "10.99.0.1/24", "dev", "node"])?;
    run_command("ip", &["link", "set", "node", "up"])?;
    run_command("ip", &["link", "set", "node-peer", "up"])?;
    run_command("ip", &["route", "add", "default", "dev", "node"])?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("switching forwarding on")
}

fn run_command(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("running {program}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        text.trim()
    );
    Ok(())
}
