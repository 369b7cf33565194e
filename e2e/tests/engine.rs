//! The health engine on real pods: checks that come from the pods themselves, ejection, and sessions.

use crate::origin::{Backend, Origin, ingress};
use crate::stage::{SOON, Stage};
use anyhow::{Context as _, ensure};
use hale_e2e::client::{Answer, Ask};
use hale_e2e::wait::until;

/// A policy `checkout` for the port `http` of the Service of that name.
fn policy(sections: &str) -> String {
    format!(
        "---\napiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata: {{name: checkout}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: checkout, sectionName: http}}]\n  {sections}\n"
    )
}

/// Three pods behind an Ingress, and a policy in force for them. Gives the host and the pods.
async fn shop(stage: &Stage, sections: &str) -> anyhow::Result<(String, Vec<Backend>)> {
    let origin = Origin::new("checkout", 3);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&policy(sections)).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;
    stage.condition("checkout", "Healthy", "True", SOON).await?;
    Ok((host, origin.pods(stage).await?))
}

/// Waits until `kubectl describe` of the policy has all of these.
async fn describes(stage: &Stage, wanted: &[&str]) -> anyhow::Result<()> {
    until(
        &format!("kubectl describe to tell {wanted:?}"),
        SOON,
        || async {
            let text = stage.kubectl(&["describe", "upol", "checkout"]).await?;
            for wanted in wanted {
                ensure!(text.contains(wanted), "no {wanted:?} in\n{text}");
            }
            Ok(())
        },
    )
    .await
}

/// The pod that answered.
fn answered_by(answer: &Answer) -> anyhow::Result<String> {
    let pod = answer.json()?["pod"].as_str().map(str::to_owned);
    pod.context("the answer names no pod")
}

pub(crate) async fn a_check_is_taken_from_the_pods_own_readiness_probe(
    stage: &Stage,
) -> anyhow::Result<()> {
    // Kubernetes' own word is ignored, so that what follows can only come from the check.
    let sections = "healthCheck: {readiness: Ignore, active: {fromReadinessProbe: {}}}";
    let (_, pods) = shop(stage, sections).await?;
    pods[1].set("ready=false").await?;
    describes(
        stage,
        &[
            "ActiveCheckFailed",
            "GET /ready on port 8081: HTTP 503",
            &pods[1].name,
        ],
    )
    .await?;
    pods[1].set("ready=true").await?;
    stage
        .condition("checkout", "Healthy", "True", SOON)
        .await
        .map(drop)
}

pub(crate) async fn a_pod_that_answers_errors_is_ejected_and_readmitted(
    stage: &Stage,
) -> anyhow::Result<()> {
    let sections = "healthCheck: {passive: {consecutive5xx: 3, baseEjection: 3s}}";
    let (host, pods) = shop(stage, sections).await?;
    let load = stage.load(&host, 50).await?;
    pods[0].set("traffic=500").await?;
    describes(stage, &["Ejected", &pods[0].name, "5xx"]).await?;
    stage
        .event("UpstreamPolicy", "checkout", "PeerEjected")
        .await?;
    pods[0].set("traffic=200").await?;
    stage.condition("checkout", "Healthy", "True", SOON).await?;
    load.forget_pods();
    until("the pod to get requests again", SOON, || async {
        let seen = load.so_far().pods;
        ensure!(seen.contains_key(&pods[0].name), "{seen:?}");
        Ok(())
    })
    .await?;
    let report = load.stop().await?;
    // Nothing but the 500s of that pod: three in a row for each ejection and replica, and its trials.
    let strange = |kind: &&String| !kind.starts_with("500");
    let strange: Vec<_> = report.failures.keys().filter(strange).collect();
    ensure!(strange.is_empty(), "{report}");
    Ok(())
}

pub(crate) async fn a_session_stays_with_its_pod_and_moves_when_that_is_out(
    stage: &Stage,
) -> anyhow::Result<()> {
    let sections = "sessionPersistence: {type: Cookie, sessionName: CART}";
    let (host, pods) = shop(stage, sections).await?;
    // The pods are in force before the policy is in every replica.
    stage
        .every_hale("sessions to begin", &Ask::get(&host, "/"), |answer| {
            let answer = answer.want(200)?;
            ensure!(
                answer.header("set-cookie").starts_with("CART="),
                "{:?}",
                answer.headers
            );
            Ok(())
        })
        .await?;
    let answer = stage.get(&host, "/").await?.want(200)?;
    let cookie = answer.header("set-cookie").split(';').next();
    let cookie = cookie.context("no cookie")?.to_owned();
    let pod = answered_by(&answer)?;
    let ask = Ask::get(&host, "/").header("cookie", &cookie);
    // Every replica knows the session, whichever began it.
    for _ in 0..10 {
        stage
            .every_hale("the session to stay", &ask, |answer| {
                let answer = answer.want(200)?;
                let seen = answer.json()?["pod"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                ensure!(seen == pod, "{seen} answered, and not {pod}");
                Ok(())
            })
            .await?;
    }
    let own = pods
        .iter()
        .find(|backend| backend.name == pod)
        .with_context(|| format!("{pod:?} is none of the pods"))?;
    own.set("ready=false").await?;
    stage
        .every_hale("the session to move", &ask, |answer| {
            let answer = answer.want(200)?;
            let seen = answer.json()?["pod"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            ensure!(seen != pod, "{pod} still answers");
            ensure!(
                answer.header("set-cookie").starts_with("CART="),
                "it moved without a new cookie: {:?}",
                answer.headers
            );
            Ok(())
        })
        .await
}
