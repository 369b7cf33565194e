//! `hale serve`: the same objects as in a cluster, from a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hale_dataplane::{AccessLog, config::ObjectRef};

use crate::{
    args::{Defaults, ServeArgs, every_address, every_network},
    finding::{Finding, FindingReason, Severity},
    manifests::{self, LoadError, Manifests},
    metrics::Metrics,
    process::{Process, ProcessError},
    publish::Publisher,
};

/// How often the folder is looked at. Watching by inotify would miss network file systems and mounts that are
/// swapped as a whole, as those of ConfigMaps are.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why `hale serve` could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no last good set to go on with.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The process could not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// What `hale serve` does where the command line says nothing.
pub fn defaults() -> Defaults {
    Defaults {
        listen: every_address(),
        redirect_to_443: false,
        allow_loopback_outbound: true,
        allow_outbound: every_network(),
        access_log: AccessLog::Stdout,
        shutdown_delay: Duration::ZERO,
    }
}

/// Serves the folder until a signal.
pub async fn serve(args: &ServeArgs) -> Result<(), ServeError> {
    let seen = listing(&args.manifests);
    let first = manifests::load(&args.manifests)?;
    let settings = args.objects.settings(true);
    let waiting_for = "the manifests";
    let process = Process::start(&args.proxy, &defaults(), settings, waiting_for, None).await?;
    let (publisher, metrics) = (Arc::clone(&process.publisher), process.metrics.clone());
    publisher.publish(first.objects.clone(), first.findings.clone());
    let work = follow(&args.manifests, seen, first, &publisher, &metrics);
    process.run(work).await;
    Ok(())
}

/// Reads the folder again whenever it changes. While it cannot be used, what it was when it last could is served,
/// and `hale status` says so: a credential that was taken out of it is still good.
async fn follow(
    folder: &Path,
    mut seen: Listing,
    mut good: Manifests,
    publisher: &Publisher,
    metrics: &Metrics,
) {
    let mut lost = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = listing(folder);
        if now == seen {
            continue;
        }
        seen = now;
        match manifests::load(folder) {
            Ok(manifests) => {
                if std::mem::take(&mut lost) {
                    tracing::info!("the manifests can be used again");
                }
                good = manifests;
                publisher.publish(good.objects.clone(), good.findings.clone());
            }
            Err(error) => {
                metrics.manifest_errors.inc();
                lost = true;
                let mut findings = vec![unreadable(folder, &error)];
                findings.extend_from_slice(&good.findings);
                publisher.publish(good.objects.clone(), findings);
            }
        }
    }
}

fn unreadable(folder: &Path, error: &LoadError) -> Finding {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Finding {
        object: ObjectRef {
            kind: "Manifests",
            namespace: String::new(),
            name: folder.display().to_string(),
        },
        reason: FindingReason::ManifestsUnreadable,
        severity: Severity::Warning,
        message: format!(
            "{error}{}; no change is served until this is mended, the last good manifests are",
            cause.unwrap_or_default()
        ),
    }
}

/// What tells that a folder has changed: each file's path, size and time. A folder that cannot be listed is a
/// change as well.
type Listing = Result<Vec<(PathBuf, u64, Option<SystemTime>)>, io::ErrorKind>;

fn listing(path: &Path) -> Listing {
    let mut files = Vec::new();
    list(path, &mut files, 0).map_err(|error| error.kind())?;
    files.sort();
    Ok(files)
}

fn list(
    path: &Path,
    files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>,
    depth: usize,
) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    // A link to a folder above would have no end.
    if metadata.is_dir() && depth < 16 {
        for entry in fs::read_dir(path)? {
            list(&entry?.path(), files, depth + 1)?;
        }
    } else {
        files.push((path.to_owned(), metadata.len(), metadata.modified().ok()));
    }
    Ok(())
}
