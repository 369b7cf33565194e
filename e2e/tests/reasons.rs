//! Faults of real pods, each named by one reason and with the object to mend, wherever a person looks: the
//! answer, `kubectl describe` of the policy, an Event, and `hale why`.

use crate::origin::{Origin, ingress};
use crate::stage::{HALE_NAMESPACE, SOON, Stage};
use anyhow::ensure;
use hale_e2e::client::Ask;
use hale_e2e::images;
use hale_e2e::wait::until;
use std::time::Duration;

/// What is wrong, and how it must be told.
struct Fault {
    /// Names everything: Service, Ingress, policy.
    name: &'static str,
    /// More of the policy's spec.
    policy: &'static str,
    /// `x-hale-reason` of the answer.
    reason: &'static str,
    /// In `kubectl describe upol`. Of several, separated by `|`, one suffices.
    described: &'static [&'static str],
    /// In what `hale why` prints.
    why: &'static [&'static str],
}

/// Whether a text has each of these, or one of its alternatives.
fn has_all(text: &str, wanted: &[&str]) -> anyhow::Result<()> {
    for wanted in wanted {
        let found = wanted.split('|').any(|one| text.contains(one));
        ensure!(found, "no {wanted:?} in\n{text}");
    }
    Ok(())
}

/// A Deployment of the test backend whose pod has one more line, and a Service for it.
fn deployment(name: &str, replicas: u32, pod: &str, container: &str) -> String {
    let image = images::ORIGIN;
    format!(
        r"
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      {pod}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
      - name: origin
        image: {image}
        imagePullPolicy: Never
        env: [{{name: ORIGIN_NAME, value: {name}}}]
        {container}
"
    )
}

fn service(name: &str, app: &str, port: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {app}}}\n  \
         ports: [{{name: http, port: 80, {port}}}]\n"
    )
}

impl Fault {
    fn policy(&self) -> String {
        let Self { name, policy, .. } = self;
        format!(
            "---\napiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: {name}}}]\n  {policy}\n"
        )
    }

    /// Looks wherever a person would.
    async fn is_told(&self, stage: &Stage) -> anyhow::Result<()> {
        let host = stage.host(self.name);
        let what = format!("{} to be told: {}", self.name, self.reason);
        stage
            .every_hale(&what, &Ask::get(&host, "/"), |answer| {
                let seen = answer.header("x-hale-reason");
                ensure!(seen == self.reason, "{seen}: {}", answer.summary());
                Ok(())
            })
            .await?;
        until(&format!("describe {}", self.name), RETOLD, || async {
            let text = stage.kubectl(&["describe", "upol", self.name]).await?;
            has_all(&text, self.described)
        })
        .await?;
        let url = format!("http://{host}/");
        let why = [
            "exec",
            "-n",
            HALE_NAMESPACE,
            "deployment/hale",
            "--",
            "hale",
            "why",
            &url,
        ];
        until(&format!("hale why {url}"), RETOLD, || async {
            // It ends with 2, which kubectl makes an error, where the request would be refused.
            let text = match stage.world.cluster.kubectl(&why).await {
                Ok(text) => text,
                Err(refused) => format!("{refused:#}"),
            };
            has_all(&text, self.why)
        })
        .await
    }
}

/// Pods that do not become ready are looked at every 20 s.
const RETOLD: Duration = Duration::from_secs(45);
const CHECK: &str = "healthCheck: {active: {tcp: {}, interval: 1s, timeout: 900ms, unhealthyThreshold: 2, jitterPercent: 0}}";

/// An address of the pods' network that nobody has: what is sent there is lost.
const BLACK_HOLE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: blackholed}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: blackholed, labels: {kubernetes.io/service-name: blackholed}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.244.0.254], conditions: {ready: true}, targetRef: {kind: Pod, name: nobody-0, uid: nobody}}
";

/// What the kubelet says in turn of a container whose program is missing: a pod is looked at now and then only, and
/// shows what it said at that time.
const NEVER_STARTS: &str = "CrashLoopBackOff|RunContainerError|StartError";

/// One of each, the slowest to show last.
fn faults() -> [Fault; 8] {
    [
        Fault {
            name: "homeless",
            policy: "timeouts: {connect: 1s}",
            reason: "PodsNotScheduled",
            described: &["PodsNotScheduled", "node"],
            why: &["PodsNotScheduled", "wait for a node"],
        },
        Fault {
            name: "wrongport",
            policy: "timeouts: {connect: 1s}",
            reason: "ConnectRefused",
            described: &["ConnectRefused", ":9"],
            why: &["ConnectRefused"],
        },
        Fault {
            name: "checked",
            policy: CHECK,
            reason: "NoEligiblePeer",
            described: &["ActiveCheckFailed", "refused"],
            why: &["ActiveCheckFailed", "refused"],
        },
        Fault {
            name: "wrongbody",
            policy: "healthCheck: {active: {http: {path: /, expectedBody: {contains: moon}}, interval: 1s, timeout: 900ms, unhealthyThreshold: 2}}",
            reason: "NoEligiblePeer",
            described: &["ActiveCheckFailed", "want a body with \"moon\""],
            why: &["ActiveCheckFailed", "want a body with \"moon\""],
        },
        Fault {
            name: "slow",
            policy: "healthCheck: {active: {http: {path: /delay/5000}, interval: 1s, timeout: 500ms, unhealthyThreshold: 2}}",
            reason: "NoEligiblePeer",
            described: &["ActiveCheckFailed", "no answer within 500ms"],
            why: &["ActiveCheckFailed", "no answer within 500ms"],
        },
        Fault {
            name: "blackholed",
            policy: "timeouts: {connect: 500ms}",
            reason: "ConnectTimeout",
            described: &["ConnectTimeout", "nobody-0"],
            why: &["ConnectTimeout"],
        },
        Fault {
            name: "plain",
            policy: "tls: {hostname: plain.test, insecureSkipVerify: true}",
            reason: "TlsError",
            described: &["TlsError"],
            why: &["TlsError"],
        },
        Fault {
            name: "crashing",
            policy: "timeouts: {connect: 1s}",
            reason: "NoEligiblePeer",
            described: &["NotReady", NEVER_STARTS],
            why: &["NotReady", NEVER_STARTS],
        },
    ]
}

pub(crate) async fn each_fault_of_pods_has_its_reason_wherever_one_looks(
    stage: &Stage,
) -> anyhow::Result<()> {
    let faults = faults();
    let origin = Origin::new("good", 1);
    stage.apply(&origin.manifests()).await?;
    stage
        .apply(&deployment(
            "crashing",
            1,
            "",
            "command: [/no/such/program]",
        ))
        .await?;
    stage
        .apply(&deployment("homeless", 1, "nodeSelector: {moon: base}", ""))
        .await?;
    stage
        .apply(&service("crashing", "crashing", "targetPort: 8080"))
        .await?;
    stage
        .apply(&service("homeless", "homeless", "targetPort: 8080"))
        .await?;
    stage
        .apply(&service("wrongport", "good", "targetPort: 9"))
        .await?;
    stage
        .apply(&service("checked", "good", "targetPort: 9"))
        .await?;
    for name in ["plain", "wrongbody", "slow"] {
        stage
            .apply(&service(name, "good", "targetPort: 8080"))
            .await?;
    }
    stage.apply(BLACK_HOLE).await?;
    for fault in &faults {
        let host = stage.host(fault.name);
        stage.apply(&ingress(fault.name, &host, fault.name)).await?;
        stage.apply(&fault.policy()).await?;
    }
    stage.world.hale_is_ready().await?;
    origin.is_ready(stage).await?;
    for fault in &faults {
        fault.is_told(stage).await?;
    }
    Ok(())
}

pub(crate) async fn an_upstream_at_its_limit_says_so(stage: &Stage) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 1);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    let limits = Fault {
        name: "checkout",
        policy: "circuitBreaker: {perPeer: {maxParallelRequests: 1}, queue: {max: 1, timeout: 300ms}}",
        reason: "QueueTimeout",
        described: &[],
        why: &[],
    };
    stage.apply(&limits.policy()).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    // One request holds the only place; the next waits in the queue, and those after it find that full.
    for (pod, ip) in stage.world.hale_pods().await? {
        let door = std::net::SocketAddr::new(ip, 8080);
        let slow = Ask::get(&host, "/delay/4000");
        let held = tokio::spawn(async move { slow.send(door).await });
        let ask = Ask::get(&host, "/");
        until(&format!("{pod} to be at its limit"), SOON, || async {
            let answer = ask.send(door).await?;
            let seen = answer.header("x-hale-reason").to_owned();
            ensure!(seen == "QueueTimeout", "{seen}: {}", answer.summary());
            let saturated = answer.json()?["peers"]["byReason"]["Saturated"].as_u64();
            ensure!(saturated == Some(1), "{}", answer.summary());
            Ok(())
        })
        .await?;
        let (first, second) = tokio::join!(ask.send(door), ask.send(door));
        let mut seen = [
            first?.header("x-hale-reason").to_owned(),
            second?.header("x-hale-reason").to_owned(),
        ];
        seen.sort();
        ensure!(seen == ["CircuitOpen", "QueueTimeout"], "{seen:?}");
        held.await??.want(200)?;
    }
    Ok(())
}
