//! The files that the cluster's programs read, each with the reason for what is unusual in it.

use crate::images;
use anyhow::Context as _;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// The node's name.
pub(super) const NODE: &str = "node-1";
/// The node's address, on a veth pair that leads nowhere.
pub const NODE_ADDRESS: &str = "10.99.0.1";
/// Where pods get their addresses from.
pub(super) const POD_RANGE: &str = "10.244.0.0/16";
/// Where Services get their addresses from.
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// containerd's socket, in the `/run` that this run has for itself.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// The kubeconfig that everything uses.
pub(super) fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

/// Writes all files.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    for part in [
        "containerd",
        "cni",
        "kubelet",
        "etcd",
        "certificates",
        "volume-plugins",
    ] {
        fs::create_dir_all(folder.join(part))?;
    }
    let token = token()?;
    fs::write(
        folder.join("tokens.csv"),
        format!("{token},admin,admin,\"system:masters\"\n"),
    )?;
    let service_accounts = rcgen::KeyPair::generate()?;
    fs::write(
        folder.join("service-account.key"),
        service_accounts.serialize_pem(),
    )?;
    fs::write(
        folder.join("service-account.pub"),
        service_accounts.public_key_pem(),
    )?;
    fs::write(kubeconfig(folder), admin(folder, &token).to_string())?;
    fs::write(folder.join("containerd.toml"), containerd(folder))?;
    fs::write(folder.join("cni/10-e2e.conflist"), cni().to_string())?;
    // No name can be resolved here, and it should not take a time-out to learn that.
    fs::write(
        folder.join("resolv.conf"),
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )?;
    fs::write(folder.join("kubelet.json"), kubelet(folder).to_string())?;
    Ok(())
}

fn token() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .ok()
        .context("no randomness")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn admin(folder: &Path, token: &str) -> serde_json::Value {
    // The API server signs its certificate by itself when it starts.
    let authority = folder.join("certificates/apiserver.crt");
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
        "clusters": [{"name": "e2e", "cluster": {
            "server": format!("https://{NODE_ADDRESS}:6443"), "certificate-authority": authority,
        }}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "admin"}}],
    })
}

fn containerd(folder: &Path) -> String {
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    // restrict_oom_score_adj: a machine that is itself a container may not lower the score, and no sandbox would start.
    format!(
        "version = 2\nroot = \"{root}\"\nstate = \"/run/containerd\"\n\n[grpc]\naddress = \"{CONTAINERD}\"\n\n\
         [{cri}]\nsandbox_image = \"{pause}\"\nrestrict_oom_score_adj = true\n\n\
         [{cri}.cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"{cni}\"\n",
        root = folder.join("containerd").display(),
        pause = images::PAUSE,
        cni = folder.join("cni").display(),
    )
}

fn cni() -> serde_json::Value {
    // Point to point and not a bridge: what goes from pod to pod over a Service
    // then comes back through the node, which must undo the Service's address.
    json!({
        "cniVersion": "1.0.0", "name": "e2e",
        "plugins": [
            {"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]],
                                     "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

fn kubelet(folder: &Path) -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        // Nobody but this run can reach its port.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        // The run has a cgroup, but the hierarchy is not kubelet's to arrange.
        "cgroupDriver": "cgroupfs", "failCgroupV1": false, "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "clusterDNS": [NODE_ADDRESS], "resolvConf": folder.join("resolv.conf"),
        "podLogsDir": "/var/log/pods", "volumePluginDir": folder.join("volume-plugins"),
        // The machine's disk may be fuller than a node's should be.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%",
                         "nodefs.inodesFree": "1%", "imagefs.inodesFree": "1%"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 200, "registerWithTaints": [],
        // Without CNI's answer the node is not ready, and it should not take 10 s to say that it has come.
        "nodeStatusUpdateFrequency": "1s", "nodeStatusReportFrequency": "5m",
        // Pods come and go quickly here.
        "kubeAPIQPS": 200, "kubeAPIBurst": 400, "serializeImagePulls": false,
    })
}
