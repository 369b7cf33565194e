//! The backends of a scenario: Deployment, Service, and orders to their pods.

use crate::stage::Stage;
use anyhow::{Context as _, ensure};
use hale_e2e::client::Ask;
use hale_e2e::images;
use hale_e2e::wait::until;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Some pods of the test backend behind a Service of the same name.
pub(crate) struct Origin {
    pub(crate) name: &'static str,
    pub(crate) replicas: i32,
    /// The Service port's `appProtocol`.
    pub(crate) app_protocol: Option<&'static str>,
    /// The Secret with the certificate by which the traffic port speaks TLS.
    pub(crate) tls: Option<&'static str>,
    /// Address and port of another origin that learns what one of these has executed when it ends.
    pub(crate) collector: Option<String>,
    /// For how many seconds a deleted pod goes on before it is told to end.
    pub(crate) pre_stop: u32,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) uid: String,
}

impl Origin {
    pub(crate) fn new(name: &'static str, replicas: i32) -> Self {
        Self {
            name,
            replicas,
            app_protocol: None,
            tls: None,
            collector: None,
            pre_stop: 0,
        }
    }

    /// The Service has the ports 80 `http` (the traffic) and 81 `admin`.
    pub(crate) fn manifests(&self) -> String {
        let Self { name, replicas, .. } = self;
        let protocol = self
            .app_protocol
            .map(|protocol| format!(", appProtocol: {protocol}"))
            .unwrap_or_default();
        let image = images::ORIGIN;
        let collector = self.collector.as_ref();
        let collector = collector
            .map(|to| format!("- {{name: COLLECTOR, value: '{to}'}}"))
            .unwrap_or_default();
        let lifecycle = match self.pre_stop {
            0 => String::new(),
            seconds => format!("lifecycle: {{preStop: {{sleep: {{seconds: {seconds}}}}}}}"),
        };
        let target = if self.tls.is_some() { 8443 } else { 8080 };
        let mounts = self
            .tls
            .map(|_| "[{name: tls, mountPath: /tls}]")
            .unwrap_or("[]");
        let volumes = self
            .tls
            .map(|secret| format!("[{{name: tls, secret: {{secretName: {secret}}}}}]"))
            .unwrap_or_else(|| "[]".to_owned());
        format!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      volumes: {volumes}
      containers:
      - name: origin
        image: {image}
        imagePullPolicy: Never
        {lifecycle}
        volumeMounts: {mounts}
        env:
        - {{name: ORIGIN_NAME, value: {name}}}
        - {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
        {collector}
        - {{name: NODE_NAME, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
        ports: [{{name: http, containerPort: 8080}}, {{name: admin, containerPort: 8081}}]
        readinessProbe:
          httpGet: {{path: /ready, port: admin}}
          periodSeconds: 1
          failureThreshold: 1
          timeoutSeconds: 5
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports:
  - {{name: http, port: 80, targetPort: {target}{protocol}}}
  - {{name: admin, port: 81, targetPort: admin}}
"#
        )
    }

    /// Waits until all replicas are ready, and none is left of an earlier template.
    pub(crate) async fn is_ready(&self, stage: &Stage) -> anyhow::Result<()> {
        let limit = Duration::from_secs(60);
        until(&format!("{} to be ready", self.name), limit, || async {
            let status = stage
                .api::<Deployment>()
                .get(self.name)
                .await?
                .status
                .unwrap_or_default();
            let ready = status.ready_replicas.unwrap_or(0);
            ensure!(
                ready == self.replicas && status.replicas.unwrap_or(0) == ready,
                "{ready} pods are ready"
            );
            Ok(())
        })
        .await
    }

    /// The pods that are not going.
    pub(crate) async fn pods(&self, stage: &Stage) -> anyhow::Result<Vec<Backend>> {
        let label = format!("app={}", self.name);
        let pods = stage
            .api::<Pod>()
            .list(&ListParams::default().labels(&label))
            .await?;
        let pods = pods
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.map(|pod| {
            let ip = pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_ref())
                .context("a pod without address")?;
            Ok(Backend {
                name: pod.name_any(),
                ip: ip.parse()?,
                uid: pod.uid().unwrap_or_default(),
            })
        })
        .collect()
    }
}

impl Backend {
    /// How often each request was executed here, by number.
    pub(crate) async fn counts(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let answer = Ask::get("admin", "/counts")
            .send(SocketAddr::new(self.ip, 8081))
            .await?
            .want(200)?;
        Ok(serde_json::from_value(answer.json()?["counts"].take())?)
    }

    /// An order to this pod: `ready=false`, `check=503`, `traffic=503`, joined by `&`.
    pub(crate) async fn set(&self, orders: &str) -> anyhow::Result<()> {
        let ask = Ask::get("admin", &format!("/set?{orders}"));
        ask.send(SocketAddr::new(self.ip, 8081))
            .await?
            .want(200)
            .map(drop)
    }
}

/// An Ingress with one rule for a whole host.
pub(crate) fn ingress(name: &str, host: &str, service: &str) -> String {
    ingress_with_paths(name, host, &[("Prefix", "/", service, "name: http")])
}

/// An Ingress for a host with paths: (type, path, Service, port).
pub(crate) fn ingress_with_paths(
    name: &str,
    host: &str,
    paths: &[(&str, &str, &str, &str)],
) -> String {
    let mut text = format!(
        "\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\nspec:\n  \
         ingressClassName: hale\n  rules:\n  - host: \"{host}\"\n    http:\n      paths:\n"
    );
    for (kind, path, service, port) in paths {
        text.push_str(&format!(
            "      - {{path: \"{path}\", pathType: {kind}, backend: {{service: {{name: {service}, port: {{{port}}}}}}}}}\n"
        ));
    }
    text
}

/// A policy with an HTTP check of `/healthz` every second that two failures or passes decide.
pub(crate) fn checking_policy(name: &str, service: &str) -> String {
    policy_with_check(
        name,
        service,
        "interval: 1s, timeout: 1s, unhealthyThreshold: 2, healthyThreshold: 2",
    )
}

/// The same, more patient: a machine that is busy with a rollout fails no check by being slow.
pub(crate) fn patient_policy(name: &str, service: &str) -> String {
    policy_with_check(
        name,
        service,
        "interval: 1s, timeout: 1s, unhealthyThreshold: 3, healthyThreshold: 1",
    )
}

fn policy_with_check(name: &str, service: &str, timing: &str) -> String {
    format!(
        r"
---
apiVersion: hale-ingress.io/v1alpha1
kind: UpstreamPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: '', kind: Service, name: {service}, sectionName: http}}]
  healthCheck: {{active: {{http: {{path: /healthz}}, jitterPercent: 0, {timing}}}}}
"
    )
}
