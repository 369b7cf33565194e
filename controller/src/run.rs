//! `hale run`: watch a cluster, serve it, and write back what was found.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hale_dataplane::AccessLog;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::{
    args::{Defaults, RunArgs, every_address},
    lease::{Candidate, Leadership},
    lifecycle::Lifecycle,
    process::{Process, ProcessError},
    publish::{Publisher, hold_off},
    settings::{ObjectKey, Settings},
    status,
    watch::{self, OwnServices, Watches},
};

/// Why `hale run` could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file of `--kubeconfig` cannot be used.
    #[error("cannot use --kubeconfig")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// There is no cluster to talk to.
    #[error("found neither a pod's service account nor a kubeconfig")]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// The API server cannot be spoken to.
    #[error("cannot make a client for the API server")]
    Client(#[source] Box<kube::Error>),
    /// A flag names an object that is not looked at.
    #[error("{flag} names {key}, which is outside of --watch-namespace={namespace}")]
    OutOfScope {
        /// The flag.
        flag: &'static str,
        /// What it names.
        key: ObjectKey,
        /// The only namespace that is looked at.
        namespace: String,
    },
    /// The process could not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// What `hale run` does where the command line says nothing.
pub fn defaults() -> Defaults {
    Defaults {
        listen: every_address(),
        redirect_to_443: true,
        allow_loopback_outbound: false,
        allow_outbound: Vec::new(),
        access_log: AccessLog::Stdout,
        shutdown_delay: Duration::from_secs(5),
    }
}

/// Serves the cluster until a signal.
pub async fn run(args: &RunArgs) -> Result<(), RunError> {
    let settings = args.objects.settings(false);
    check_scope(&settings)?;
    let (client, own_namespace) = client(args).await?;
    let identity = identity();
    let leadership = (!args.disable_leader_election).then(|| {
        let candidate = Candidate {
            namespace: args
                .election_namespace
                .clone()
                .or_else(|| std::env::var("POD_NAMESPACE").ok())
                .unwrap_or(own_namespace),
            name: args.election_id.clone(),
            identity: identity.clone(),
            ttl: args.election_ttl,
        };
        Leadership::stand(client.clone(), candidate)
    });
    let leads = match &leadership {
        Some(leadership) => leadership.leads(),
        None => status::always_leads(),
    };
    let process = Process::start(
        &args.proxy,
        &defaults(),
        settings.clone(),
        "the API server",
        Some(leads.clone()),
    )
    .await?;
    let watches = Arc::new(Watches::start(
        &client,
        settings.watch_namespace.as_deref(),
        OwnServices {
            published: args.publish_service.as_ref(),
            replicas: args
                .replicas_service
                .as_ref()
                .or(args.publish_service.as_ref()),
        },
        &process.metrics,
    ));
    watches.look_at_pods(&client, &process.publisher.newest());
    tokio::spawn(status::write(status::Writer {
        client,
        identity,
        watches: Arc::clone(&watches),
        newest: process.publisher.newest(),
        dataplane: process.dataplane.clone(),
        leads,
        addresses: args.publish_status_address.clone(),
        metrics: process.metrics.clone(),
    }));
    let work = serve(
        watches,
        Arc::clone(&process.publisher),
        process.lifecycle.clone(),
    );
    process.run(work).await;
    if let Some(leadership) = leadership {
        leadership.release().await;
    }
    Ok(())
}

/// Publishes a snapshot after each change, for ever.
async fn serve(watches: Arc<Watches>, publisher: Arc<Publisher>, lifecycle: Lifecycle) {
    // Nothing is published before everything was listed: a restart never answers 404 for a route that exists.
    while let Some(missing) = watches.missing() {
        lifecycle.waiting_for(missing);
        let _ = tokio::time::timeout(Duration::from_millis(500), watches.ticks.notified()).await;
    }
    // Nor 503 for a route whose Secrets are only late. What cannot be read refuses its own requests.
    lifecycle.waiting_for("the first listing of what policies refer to");
    let mut patience = watch::FIRST_PATIENCE;
    loop {
        let snapshot = watches.snapshot(patience).await;
        patience = watch::PATIENCE;
        let began = Instant::now();
        publisher.publish(snapshot.objects, snapshot.findings);
        hold_off::changed(&watches.ticks, &watches.urgent, began.elapsed()).await;
    }
}

fn check_scope(settings: &Settings) -> Result<(), RunError> {
    let Some(namespace) = &settings.watch_namespace else {
        return Ok(());
    };
    let named = [
        ("--default-backend-service", &settings.default_backend),
        ("--default-ssl-certificate", &settings.default_certificate),
    ];
    for (flag, key) in named {
        if let Some(key) = key
            && key.namespace != *namespace
        {
            return Err(RunError::OutOfScope {
                flag,
                key: key.clone(),
                namespace: namespace.clone(),
            });
        }
    }
    Ok(())
}

/// A client, and the namespace that it is at home in.
async fn client(args: &RunArgs) -> Result<(Client, String), RunError> {
    let config = match &args.kubeconfig {
        Some(path) => {
            let unusable = |error| RunError::Kubeconfig(Box::new(error));
            let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(unusable)?
        }
        None => kube::Config::infer()
            .await
            .map_err(|error| RunError::NoCluster(Box::new(error)))?,
    };
    let config = watch::with_limits(config, watch::SILENCE);
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| RunError::Client(Box::new(error)))?;
    Ok((client, namespace))
}

/// Who this replica is: the pod, or the machine and process.
fn identity() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}_{}", host.trim(), std::process::id())
    })
}
