//! Where things that take long to make are kept, and the folder of one run.
//!
//! Everything in the cache is named by a hash of what it was made from, so
//! nothing in it is ever stale. A run holds a lock on its folder; a folder
//! whose lock is free was left by a run that was killed.

use anyhow::Context as _;
use aws_lc_rs::digest;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The cache of these tests: `$XDG_CACHE_HOME/hale-e2e`, else `~/.cache/hale-e2e`.
///
/// # Errors
/// When neither variable is set, or the folder cannot be made.
pub fn folder() -> anyhow::Result<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: there is no place for a cache")?;
    let folder = base.join("hale-e2e");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// The root of the repository these tests were built from.
#[must_use]
pub fn repository() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// A short name for some content.
#[must_use]
pub fn hash(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&part.len().to_le_bytes());
        context.update(part);
    }
    context
        .finish()
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Holds others off until the returned file is dropped, also in other processes.
///
/// # Errors
/// When the lock's file cannot be made.
pub fn lock(cache: &Path, name: &str) -> anyhow::Result<File> {
    let file = File::create(cache.join(name)).with_context(|| format!("making the lock {name}"))?;
    file.lock().with_context(|| format!("locking {name}"))?;
    Ok(file)
}

/// The folder of one run: sockets' configuration, etcd's data, containers, logs.
pub struct Run {
    /// Where it is.
    pub folder: PathBuf,
    /// A name that no other run has at the same time.
    pub id: String,
    _lock: File,
}

impl Run {
    /// Clears away what killed runs have left and makes a new folder.
    ///
    /// # Errors
    /// When the folder cannot be made or locked.
    pub fn begin(cache: &Path) -> anyhow::Result<Self> {
        let _one_at_a_time = lock(cache, "runs.lock")?;
        let runs = cache.join("runs");
        fs::create_dir_all(&runs)?;
        for entry in fs::read_dir(&runs)? {
            let folder = entry?.path();
            if File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_err()) {
                continue;
            }
            let id = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            remove_cgroups(&id);
            fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        let id = format!("hale-e2e-{}", std::process::id());
        let folder = runs.join(&id);
        for part in ["bin", "images", "logs"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock()
            .with_context(|| format!("locking {}", folder.display()))?;
        Ok(Self {
            folder,
            id,
            _lock: lock,
        })
    }

    /// Removes the folder; of a run that failed the logs stay until the next run.
    pub fn end(self, keep_logs: bool) {
        remove_cgroups(&self.id);
        let logs = self.folder.join("logs");
        let nothing_logged =
            fs::read_dir(&logs).map_or(true, |mut entries| entries.next().is_none());
        if !keep_logs || nothing_logged {
            let _ = fs::remove_dir_all(&self.folder);
            return;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !["logs", "lock"]
                .iter()
                .any(|kept| entry.file_name() == *kept)
            {
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
        eprintln!("e2e: logs are in {}", logs.display());
    }
}

/// The cgroup of a run in every hierarchy that has controllers (cgroup v1).
#[must_use]
pub fn cgroups(id: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_version_1 = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup").then(|| Path::new(folder).join(id))
    });
    of_version_1.collect()
}

/// Cgroups are removed from the leaves up, as soon as the kernel is done with
/// the processes in them; those that still hold one after a while stay.
fn remove_cgroups(id: &str) {
    fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let mut left = cgroups(id);
        left.iter().for_each(|folder| remove(folder));
        left.retain(|folder| folder.exists());
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
