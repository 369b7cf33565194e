//! Certificates: which one is shown, and their change.

use crate::origin::{Origin, ingress};
use crate::stage::Stage;
use anyhow::{Context as _, ensure};
use hale_e2e::client::Ask;
use rustls_pki_types::CertificateDer;

/// A certificate that signs itself, and its Secret.
fn secret(name: &str, hosts: &[&str]) -> anyhow::Result<(CertificateDer<'static>, String)> {
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names)?;
    let manifest = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name},
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
    });
    Ok((made.cert.der().clone(), manifest.to_string()))
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
    let (first_certificate, first_secret) = secret("first", &[&first])?;
    let (second_certificate, second_secret) = secret("second", &[&second])?;
    let (wild_certificate, wild_secret) = secret("wild", &[&pattern])?;
    for (name, host, manifest) in [
        ("first", &first, &first_secret),
        ("second", &second, &second_secret),
        ("wild", &pattern, &wild_secret),
    ] {
        stage.apply(manifest).await?;
        stage
            .apply(&with_tls(&ingress(name, host, "one"), host, name))
            .await?;
    }
    stage.start(&[&one]).await?;
    shows(stage, &first, &first_certificate).await?;
    shows(stage, &second, &second_certificate).await?;
    shows(stage, &wild, &wild_certificate).await?;

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

    let (renewed, manifest) = secret("first", &[&first])?;
    stage.apply(&manifest).await?;
    shows(stage, &first, &renewed).await?;
    shows(stage, &second, &second_certificate).await?;

    // Where no certificate fits Hale makes one itself; the request is judged after the handshake.
    let stranger = stage
        .send(&Ask::get(&stage.host("stranger"), "/").https())
        .await?
        .want(404)?;
    let shown = stranger.certificate.context("no certificate was shown")?;
    ensure!(
        ![&renewed, &second_certificate, &wild_certificate].contains(&&shown),
        "it shows somebody's certificate"
    );
    Ok(())
}
