//! The cluster that scenarios run on, and what they may do to it.

mod config;
mod node;

use crate::wait::until;
use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use node::Node;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

pub use config::NODE_ADDRESS;

/// A Kubernetes cluster with a client for it.
pub struct Cluster {
    client: kube::Client,
    kubeconfig: PathBuf,
    programs: Option<PathBuf>,
    node: Option<Mutex<Node>>,
}

impl Cluster {
    /// Starts a cluster in the namespaces of this process.
    ///
    /// # Errors
    /// When a part does not come up; the error has the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut node = Node::begin(folder)?;
        let containerd = async {
            node::containerd_answers().await?;
            node::import_images(folder).await
        };
        let both = async { tokio::try_join!(client_when_ready(folder), containerd) };
        let (client, ()) = node.unless_one_ends(both).await?;
        phase("API server answers, images are imported", began);
        node.start_controllers()?;
        node.start_node()?;
        let limit = Duration::from_secs(60);
        node.unless_one_ends(until("the node to be ready", limit, || {
            node_is_ready(&client)
        }))
        .await?;
        phase("node is ready", began);
        let programs = Some(folder.join("bin"));
        Ok(Self {
            client,
            kubeconfig: config::kubeconfig(folder),
            programs,
            node: Some(Mutex::new(node)),
        })
    }

    /// Uses a cluster that runs; its nodes must know the images, and its
    /// Services must be reachable from here.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn existing(kubeconfig: &Path) -> anyhow::Result<Self> {
        let client = client(kubeconfig).await?;
        Ok(Self {
            client,
            kubeconfig: kubeconfig.to_owned(),
            programs: None,
            node: None,
        })
    }

    /// A client with all rights.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// The kubeconfig of that client.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where a program is that belongs to the cluster's version.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs
            .as_ref()
            .map_or_else(|| name.into(), |folder| folder.join(name))
    }

    /// Whether the node's programs can be stopped and started.
    pub fn is_own(&self) -> bool {
        self.node.is_some()
    }

    /// Kills the API server, the controllers and the scheduler, as a machine that is lost does.
    ///
    /// # Errors
    /// When the cluster is not ours.
    pub async fn stop_control_plane(&self) -> anyhow::Result<()> {
        self.node().await?.stop_control_plane().await
    }

    /// Starts them again; the API server answers when this is done.
    ///
    /// # Errors
    /// When the cluster is not ours, or the server does not come up.
    pub async fn start_control_plane(&self) -> anyhow::Result<()> {
        let mut node = self.node().await?;
        node.start_api_server()?;
        until("the API server to answer", Duration::from_secs(60), || {
            answers(&self.client)
        })
        .await?;
        node.start_controllers()
    }

    /// Kills the sandbox of a pod behind Kubernetes' back: its address is gone at once.
    ///
    /// # Errors
    /// When the cluster is not ours, or containerd does not know the pod.
    pub async fn kill_sandbox(&self, namespace: &str, pod: &str) -> anyhow::Result<()> {
        drop(self.node().await?);
        node::kill_sandbox(namespace, pod).await
    }

    async fn node(&self) -> anyhow::Result<tokio::sync::MutexGuard<'_, Node>> {
        Ok(self
            .node
            .as_ref()
            .context("this cluster is not ours to break")?
            .lock()
            .await)
    }
}

async fn node_is_ready(client: &kube::Client) -> anyhow::Result<()> {
    use k8s_openapi::api::core::v1::{Node, ServiceAccount};
    let node = kube::Api::<Node>::all(client.clone())
        .get(config::NODE)
        .await?;
    let conditions = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let ready = ready.context("the node has no Ready condition")?;
    anyhow::ensure!(
        ready.status == "True",
        "{}",
        ready.message.clone().unwrap_or_default()
    );
    // Without it no pod is admitted.
    kube::Api::<ServiceAccount>::default_namespaced(client.clone())
        .get("default")
        .await?;
    Ok(())
}

/// Prints how long the cluster took to get somewhere.
pub fn phase(what: &str, began: Instant) {
    eprintln!("e2e: {what} after {:.1} s", began.elapsed().as_secs_f64());
}

async fn client_when_ready(folder: &Path) -> anyhow::Result<kube::Client> {
    let kubeconfig = config::kubeconfig(folder);
    until(
        "the API server to answer",
        Duration::from_secs(60),
        || async {
            let client = client(&kubeconfig).await?;
            answers(&client).await?;
            Ok(client)
        },
    )
    .await
}

async fn client(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn answers(client: &kube::Client) -> anyhow::Result<()> {
    let request = ::http::Request::get("/readyz").body(Vec::new())?;
    let text = client.request_text(request).await?;
    anyhow::ensure!(text == "ok", "/readyz: {text}");
    Ok(())
}
