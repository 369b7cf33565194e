//! Pods that come and go while requests do.

use crate::origin::{Backend, Origin, ingress, patient_policy};
use crate::scale::Scale;
use crate::stage::{SOON, Stage};
use anyhow::{Context as _, ensure};
use hale_e2e::client::Ask;
use hale_e2e::load::Load;
use hale_e2e::wait::until;
use http::Method;
use std::net::SocketAddr;

/// Waits until the load has sent so many requests more.
async fn sends(load: &Load, count: u64) -> anyhow::Result<()> {
    let sent = load.so_far().sent;
    until("more requests", SOON, || async {
        let now = load.so_far().sent;
        ensure!(now >= sent + count, "{} were sent", now - sent);
        Ok(())
    })
    .await
}

/// Replaces all pods, and waits until the last old one has ended.
async fn restart(stage: &Stage, origin: &Origin) -> anyhow::Result<()> {
    let before = origin.pods(stage).await?;
    let deployment = format!("deployment/{}", origin.name);
    stage.kubectl(&["rollout", "restart", &deployment]).await?;
    stage
        .kubectl(&["rollout", "status", &deployment, "--timeout=120s"])
        .await?;
    origin.is_ready(stage).await?;
    // Pods that are going serve until their end, which is a while after the rollout's.
    until("the old pods to be gone", SOON, || async {
        let pods = stage.kubectl(&["get", "pods", "-o", "name"]).await?;
        ensure!(!before.iter().any(|old| pods.contains(&old.name)), "{pods}");
        Ok(())
    })
    .await
}

pub(crate) async fn a_rolling_restart_under_load_fails_no_request(
    stage: &Stage,
) -> anyhow::Result<()> {
    let scale = Scale::of_restart();
    let origin = Origin::new("checkout", scale.pods);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;

    let load = stage.load(&host, scale.rate).await?;
    sends(&load, 400).await?;
    restart(stage, &origin).await?;
    load.forget_pods();
    sends(&load, 400).await?;
    scale.whole(&load).await?;
    let report = load.stop().await?;
    let run = format!("rolling restart of {} pods, GET", scale.pods);
    scale.print(&run, "0 fail", &report, "");
    ensure!(
        i32::try_from(report.pods.len()) == Ok(scale.pods),
        "the new pods share the requests: {:?}",
        report.pods
    );
    report.none_failed(1000)
}

pub(crate) async fn in_a_rolling_restart_no_post_is_executed_twice(
    stage: &Stage,
) -> anyhow::Result<()> {
    let scale = Scale::of_restart();
    let collector = Origin::new("collector", 1);
    stage.start(&[&collector]).await?;
    let collector = collector
        .pods(stage)
        .await?
        .pop()
        .context("there is no collector")?;
    let to = SocketAddr::new(collector.ip, 8081).to_string();
    let origin = Origin {
        collector: Some(to),
        ..Origin::new("checkout", scale.pods)
    };
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;

    let load = stage.load_of(Method::POST, &host, scale.rate).await?;
    sends(&load, 200).await?;
    restart(stage, &origin).await?;
    sends(&load, 200).await?;
    scale.whole(&load).await?;
    let report = load.stop().await?;

    let mut executed = collector.counts().await?;
    for pod in origin.pods(stage).await? {
        for (number, count) in pod.counts().await? {
            *executed.entry(number).or_default() += count;
        }
    }
    let twice: Vec<_> = executed.iter().filter(|(_, count)| **count > 1).collect();
    let run = format!("rolling restart of {} pods, POST of 1 KiB", scale.pods);
    let wanted = "0 executed twice; failures only after bytes were sent, ≤ 1 in 100,000";
    scale.print(&run, wanted, &report, &format!(", {} twice", twice.len()));
    ensure!(twice.is_empty(), "executed more than once: {twice:?}");
    let missing = report.good.saturating_sub(executed.len() as u64);
    ensure!(
        missing == 0,
        "{missing} requests were answered and never executed"
    );
    // What was sent to a pod that died cannot be sent again; nothing else may fail.
    let unexpected = report
        .failures
        .keys()
        .find(|reason| !reason.starts_with("502 UpstreamReset"));
    ensure!(unexpected.is_none(), "{report}");
    Ok(())
}

pub(crate) async fn a_deleted_pod_is_left_before_its_slice_says_so(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin {
        // It would answer for all of the scenario.
        pre_stop: 30,
        ..Origin::new("checkout", 2)
    };
    stage.start(&[&origin]).await?;
    let pods = origin.pods(stage).await?;
    // Nobody writes this slice but the test, which never says that a pod terminates.
    let mut frozen = String::from(
        "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: frozen}\nspec: {ports: [{name: http, port: 80}]}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: frozen, labels: {kubernetes.io/service-name: frozen}}\n\
         addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n",
    );
    for pod in &pods {
        let Backend { name, ip, uid } = pod;
        frozen.push_str(&format!(
            "- {{addresses: ['{ip}'], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {name}, uid: {uid}}}}}\n"
        ));
    }
    stage.apply(&frozen).await?;
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "frozen")).await?;
    stage.serves(&host, "/", &origin).await?;

    let load = stage.load(&host, 50).await?;
    until("both pods to get requests", SOON, || async {
        ensure!(load.so_far().pods.len() == 2, "{:?}", load.so_far().pods);
        Ok(())
    })
    .await?;
    let leaving = &pods[0].name;
    stage
        .kubectl(&["delete", "pod", leaving, "--wait=false"])
        .await?;
    until("the deleted pod to be left", SOON, || async {
        load.forget_pods();
        sends(&load, 40).await?;
        let seen = load.so_far().pods;
        ensure!(!seen.contains_key(leaving), "{seen:?}");
        Ok(())
    })
    .await?;
    sends(&load, 50).await?;
    load.stop().await?.none_failed(50)
}

pub(crate) async fn scaling_to_zero_is_explained_and_back_again_served(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 2);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;

    stage
        .kubectl(&["scale", "deployment/checkout", "--replicas=0"])
        .await?;
    stage
        .every_hale(
            "a 503 that says that nobody is there",
            &Ask::get(&host, "/"),
            |answer| {
                let answer = answer.want(503)?;
                let reason = answer.header("x-hale-reason");
                ensure!(
                    ["NoEndpoints", "SelectorMatchesNothing"].contains(&reason),
                    "{}",
                    answer.summary()
                );
                Ok(())
            },
        )
        .await?;
    // Why nobody is there takes one look at the pods, and arrives a little later.
    stage
        .every_hale("the cause", &Ask::get(&host, "/"), |answer| {
            ensure!(
                answer.header("x-hale-reason") == "SelectorMatchesNothing",
                "{}",
                answer.summary()
            );
            Ok(())
        })
        .await?;
    stage
        .event("Service", "checkout", "SelectorMatchesNothing")
        .await?;

    stage
        .kubectl(&["scale", "deployment/checkout", "--replicas=2"])
        .await?;
    origin.is_ready(stage).await?;
    stage.serves(&host, "/", &origin).await?;
    stage
        .condition("checkout", "Healthy", "True", SOON)
        .await
        .map(drop)
}
