//! Installing, upgrading and removing Hale with Helm.

use crate::crd;
use crate::origin::{Origin, ingress, patient_policy};
use crate::scale::Scale;
use crate::stage::{HALE_NAMESPACE, SOON, Stage};
use anyhow::{Context as _, ensure};
use hale_e2e::images;
use hale_e2e::wait::until;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;

pub(crate) async fn helm_installs_into_a_restricted_namespace_and_helm_test_passes(
    stage: &Stage,
) -> anyhow::Result<()> {
    let namespaces = Api::<Namespace>::all(stage.world.cluster.client());
    let labels = namespaces
        .get(HALE_NAMESPACE)
        .await?
        .metadata
        .labels
        .unwrap_or_default();
    let level = labels
        .get("pod-security.kubernetes.io/enforce")
        .map(String::as_str);
    ensure!(level == Some("restricted"), "the namespace is {level:?}");
    stage.world.hale_is_ready().await?;
    let cluster = &stage.world.cluster;
    let tested = cluster
        .helm(&["test", "hale", "-n", HALE_NAMESPACE, "--timeout", "60s"])
        .await?;
    ensure!(tested.contains("Succeeded"), "{tested}");
    let notes = cluster
        .helm(&["get", "notes", "hale", "-n", HALE_NAMESPACE])
        .await?;
    ensure!(
        notes.contains("kubectl"),
        "the notes name no next command:\n{notes}"
    );
    // The commands that the manual names work in the image.
    let status = [
        "exec",
        "-n",
        HALE_NAMESPACE,
        "deployment/hale",
        "--",
        "hale",
        "status",
    ];
    cluster.kubectl(&status).await.map(drop)
}

pub(crate) async fn the_address_of_the_published_service_is_in_the_status_of_ingresses(
    stage: &Stage,
) -> anyhow::Result<()> {
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.world.hale_is_ready().await?;
    // Here is no cloud to give the Service an address; this is what one would do.
    for address in ["192.0.2.10", "192.0.2.20"] {
        let patch = format!(
            "{{\"status\":{{\"loadBalancer\":{{\"ingress\":[{{\"ip\":\"{address}\"}}]}}}}}}"
        );
        let args = [
            "patch",
            "service",
            "hale",
            "-n",
            HALE_NAMESPACE,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        stage.world.cluster.kubectl(&args).await?;
        until(
            &format!("the Ingress to have the address {address}"),
            SOON,
            || async {
                let status = stage.api::<Ingress>().get("shop").await?.status;
                let addresses = status
                    .and_then(|status| status.load_balancer)
                    .and_then(|balancer| balancer.ingress);
                let addresses: Vec<_> = addresses
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|entry| entry.ip)
                    .collect();
                ensure!(addresses == [address], "{addresses:?}");
                Ok(())
            },
        )
        .await?;
    }
    // An Ingress of another class is not ours to write to.
    stage
        .apply(
            &ingress("foreign", &stage.host("foreign"), "checkout")
                .replace("Name: hale", "Name: other"),
        )
        .await?;
    let late = ingress("late", &stage.host("late"), "checkout");
    stage.apply(&late).await?;
    until("the late Ingress to have an address", SOON, || async {
        let status = stage.api::<Ingress>().get("late").await?.status;
        let balancer = status
            .and_then(|status| status.load_balancer)
            .context("no status yet")?;
        ensure!(
            balancer.ingress.is_some_and(|list| !list.is_empty()),
            "no address yet"
        );
        Ok(())
    })
    .await?;
    let foreign = stage
        .api::<Ingress>()
        .get("foreign")
        .await?
        .status
        .and_then(|status| status.load_balancer);
    let untouched = foreign.and_then(|balancer| balancer.ingress).is_none();
    ensure!(untouched, "an Ingress of another class got an address");
    Ok(())
}

pub(crate) async fn helm_upgrade_fails_no_request(stage: &Stage) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 2);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    let before = stage.world.hale_pods().await?;

    let load = stage.load(&host, Scale::of_upgrade().rate).await?;
    stage
        .world
        .helm(
            &["upgrade"],
            images::HALE_NEXT_TAG,
            &["--wait", "--timeout", "90s"],
        )
        .await?;
    stage.world.hale_is_ready().await?;
    until("the old pods to be gone", SOON, || async {
        let pods = stage
            .world
            .cluster
            .kubectl(&["get", "pods", "-n", HALE_NAMESPACE, "-o", "name"])
            .await?;
        ensure!(!before.iter().any(|(old, _)| pods.contains(old)), "{pods}");
        Ok(())
    })
    .await?;
    let report = load.stop().await?;
    let run = "Hale's own rolling update (helm upgrade), 2 replicas behind the Service, GET";
    Scale::of_upgrade().print(run, "0 fail", &report, "");
    report.none_failed(1_000)
}

pub(crate) async fn helm_uninstall_keeps_the_crd_and_the_policies(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 1);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&patient_policy("checkout", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.condition("checkout", "Healthy", "True", SOON).await?;
    let cluster = &stage.world.cluster;
    cluster
        .helm(&[
            "uninstall",
            "hale",
            "-n",
            HALE_NAMESPACE,
            "--wait",
            "--timeout",
            "60s",
        ])
        .await?;
    cluster.kubectl(&["get", "crd", crd::NAME]).await?;
    stage
        .policy("checkout")
        .await
        .context("the policy is gone")?;
    for kind in [
        "deployment",
        "service",
        "serviceaccount",
        "ingressclass",
        "clusterrole",
    ] {
        let label = "app.kubernetes.io/instance=hale";
        let left = cluster
            .kubectl(&["get", kind, "-n", HALE_NAMESPACE, "-l", label, "-o", "name"])
            .await?;
        ensure!(left.is_empty(), "left behind: {left}");
    }
    // Installed again it serves what was declared before.
    stage.world.helm_install().await?;
    stage.world.hale_is_ready().await?;
    stage.serves(&host, "/", &origin).await
}
