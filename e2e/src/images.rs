//! The images of the cluster, built without a registry.
//!
//! Hale's is the runtime stage of the repository's own Dockerfile: only the base
//! it starts from and the place of the binary are given. The base is this
//! machine's C library. Archives are cached under a hash of what went in.

use crate::cache;
use anyhow::{Context as _, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image of the sandbox container of each pod.
pub const PAUSE: &str = "localhost/hale-e2e/pause:now";
/// The image of the backend.
pub const ORIGIN: &str = "localhost/hale-e2e/origin:now";
/// The repository of Hale's image; its tags are [`HALE_TAG`] and [`HALE_NEXT_TAG`].
pub const HALE: &str = "localhost/hale-e2e/hale";
/// What is installed.
pub const HALE_TAG: &str = "now";
/// The same image again, so that an upgrade has something to upgrade to.
pub const HALE_NEXT_TAG: &str = "next";

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Builds what is not cached and links the archives into the run's folder.
///
/// # Errors
/// When Hale cannot be compiled or buildah fails.
pub fn ensure_built(cache: &Path, run: &Path, origin: &Path) -> anyhow::Result<()> {
    let hale = hale()?;
    let dockerfile = cache::repository().join("Dockerfile");
    let mut key = vec![fs::read(&dockerfile).context("reading the Dockerfile")?];
    let mut libraries = BTreeSet::new();
    for binary in [origin, &hale] {
        key.push(fs::read(binary).with_context(|| format!("reading {}", binary.display()))?);
        libraries.extend(libraries_of(binary)?);
    }
    for library in &libraries {
        key.push(fs::read(library)?);
    }
    // How they are built may change, too.
    key.push(include_bytes!("images.rs").to_vec());
    let name = cache::hash(&key.iter().map(Vec::as_slice).collect::<Vec<_>>());

    let _one_at_a_time = cache::lock(cache, "images.lock")?;
    let archives = cache.join("images");
    let done = archives.join(name);
    if !done.exists() {
        eprintln!("e2e: building images");
        // Old archives are of no use, and runs that go on have links of their own.
        let _ = fs::remove_dir_all(&archives);
        fs::create_dir_all(&archives)?;
        let work = run.join("images-build");
        build(&work, origin, &hale, &libraries, &dockerfile)?;
        fs::rename(work.join("archives"), &done)?;
        fs::remove_dir_all(&work)?;
    }
    for archive in fs::read_dir(done)? {
        let archive = archive?;
        fs::hard_link(archive.path(), run.join("images").join(archive.file_name()))
            .context("linking the images")?;
    }
    Ok(())
}

/// The `hale` binary: as users get it, or the one that `HALE_E2E_HALE` names.
fn hale() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("HALE_E2E_HALE").filter(|path| !path.is_empty()) {
        return fs::canonicalize(&path)
            .with_context(|| format!("HALE_E2E_HALE={}", PathBuf::from(&path).display()));
    }
    eprintln!("e2e: cargo build --release -p hale (HALE_E2E_HALE=path names another binary)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--release",
            "-p",
            "hale",
            "--bin",
            "hale",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(cache::repository())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running cargo")?;
    ensure!(
        output.status.success(),
        "cargo build --release -p hale failed"
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.context("cargo named no executable")
}

/// The shared libraries that a program loads, the loader among them.
fn libraries_of(binary: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(binary)
        .output()
        .context("running ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with('/'))
                .map(PathBuf::from)
        })
        .collect())
}

fn build(
    work: &Path,
    origin: &Path,
    hale: &Path,
    libraries: &BTreeSet<PathBuf>,
    dockerfile: &Path,
) -> anyhow::Result<()> {
    let root = work.join("base/root");
    let certificates = Path::new(CERTIFICATES);
    for file in libraries
        .iter()
        .map(PathBuf::as_path)
        .chain(certificates.exists().then_some(certificates))
    {
        let copy = root.join(file.strip_prefix("/").unwrap_or(file));
        fs::create_dir_all(copy.parent().unwrap_or(&root))?;
        fs::copy(file, copy)?;
    }
    fs::create_dir_all(work.join("own"))?;
    fs::copy(origin, work.join("own/origin"))?;
    fs::copy(hale, work.join("own/hale"))?;
    let write = |name: &str, text: &str| fs::write(work.join(name), text);
    write("base/Dockerfile", "FROM scratch\nCOPY root/ /\n")?;
    write(
        "own/Dockerfile.origin",
        "FROM localhost/base\nCOPY origin /origin\nUSER 65532\nENTRYPOINT [\"/origin\"]\n",
    )?;
    write(
        "own/Dockerfile.pause",
        "FROM localhost/hale-e2e/origin:now\nENTRYPOINT [\"/origin\", \"pause\"]\n",
    )?;

    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let (base, own) = (text(work.join("base")), text(work.join("own")));
    bud(
        work,
        "localhost/base",
        &["-f", &text(work.join("base/Dockerfile")), &base],
    )?;
    bud(
        work,
        ORIGIN,
        &["-f", &text(work.join("own/Dockerfile.origin")), &own],
    )?;
    bud(
        work,
        PAUSE,
        &["-f", &text(work.join("own/Dockerfile.pause")), &own],
    )?;
    let arguments = [
        "--build-arg",
        "RUNTIME_IMAGE=localhost/base",
        "--build-arg",
        "BINARY_STAGE=prebuilt",
    ];
    let file = text(dockerfile.to_path_buf());
    bud(
        work,
        &format!("{HALE}:{HALE_TAG}"),
        &[&arguments[..], &["-f", &file, &own]].concat(),
    )?;
    archive(work)
}

fn buildah(work: &Path) -> Command {
    let mut command = Command::new("buildah");
    // A storage of our own: nothing of the machine's is seen or changed.
    command
        .arg("--root")
        .arg(work.join("storage"))
        .arg("--runroot")
        .arg(work.join("runroot"));
    command
        .args(["--storage-driver", "vfs"])
        .env("TMPDIR", work);
    command
}

fn bud(work: &Path, name: &str, args: &[&str]) -> anyhow::Result<()> {
    let mut command = buildah(work);
    command
        .args([
            "bud",
            "--quiet",
            "--isolation",
            "chroot",
            "--pull-never",
            "-t",
            name,
        ])
        .args(args);
    let output = command.output().context("running buildah")?;
    ensure!(
        output.status.success(),
        "building {name}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// One archive for each image that pods use.
fn archive(work: &Path) -> anyhow::Result<()> {
    let archives = work.join("archives");
    fs::create_dir_all(&archives)?;
    for (file, name) in [
        ("pause", PAUSE),
        ("origin", ORIGIN),
        ("hale", &format!("{HALE}:{HALE_TAG}")),
    ] {
        let target = format!(
            "docker-archive:{}:{name}",
            archives.join(file).with_extension("tar").display()
        );
        let output = buildah(work)
            .args(["push", "--quiet", name, &target])
            .output()
            .context("running buildah")?;
        ensure!(
            output.status.success(),
            "writing {name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
