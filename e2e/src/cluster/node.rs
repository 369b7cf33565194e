//! The programs of the one node, in the order in which they can start.

use super::config;
use crate::images;
use crate::process::Process;
use crate::wait::until;
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

const API_SERVER: &str = "kube-apiserver";
const CONTROLLERS: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
const ETCD: &str = "http://127.0.0.1:2379";

/// What runs.
pub(super) struct Node {
    folder: PathBuf,
    processes: BTreeMap<&'static str, Process>,
}

impl Node {
    /// Writes the configuration, and starts what depends on nothing, and the API server.
    pub(super) fn begin(folder: &Path) -> anyhow::Result<Self> {
        config::write(folder)?;
        let mut node = Self {
            folder: folder.to_owned(),
            processes: BTreeMap::new(),
        };
        let etcd = format!("--data-dir={}", folder.join("etcd").display());
        let listen = [
            format!("--listen-client-urls={ETCD}"),
            format!("--advertise-client-urls={ETCD}"),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        ];
        // Nobody needs the data after a crash.
        node.start(
            "etcd",
            Command::new(node.program("etcd"))
                .arg(etcd)
                .args(listen)
                .arg("--unsafe-no-fsync"),
        )?;
        node.start(
            "containerd",
            Command::new("containerd")
                .arg("--config")
                .arg(folder.join("containerd.toml")),
        )?;
        node.start_api_server()?;
        Ok(node)
    }

    pub(super) fn start_api_server(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(self.program(API_SERVER));
        command.args([
            format!("--etcd-servers={ETCD}"),
            format!("--advertise-address={}", config::NODE_ADDRESS),
            "--secure-port=6443".to_owned(),
            self.with_file("cert-dir", "certificates"),
            format!("--service-cluster-ip-range={}", config::SERVICE_RANGE),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            self.with_file("service-account-key-file", "service-account.pub"),
            self.with_file("service-account-signing-key-file", "service-account.key"),
            "--authorization-mode=Node,RBAC".to_owned(),
            self.with_file("token-auth-file", "tokens.csv"),
            // Otherwise logs and exec look for the node's name in DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]);
        self.start(API_SERVER, &mut command)
    }

    /// Starts what decides: the controllers and the scheduler.
    pub(super) fn start_controllers(&mut self) -> anyhow::Result<()> {
        let manager = [
            self.with_file("service-account-private-key-file", "service-account.key"),
            self.with_file("root-ca-file", "certificates/apiserver.crt"),
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            format!("--cluster-cidr={}", config::POD_RANGE),
        ];
        self.start_client(CONTROLLERS, &manager)?;
        self.start_client(SCHEDULER, &["--leader-elect=false".to_owned()])
    }

    /// Starts what runs pods and carries their traffic.
    pub(super) fn start_node(&mut self) -> anyhow::Result<()> {
        let name = format!("--hostname-override={}", config::NODE);
        let proxy = [
            "--proxy-mode=nftables".to_owned(),
            format!("--cluster-cidr={}", config::POD_RANGE),
            name.clone(),
        ];
        let kubelet = [
            self.with_file("config", "kubelet.json"),
            self.with_file("root-dir", "kubelet"),
            format!("--node-ip={}", config::NODE_ADDRESS),
            name,
        ];
        self.start_client("kube-proxy", &proxy)?;
        self.start_client("kubelet", &kubelet)
    }

    /// Kills what is not on the machines that run pods.
    pub(super) async fn stop_control_plane(&mut self) -> anyhow::Result<()> {
        for name in [API_SERVER, CONTROLLERS, SCHEDULER] {
            let process = self
                .processes
                .remove(name)
                .with_context(|| format!("{name} is not running"))?;
            process.kill().await?;
        }
        Ok(())
    }

    /// Waits for something that cannot come any more once one of the programs has ended.
    pub(super) async fn unless_one_ends<T>(
        &mut self,
        wanted: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut wanted = std::pin::pin!(wanted);
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                outcome = wanted.as_mut() => return outcome,
                _ = look.tick() => {}
            }
            for process in self.processes.values_mut() {
                process.running()?;
            }
        }
    }

    /// A flag that names a file of the run's folder.
    fn with_file(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.folder.join(file).display())
    }

    /// Starts a program that talks to the API server.
    fn start_client(&mut self, name: &'static str, args: &[String]) -> anyhow::Result<()> {
        let kubeconfig = format!(
            "--kubeconfig={}",
            config::kubeconfig(&self.folder).display()
        );
        self.start(
            name,
            Command::new(self.program(name)).arg(kubeconfig).args(args),
        )
    }

    fn start(&mut self, name: &'static str, command: &mut Command) -> anyhow::Result<()> {
        let process = Process::start(name, &self.folder.join("logs"), command)?;
        self.processes.insert(name, process);
        Ok(())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}

pub(super) async fn containerd_answers() -> anyhow::Result<()> {
    until("containerd to answer", Duration::from_secs(30), || {
        ctr(&["plugins", "ls"])
    })
    .await
    .map(drop)
}

/// Gives containerd the images, Hale's under a second name, too.
pub(super) async fn import_images(folder: &Path) -> anyhow::Result<()> {
    for archive in std::fs::read_dir(folder.join("images"))? {
        ctr(&["images", "import", &archive?.path().display().to_string()]).await?;
    }
    let name = |tag| format!("{}:{tag}", images::HALE);
    ctr(&[
        "images",
        "tag",
        &name(images::HALE_TAG),
        &name(images::HALE_NEXT_TAG),
    ])
    .await
    .map(drop)
}

pub(super) async fn kill_sandbox(namespace: &str, pod: &str) -> anyhow::Result<()> {
    let found = ctr(&[
        "containers",
        "ls",
        "--quiet",
        &format!("labels.\"io.kubernetes.pod.namespace\"=={namespace},labels.\"io.kubernetes.pod.name\"=={pod}"),
    ])
    .await?;
    ensure!(
        !found.trim().is_empty(),
        "containerd knows no pod {namespace}/{pod}"
    );
    // All of its containers: the sandbox's end takes the address, theirs the listening socket.
    for container in found.split_whitespace() {
        ctr(&["tasks", "kill", "--signal", "SIGKILL", container]).await?;
    }
    Ok(())
}

async fn ctr(args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("ctr");
    command
        .args(["--address", config::CONTAINERD, "--namespace", "k8s.io"])
        .args(args)
        .kill_on_drop(true);
    let output = command.output().await.context("running ctr")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ctr {}: {}",
        args.join(" "),
        text.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
