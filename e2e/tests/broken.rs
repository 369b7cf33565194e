//! Objects that are wrong, among others that are right.

use crate::origin::{Origin, checking_policy, ingress, ingress_with_paths};
use crate::stage::{SOON, Stage};
use anyhow::ensure;
use hale_e2e::client::Ask;
use hale_e2e::wait::until;

pub(crate) async fn a_broken_ingress_policy_and_secret_cost_only_themselves(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 2);
    let (good, bad, sealed) = (stage.host("good"), stage.host("bad"), stage.host("sealed"));
    stage.apply(&ingress("good", &good, "checkout")).await?;
    stage.apply(&checking_policy("good", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&good, "/", &origin).await?;

    // A path to nowhere beside one that is fine.
    let paths = [
        ("Prefix", "/", "checkout", "name: http"),
        ("Prefix", "/lost", "nowhere", "number: 80"),
    ];
    stage
        .apply(&ingress_with_paths("bad", &bad, &paths))
        .await?;
    // A policy for a Service that is not there, and a CA that is not there for one that is.
    stage.apply(&checking_policy("lost", "nowhere")).await?;
    // A certificate that is none.
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "broken"},
        "stringData": {"tls.crt": "not a certificate", "tls.key": "not a key"},
    });
    // The API server takes it with a warning.
    let cluster = &stage.world.cluster;
    cluster
        .try_apply(&stage.namespace, &secret.to_string())
        .await?
        .ok()?;
    let tls = format!("spec:\n  tls: [{{hosts: [\"{sealed}\"], secretName: broken}}]\n");
    stage
        .apply(&ingress("sealed", &sealed, "checkout").replace("spec:\n", &tls))
        .await?;

    stage.serves(&bad, "/", &origin).await?;
    let answer = stage.get(&bad, "/lost").await?.want(503)?;
    ensure!(
        answer.header("x-hale-reason") == "ServiceNotFound",
        "{}",
        answer.summary()
    );
    stage.event("Ingress", "bad", "ServiceNotFound").await?;
    stage.event("Ingress", "sealed", "TlsSecretInvalid").await?;
    // What another controller would protect.
    let annotation = "nginx.ingress.kubernetes.io/whitelist-source-range=10.0.0.0/8";
    stage
        .kubectl(&["annotate", "ingress", "sealed", annotation])
        .await?;
    stage
        .event("Ingress", "sealed", "AnnotationIgnored")
        .await?;
    let (reason, message) = stage.condition("lost", "Accepted", "False", SOON).await?;
    ensure!(reason == "TargetNotFound", "{reason}: {message}");
    // The host is served all the same, with the certificate that Hale makes itself.
    let ask = Ask::get(&sealed, "/").https();
    stage
        .every_hale("the host with the broken Secret", &ask, |answer| {
            answer.want(200).map(drop)
        })
        .await?;

    stage.serves(&good, "/", &origin).await?;
    stage.condition("good", "Accepted", "True", SOON).await?;
    stage
        .condition("good", "Healthy", "True", SOON)
        .await
        .map(drop)
}

pub(crate) async fn of_two_policies_for_one_section_the_older_wins(
    stage: &Stage,
) -> anyhow::Result<()> {
    let origin = Origin::new("checkout", 1);
    let host = stage.host("www");
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&checking_policy("older", "checkout")).await?;
    stage.start(&[&origin]).await?;
    stage.condition("older", "Accepted", "True", SOON).await?;
    // The same second would let the names decide; "older" is later than "newer" there.
    let created = k8s_openapi::jiff::Timestamp::now().as_second();
    until("the clock's next second", SOON, || async {
        ensure!(k8s_openapi::jiff::Timestamp::now().as_second() > created + 1);
        Ok(())
    })
    .await?;
    stage.apply(&checking_policy("newer", "checkout")).await?;
    let (reason, message) = stage.condition("newer", "Accepted", "False", SOON).await?;
    ensure!(
        reason == "Conflicted" && message.contains("older"),
        "{reason}: {message}"
    );
    stage
        .event("UpstreamPolicy", "newer", "PolicyConflicted")
        .await?;
    stage.kubectl(&["delete", "upol", "older"]).await?;
    stage
        .condition("newer", "Accepted", "True", SOON)
        .await
        .map(drop)
}
