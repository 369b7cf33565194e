//! The heart: peers that fail their check leave traffic, come back, and are explained.

use crate::origin::{Backend, Origin, checking_policy, ingress};
use crate::stage::{HALE_NAMESPACE, SOON, Stage};
use anyhow::{Context as _, ensure};
use hale_e2e::client::Ask;
use hale_e2e::load::Load;
use hale_e2e::wait::{throughout, until};
use std::time::Duration;
use tokio::time::Instant;

/// `interval × unhealthyThreshold + 1 s` of [`checking_policy`].
const OUT_WITHIN: Duration = Duration::from_secs(3);

/// A host with pods, a policy that checks them, and every peer serving.
async fn checked(stage: &Stage, replicas: i32) -> anyhow::Result<(String, Origin, Vec<Backend>)> {
    let origin = Origin::new("checkout", replicas);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage
        .apply(&checking_policy("checkout", "checkout"))
        .await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    stage.condition("checkout", "Healthy", "True", SOON).await?;
    healthy(stage, &format!("{replicas}/{replicas}")).await?;
    let pods = origin.pods(stage).await?;
    Ok((host, origin, pods))
}

/// Waits until `kubectl get upol` shows so many.
async fn healthy(stage: &Stage, wanted: &str) -> anyhow::Result<()> {
    until(
        &format!("kubectl get upol to show {wanted}"),
        SOON,
        || async {
            let table = stage.kubectl(&["get", "upol", "checkout"]).await?;
            ensure!(
                table.split_whitespace().any(|word| word == wanted),
                "{table}"
            );
            Ok(())
        },
    )
    .await
}

/// Waits until so many pods have answered.
async fn all_seen(load: &Load, pods: usize) -> anyhow::Result<()> {
    until("all pods to get requests", SOON, || async {
        ensure!(load.so_far().pods.len() == pods, "{:?}", load.so_far().pods);
        Ok(())
    })
    .await
}

/// Fails if a pod is among those that answer a few dozen requests.
async fn unseen(load: &Load, pod: &str) -> anyhow::Result<()> {
    load.forget_pods();
    let sent = load.so_far().sent;
    until("more requests", SOON, || async {
        ensure!(load.so_far().sent > sent + 40);
        Ok(())
    })
    .await?;
    let seen = load.so_far().pods;
    ensure!(
        !seen.contains_key(pod),
        "{pod} still gets requests: {seen:?}"
    );
    Ok(())
}

/// What `kubectl` tells about one of five pods that fails its check.
async fn is_explained(stage: &Stage, pod: &str) -> anyhow::Result<()> {
    healthy(stage, "4/5").await?;
    let (reason, message) = stage
        .condition("checkout", "Healthy", "False", SOON)
        .await?;
    ensure!(reason == "SomePeersUnhealthy", "{reason}: {message}");
    until("kubectl describe to tell it all", SOON, || async {
        let text = stage.kubectl(&["describe", "upol", "checkout"]).await?;
        for wanted in [
            pod,
            "ActiveCheckFailed",
            "GET /healthz: HTTP 503",
            "Since:",
            "PeerUnhealthy",
        ] {
            ensure!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        Ok(())
    })
    .await?;
    stage
        .event("UpstreamPolicy", "checkout", "PeerUnhealthy")
        .await
        .map(drop)
}

pub(crate) async fn ready_pods_that_fail_the_check_leave_traffic_in_time_and_come_back(
    stage: &Stage,
) -> anyhow::Result<()> {
    let (host, origin, pods) = checked(stage, 5).await?;
    let load = stage.load(&host, 50).await?;
    all_seen(&load, 5).await?;

    let ill = &pods[2];
    ill.set("check=503").await?;
    let began = Instant::now();
    // Long after the limit: whatever it still answers then has been counted.
    until(
        "the time that is allowed, and as much again",
        SOON,
        || async {
            ensure!(began.elapsed() > 2 * OUT_WITHIN);
            Ok(())
        },
    )
    .await?;
    unseen(&load, &ill.name).await?;
    let last = load
        .so_far()
        .last
        .get(&ill.name)
        .copied()
        .context("it never answered")?;
    let took = last.saturating_duration_since(began);
    eprintln!("e2e: a failing pod got its last request after {took:.1?} (two checks, 1 s apart)");
    ensure!(
        took <= OUT_WITHIN,
        "a failing pod still got a request after {took:?}"
    );
    // Kubernetes knows nothing of it.
    origin.is_ready(stage).await?;
    is_explained(stage, &ill.name).await?;

    ill.set("check=200").await?;
    load.forget_pods();
    until(
        "the pod to be back",
        OUT_WITHIN + Duration::from_secs(1),
        || async {
            ensure!(
                load.so_far().pods.contains_key(&ill.name),
                "{:?}",
                load.so_far().pods
            );
            Ok(())
        },
    )
    .await?;
    healthy(stage, "5/5").await?;
    stage
        .event("UpstreamPolicy", "checkout", "PeerRecovered")
        .await?;
    load.stop().await?.none_failed(100)
}

pub(crate) async fn a_pod_that_is_not_ready_gets_no_requests(stage: &Stage) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 3);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    let pods = origin.pods(stage).await?;
    let load = stage.load(&host, 50).await?;
    // Only what had traffic can be seen to lose it: Kubernetes may be late to say that a pod is ready.
    all_seen(&load, 3).await?;
    pods[1].set("ready=false").await?;
    until("the pod to be left out", SOON, || {
        unseen(&load, &pods[1].name)
    })
    .await?;
    throughout("the pod is left out", Duration::from_secs(1), || {
        unseen(&load, &pods[1].name)
    })
    .await?;
    pods[1].set("ready=true").await?;
    until("the pod to be back", SOON, || async {
        ensure!(
            load.so_far().pods.contains_key(&pods[1].name),
            "{:?}",
            load.so_far().pods
        );
        Ok(())
    })
    .await?;
    load.stop().await?.none_failed(50)
}

pub(crate) async fn when_all_fail_the_503_says_why_and_recovery_is_prompt(
    stage: &Stage,
) -> anyhow::Result<()> {
    let (host, _, pods) = checked(stage, 3).await?;
    for pod in &pods[..2] {
        pod.set("check=503").await?;
    }
    pods[2].set("ready=false").await?;

    let ask = Ask::get(&host, "/").header("accept", "application/json");
    stage
        .every_hale("the explained 503", &ask, |answer| {
            let answer = answer.want(503)?;
            ensure!(
                answer.header("x-hale-reason") == "NoEligiblePeer",
                "{}",
                answer.summary()
            );
            ensure!(
                answer
                    .header("content-type")
                    .starts_with("application/problem+json"),
                "{:?}",
                answer.headers
            );
            let problem = answer.json()?;
            ensure!(
                problem["status"] == 503 && problem["reason"] == "NoEligiblePeer",
                "{problem}"
            );
            let peers = &problem["peers"];
            ensure!(peers["total"] == 3, "{problem}");
            ensure!(
                peers["byReason"]["ActiveCheckFailed"] == 2 && peers["byReason"]["NotReady"] == 1,
                "{problem}"
            );
            // These tests are in --explain-cidr, and see each peer.
            let detail = problem["detail"].as_array().context("no detail")?;
            ensure!(detail.len() == 3, "{problem}");
            for pod in &pods {
                let told = detail.iter().find(|peer| peer["pod"] == pod.name.as_str());
                let told = told.with_context(|| format!("{} is not told: {problem}", pod.name))?;
                ensure!(told["since"].is_string(), "{told}");
            }
            let said = detail.iter().any(|peer| {
                peer["message"]
                    .as_str()
                    .is_some_and(|message| message.contains("GET /healthz: HTTP 503"))
            });
            ensure!(said, "{problem}");
            Ok(())
        })
        .await?;
    commands_explain(stage, &host, &pods).await?;
    let page = stage
        .send(&Ask::get(&host, "/").header("accept", "text/html,*/*;q=0.8"))
        .await?
        .want(503)?;
    ensure!(
        page.header("content-type").starts_with("text/html"),
        "{:?}",
        page.headers
    );
    let (reason, message) = stage
        .condition("checkout", "Healthy", "False", SOON)
        .await?;
    until("NoPeerServing", SOON, || async {
        let (reason, message) = stage
            .condition("checkout", "Healthy", "False", SOON)
            .await?;
        ensure!(reason == "NoPeerServing", "{reason}: {message}");
        Ok(())
    })
    .await
    .with_context(|| format!("at first: {reason}: {message}"))?;
    healthy(stage, "0/3").await?;
    stage.event("Service", "checkout", "NoEligiblePeer").await?;

    let began = Instant::now();
    pods[0].set("check=200").await?;
    stage
        .every_hale("recovery", &Ask::get(&host, "/"), |answer| {
            answer.want(200).map(drop)
        })
        .await?;
    let took = began.elapsed();
    ensure!(
        took < OUT_WITHIN + Duration::from_secs(1),
        "recovery took {took:?}"
    );
    Ok(())
}

/// `hale status` and `hale why`, as they are run in a cluster, name the pods and their reasons.
async fn commands_explain(stage: &Stage, host: &str, pods: &[Backend]) -> anyhow::Result<()> {
    let url = format!("http://{host}/");
    for command in [&["status"][..], &["why", &url]] {
        let exec = [
            "exec",
            "-n",
            HALE_NAMESPACE,
            "deployment/hale",
            "--",
            "hale",
        ];
        // `why` ends with a failure where the request would be refused; what it says is on its output.
        let printed = stage
            .world
            .cluster
            .kubectl_with(&[&exec[..], command].concat(), "")
            .await?;
        for wanted in ["ActiveCheckFailed", "NotReady", pods[0].name.as_str()] {
            let said = printed.out.contains(wanted);
            ensure!(
                said,
                "hale {command:?} does not say {wanted}:\n{}{}",
                printed.out,
                printed.err
            );
        }
    }
    Ok(())
}

pub(crate) async fn readiness_and_check_that_disagree_are_reported(
    stage: &Stage,
) -> anyhow::Result<()> {
    let (_, _, pods) = checked(stage, 2).await?;
    stage
        .condition("checkout", "ReadinessAgrees", "True", SOON)
        .await?;
    pods[0].set("check=500").await?;
    let patience = Duration::from_secs(60);
    let (reason, message) = stage
        .condition("checkout", "ReadinessAgrees", "False", patience)
        .await?;
    ensure!(reason == "ReadyButFailingChecks", "{reason}: {message}");
    ensure!(
        message.contains(&pods[0].name),
        "the pod is not named: {message}"
    );
    pods[0].set("check=200").await?;
    stage
        .condition("checkout", "ReadinessAgrees", "True", SOON)
        .await
        .map(drop)
}

pub(crate) async fn a_tcp_check_on_another_port_decides(stage: &Stage) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 2);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    let policy = |port: &str| {
        format!(
            "\napiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata: {{name: checkout}}\nspec:\n  \
             targetRefs: [{{group: '', kind: Service, name: checkout}}]\n  healthCheck: {{active: {{tcp: {{}}, \
             port: {port}, interval: 500ms, timeout: 500ms, unhealthyThreshold: 2}}}}\n"
        )
    };
    stage.apply(&policy("admin")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    stage.condition("checkout", "Healthy", "True", SOON).await?;
    // Nothing listens there: the peers are out though their traffic port is fine.
    stage.apply(&policy("9")).await?;
    stage
        .every_hale("the check to decide", &Ask::get(&host, "/"), |answer| {
            let answer = answer.want(503)?;
            ensure!(
                answer.json()?["peers"]["byReason"]["ActiveCheckFailed"] == 2,
                "{}",
                answer.summary()
            );
            Ok(())
        })
        .await?;
    stage.kubectl(&["delete", "upol", "checkout"]).await?;
    stage.serves(&host, "/", &origin).await
}
