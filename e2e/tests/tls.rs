//! Certificates: which one is shown, and their change.

use crate::origin::{Origin, ingress};
use crate::stage::Stage;
use anyhow::{Context as _, ensure};
use hale_e2e::client::Ask;
use rustls_pki_types::CertificateDer;

/// A certificate that signs itself.
struct Made {
    der: CertificateDer<'static>,
    pem: String,
    /// The Secret with it and its key.
    secret: String,
}

fn certificate(name: &str, host: &str) -> anyhow::Result<Made> {
    let made = rcgen::generate_simple_self_signed([host.to_owned()])?;
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name},
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
    });
    Ok(Made {
        der: made.cert.der().clone(),
        pem: made.cert.pem(),
        secret: secret.to_string(),
    })
}

fn with_tls(ingress: &str, host: &str, secret: &str) -> String {
    ingress.replace(
        "spec:\n",
        &format!("spec:\n  tls: [{{hosts: [\"{host}\"], secretName: {secret}}}]\n"),
    )
}

async fn shows(stage: &Stage, host: &str, wanted: &CertificateDer<'static>) -> anyhow::Result<()> {
    stage
        .every_hale(
            &format!("{host} to show its certificate"),
            &Ask::get(host, "/").https(),
            |answer| {
                let answer = answer.want(200)?;
                ensure!(
                    answer.certificate.as_ref() == Some(wanted),
                    "it shows another certificate"
                );
                Ok(())
            },
        )
        .await
}

pub(crate) async fn each_host_shows_its_own_certificate_and_a_rotation_needs_no_restart(
    stage: &Stage,
) -> anyhow::Result<()> {
    let one = Origin::new("one", 1);
    let (first, second, wild) = (
        stage.host("first"),
        stage.host("second"),
        stage.host("a.wild"),
    );
    let pattern = format!("*.{}", stage.host("wild"));
    let first_made = certificate("first", &first)?;
    let second_made = certificate("second", &second)?;
    let wild_made = certificate("wild", &pattern)?;
    for (name, host, made) in [
        ("first", &first, &first_made),
        ("second", &second, &second_made),
        ("wild", &pattern, &wild_made),
    ] {
        stage.apply(&made.secret).await?;
        stage
            .apply(&with_tls(&ingress(name, host, "one"), host, name))
            .await?;
    }
    stage.start(&[&one]).await?;
    shows(stage, &first, &first_made.der).await?;
    shows(stage, &second, &second_made.der).await?;
    shows(stage, &wild, &wild_made.der).await?;

    // In clear text such a host answers with a redirect, but not to the certificate authority.
    let answer = stage.get(&first, "/path?query=1").await?.want(308)?;
    let target = answer.header("location");
    ensure!(
        target == format!("https://{first}/path?query=1"),
        "redirected to {target}"
    );
    let challenge = stage
        .get(&first, "/.well-known/acme-challenge/token")
        .await?
        .want(200)?;
    ensure!(
        challenge.json()?["name"] == "one",
        "{}",
        challenge.summary()
    );

    let renewed = certificate("first", &first)?;
    stage.apply(&renewed.secret).await?;
    shows(stage, &first, &renewed.der).await?;
    shows(stage, &second, &second_made.der).await?;

    // Where no certificate fits Hale makes one itself; the request is judged after the handshake.
    let stranger = stage
        .send(&Ask::get(&stage.host("stranger"), "/").https())
        .await?
        .want(404)?;
    let shown = stranger.certificate.context("no certificate was shown")?;
    ensure!(
        ![&renewed.der, &second_made.der, &wild_made.der].contains(&&shown),
        "it shows somebody's certificate"
    );
    Ok(())
}

/// A policy that wants TLS of the peers and trusts the `ca.crt` of a ConfigMap.
fn trusting(config_map: &str, hostname: &str) -> String {
    format!(
        "\napiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata: {{name: checkout}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: checkout, sectionName: http}}]\n  \
         tls: {{hostname: {hostname}, caCertificateRefs: [{{kind: ConfigMap, name: {config_map}}}]}}\n"
    )
}

pub(crate) async fn tls_to_the_peers_is_verified(stage: &Stage) -> anyhow::Result<()> {
    let origin = Origin {
        tls: Some("peer"),
        ..Origin::new("checkout", 1)
    };
    let host = stage.host("www");
    let own = certificate("peer", "checkout.internal")?;
    let stranger = certificate("stranger", "checkout.internal")?;
    stage.apply(&own.secret).await?;
    for (name, authority) in [("right", &own.pem), ("wrong", &stranger.pem)] {
        let map = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": authority},
        });
        stage.apply(&map.to_string()).await?;
    }
    stage.apply(&ingress("shop", &host, "checkout")).await?;
    stage.apply(&trusting("right", "checkout.internal")).await?;
    stage.start(&[&origin]).await?;
    stage.serves(&host, "/", &origin).await?;

    // Another authority, another name, or none that can be found: never without verification.
    for (map, name, reason) in [
        ("wrong", "checkout.internal", "TlsError"),
        ("right", "other.internal", "TlsError"),
        ("missing", "checkout.internal", ""),
    ] {
        stage.apply(&trusting(map, name)).await?;
        let what = format!("the refusal of {map}, {name}");
        stage
            .every_hale(&what, &Ask::get(&host, "/"), |answer| {
                ensure!(
                    [502, 503].contains(&answer.status.as_u16()),
                    "{}",
                    answer.summary()
                );
                ensure!(
                    answer.header("x-hale-reason").contains(reason),
                    "{}",
                    answer.summary()
                );
                Ok(())
            })
            .await?;
    }
    stage.apply(&trusting("right", "checkout.internal")).await?;
    stage.serves(&host, "/", &origin).await
}
