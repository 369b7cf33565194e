//! Pods that come and go while requests do.

use crate::origin::{Origin, ingress, patient_policy};
use crate::stage::{SOON, Stage};
use anyhow::ensure;
use hale_e2e::client::Ask;
use hale_e2e::wait::until;

pub(crate) async fn a_rolling_restart_under_load_fails_no_request(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 5);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    let before = origin.pods(stage).await?;

    let load = stage.load(&host, 200).await?;
    let sent = |count: u64| {
        let load = &load;
        until("more requests", SOON, move || async move {
            ensure!(
                load.so_far().sent >= count,
                "{} were sent",
                load.so_far().sent
            );
            Ok(())
        })
    };
    sent(400).await?;
    stage
        .kubectl(&["rollout", "restart", "deployment/checkout"])
        .await?;
    stage
        .kubectl(&["rollout", "status", "deployment/checkout", "--timeout=60s"])
        .await?;
    origin.is_ready(stage).await?;
    // Pods that are going serve until their end, which is a while after the rollout's.
    until("the old pods to be gone", SOON, || async {
        let pods = stage.kubectl(&["get", "pods", "-o", "name"]).await?;
        ensure!(!before.iter().any(|old| pods.contains(&old.name)), "{pods}");
        Ok(())
    })
    .await?;
    let so_far = load.so_far().sent;
    load.forget_pods();
    sent(so_far + 400).await?;
    let report = load.stop().await?;
    eprintln!("e2e: rolling restart of 5 pods at 200 requests/s: {report}");
    ensure!(
        report.pods.len() == 5,
        "the new pods share the requests: {:?}",
        report.pods
    );
    report.none_failed(1000)
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
