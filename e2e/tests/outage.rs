//! The control plane fails; traffic must not.

use crate::origin::{Backend, Origin, ingress, patient_policy};
use crate::scale::Scale;
use crate::stage::{HALE_NAMESPACE, SOON, Stage};
use anyhow::{Context as _, ensure};
use hale_e2e::load::Load;
use hale_e2e::wait::until;
use k8s_openapi::api::coordination::v1::Lease;
use std::time::Duration;
use tokio::time::Instant;

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(60);

/// Waits until the load has sent `count` requests more.
async fn more(load: &Load, count: u64) -> anyhow::Result<()> {
    let sent = load.so_far().sent;
    until("more requests", SOON, || async {
        ensure!(load.so_far().sent >= sent + count);
        Ok(())
    })
    .await
}

pub(crate) async fn a_minute_without_the_api_server_fails_no_request(
    stage: &Stage,
) -> anyhow::Result<()> {
    let cluster = &stage.world.cluster;
    ensure!(
        cluster.is_own(),
        "this scenario stops the API server: it needs a cluster of its own"
    );
    let origin = Origin::new("checkout", 4);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    stage.condition("checkout", "Healthy", "True", SOON).await?;
    let pods = origin.pods(stage).await?;

    let load = stage.load(&host, Scale::of_outage().rate).await?;
    more(&load, 200).await?;
    cluster.stop_control_plane().await?;
    let outcome = without_control_plane(stage, &load, &pods[1]).await;
    cluster.start_control_plane().await?;
    outcome?;
    // It catches up: a change made now is in effect soon, and the load still goes on.
    let late = stage.host("late");
    stage.apply(&ingress("late", &late, "checkout")).await?;
    stage.serves(&late, "/", &origin).await?;
    load.stop().await?.none_failed(5_000)
}

/// The outage itself, in which a pod dies.
async fn without_control_plane(stage: &Stage, load: &Load, dead: &Backend) -> anyhow::Result<()> {
    let end = Instant::now() + OUTAGE;
    more(load, 300).await?;
    // Nobody can tell Hale that this pod is dead; it has to find out.
    stage
        .world
        .cluster
        .kill_sandbox(&stage.namespace, &dead.name)
        .await?;
    until("the dead pod to be left out", SOON, || async {
        load.forget_pods();
        more(load, 60).await?;
        let seen = load.so_far().pods;
        ensure!(
            !seen.contains_key(&dead.name) && seen.len() == 3,
            "{seen:?}"
        );
        Ok(())
    })
    .await?;
    tokio::time::sleep_until(end).await;
    let report = load.so_far();
    let run = "60 s without the API server, in which one of 4 pods dies, GET";
    Scale::of_outage().print(run, "0 fail", &report, "");
    report.none_failed(5_000)
}

pub(crate) async fn the_leader_killed_the_other_goes_on_with_statuses(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 2);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.condition("checkout", "Healthy", "True", SOON).await?;

    let holder = || async {
        let lease = stage
            .world
            .api::<Lease>(HALE_NAMESPACE)
            .get("hale-leader")
            .await?;
        lease
            .spec
            .and_then(|spec| spec.holder_identity)
            .context("the Lease has no holder")
    };
    let leader = holder().await?;
    let pods = stage.world.hale_pods().await?;
    let (pod, _) = pods
        .iter()
        .find(|(name, _)| leader.contains(name))
        .with_context(|| format!("the holder {leader} is none of {pods:?}"))?;
    // Without a chance to say goodbye: the Lease has to run out.
    let kill = [
        "delete",
        "pod",
        pod,
        "-n",
        HALE_NAMESPACE,
        "--grace-period=0",
        "--force",
    ];
    let _ = stage.world.cluster.kubectl(&kill).await?;
    origin.pods(stage).await?[0].set("check=503").await?;
    let (reason, message) = stage
        .condition("checkout", "Healthy", "False", Duration::from_secs(45))
        .await?;
    ensure!(reason == "SomePeersUnhealthy", "{reason}: {message}");
    let next = holder().await?;
    ensure!(next != leader, "{leader} is dead and still holds the Lease");
    // What the old leader said about others is not cleared.
    let accepted = stage
        .condition("checkout", "Accepted", "True", SOON)
        .await?;
    ensure!(accepted.0 == "Accepted", "{accepted:?}");
    stage.world.hale_is_ready().await
}
