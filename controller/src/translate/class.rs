//! Which Ingresses are ours.
//!
//! The class decides: `spec.ingressClassName`, else the legacy annotation, else the default class. A
//! class is ours by its `spec.controller`; a name alone counts only where no such IngressClass exists,
//! because charts are often installed without the right to make one. An Ingress of another class, or
//! of one that does not exist, is not ours to judge.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::ResourceExt;

use crate::{
    cluster::{Cluster, namespace},
    settings::Settings,
};

/// The annotation that came before `ingressClassName`.
pub(crate) const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// The annotation on an IngressClass that makes it the default.
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// Our Ingresses, the oldest first.
pub(super) fn ours<'a>(cluster: &'a Cluster, settings: &Settings) -> Vec<&'a Ingress> {
    let default = default_class(cluster, settings);
    cluster
        .ingresses()
        .iter()
        .map(AsRef::as_ref)
        .filter(|ingress| watched(settings, namespace(&ingress.metadata)))
        .filter(|ingress| is_ours(ingress, cluster, settings, default))
        .collect()
}

/// Whether a namespace is looked at.
pub(super) fn watched(settings: &Settings, namespace: &str) -> bool {
    settings
        .watch_namespace
        .as_deref()
        .is_none_or(|watched| watched == namespace)
}

/// Why an Ingress is not served, and what to do; `None` for one of ours.
pub(crate) fn why_not_ours(
    ingress: &Ingress,
    cluster: &Cluster,
    settings: &Settings,
) -> Option<String> {
    let own = namespace(&ingress.metadata);
    if !watched(settings, own) {
        let flag = settings.watch_namespace.as_deref().unwrap_or_default();
        return Some(format!(
            "namespace {own} is not watched: --watch-namespace is {flag}"
        ));
    }
    if is_ours(ingress, cluster, settings, default_class(cluster, settings)) {
        return None;
    }
    let classes = cluster.ingress_classes();
    let wanted = classes
        .iter()
        .find(|(_, class)| has_our_controller(class, settings))
        .map_or(settings.ingress_class.as_str(), |(name, _)| name);
    let why = match class_name(ingress) {
        None => "it names no class, and no default class is Hale's".to_owned(),
        Some(name) => match classes.get(name) {
            None => format!("there is no IngressClass {name}, which it names"),
            Some(class) => format!(
                "its class {name} belongs to the controller {}, not to {}",
                class
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.controller.as_deref())
                    .unwrap_or("of nobody"),
                settings.controller_class
            ),
        },
    };
    Some(format!("{why}: set spec.ingressClassName to {wanted}"))
}

/// The class that an Ingress names.
fn class_name(ingress: &Ingress) -> Option<&str> {
    ingress
        .spec
        .as_ref()
        .and_then(|spec| spec.ingress_class_name.as_deref())
        .or_else(|| {
            ingress
                .annotations()
                .get(CLASS_ANNOTATION)
                .map(String::as_str)
        })
}

fn is_ours(ingress: &Ingress, cluster: &Cluster, settings: &Settings, default: bool) -> bool {
    match class_name(ingress) {
        Some(name) => match cluster.ingress_classes().get(name) {
            Some(class) => has_our_controller(class, settings),
            None => name == settings.ingress_class,
        },
        None => default || settings.watch_ingress_without_class,
    }
}

fn has_our_controller(class: &IngressClass, settings: &Settings) -> bool {
    class
        .spec
        .as_ref()
        .and_then(|spec| spec.controller.as_deref())
        == Some(settings.controller_class.as_str())
}

/// Whether the default class is ours. The API server gives new Ingresses the youngest default class;
/// where Ingresses are older than their default class, any default class of ours counts.
fn default_class(cluster: &Cluster, settings: &Settings) -> bool {
    let classes: &BTreeMap<_, _> = cluster.ingress_classes();
    classes.values().any(|class| {
        has_our_controller(class, settings)
            && class
                .annotations()
                .get(DEFAULT_ANNOTATION)
                .is_some_and(|value| value == "true")
    })
}
