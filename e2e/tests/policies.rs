//! What policies do to requests.

use crate::origin::{Origin, ingress};
use crate::stage::{SOON, Stage};
use anyhow::ensure;
use hale_e2e::client::Ask;
use hale_e2e::wait::until;
use std::time::{Duration, Instant};

fn policy(name: &str, target: &str, sections: &str) -> String {
    format!(
        "\n---\napiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
         targetRefs: [{{{target}}}]\n  {sections}\n"
    )
}

const SERVICE: &str = "group: '', kind: Service, name: checkout";
const INGRESS: &str = "group: networking.k8s.io, kind: Ingress, name: short";

pub(crate) async fn a_timeout_on_an_ingress_goes_before_the_one_on_its_service(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 1);
    let (short, long) = (stage.host("short"), stage.host("long"));
    stage.apply(&ingress("short", &short, "checkout")).await?;
    stage.apply(&ingress("long", &long, "checkout")).await?;
    stage
        .apply(&policy("service", SERVICE, "timeouts: {request: 10s}"))
        .await?;
    stage
        .apply(&policy("ingress", INGRESS, "timeouts: {request: 500ms}"))
        .await?;
    stage.start(&[&origin]).await?;
    stage.serves(&short, "/", &origin).await?;
    stage
        .condition("ingress", "Programmed", "True", SOON)
        .await?;

    let slow = Ask::get(&short, "/delay/3000");
    stage
        .every_hale("the short timeout", &slow, |answer| {
            let answer = answer.want(504)?;
            ensure!(
                answer.header("x-hale-reason") == "UpstreamTimeout",
                "{}",
                answer.summary()
            );
            Ok(())
        })
        .await?;
    let began = Instant::now();
    stage.send(&slow).await?.want(504)?;
    let took = began.elapsed();
    ensure!(
        took < Duration::from_millis(2500),
        "a timeout of 500 ms took {took:?}"
    );
    stage.get(&long, "/delay/1500").await?.want(200)?;
    // Without the section the Service's holds for both.
    stage.kubectl(&["delete", "upol", "ingress"]).await?;
    let patient = Ask::get(&short, "/delay/1000");
    stage
        .every_hale("the long timeout", &patient, |answer| {
            answer.want(200).map(drop)
        })
        .await
}

pub(crate) async fn a_failing_answer_is_tried_again_on_another_pod(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 2);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    let pods = origin.pods(stage).await?;
    pods[0].set("traffic=503").await?;
    // As it is, clients see what the pod says.
    let load = stage.load(&host, 50).await?;
    until("a failure to come through", SOON, || async {
        let failures = load.so_far().failures;
        ensure!(
            failures.keys().any(|reason| reason.starts_with("503")),
            "{failures:?}"
        );
        Ok(())
    })
    .await?;
    load.stop().await?;

    let retry =
        "retry: {attempts: 1, codes: [503], backoff: 1ms, budget: {percent: 100, minRetries: 100}}";
    stage.apply(&policy("retry", SERVICE, retry)).await?;
    stage.condition("retry", "Programmed", "True", SOON).await?;
    for (_, ip) in stage.world.hale_pods().await? {
        let server = (ip, 8080).into();
        until("no failure to come through", SOON, || async {
            for _ in 0..20 {
                Ask::get(&host, "/").send(server).await?.want(200)?;
            }
            Ok(())
        })
        .await?;
    }
    let load = stage.load(&host, 50).await?;
    until("enough requests", SOON, || async {
        ensure!(load.so_far().sent >= 100);
        Ok(())
    })
    .await?;
    load.stop().await?.none_failed(100)
}
