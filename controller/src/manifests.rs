//! The objects of a cluster, from a folder of YAML files.
//!
//! Files are read as the API server would read them: a field that no kind has is an error, because a
//! misspelt field that is ignored is a bug that nobody sees. One error refuses the whole folder, so
//! that the caller keeps the last good set; it names the file, the document, the line, the object and the field.

mod blame;
mod document;
mod places;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use hale_crds::UpstreamPolicy;
use hale_dataplane::config::ObjectRef;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Pod, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cluster::{Objects, PodView},
    finding::{Finding, FindingReason, Severity},
};

use blame::blamed;
use document::{Document, split};
use places::Step;

/// What a folder holds.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The objects of all files.
    pub objects: Objects,
    /// Documents that were left out: kinds that Hale does not read.
    pub findings: Vec<Finding>,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or the folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A document is not an object that Hale can take.
    #[error("{}, line {line} (document {document}): {message}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        document: usize,
        /// Counts from 1, in the file.
        line: u64,
        /// What is wrong.
        message: String,
    },
}

/// Reads all `*.yaml`, `*.yml` and `*.json` files of a folder and of the folders below it, in the order of
/// their names; or one file. Names that begin with a dot are left out.
///
/// # Errors
/// If a file cannot be read, or a document is wrong.
pub fn load(folder: &Path) -> Result<Manifests, LoadError> {
    let mut reader = Reader::default();
    for path in files(folder)? {
        let text = std::fs::read_to_string(&path).map_err(|source| LoadError::Read {
            path: path.clone(),
            source,
        })?;
        reader.file(&path, &text)?;
    }
    Ok(reader.manifests)
}

/// Reads the text of one file.
///
/// # Errors
/// If a document is wrong.
pub fn parse(path: &Path, text: &str) -> Result<Manifests, LoadError> {
    let mut reader = Reader::default();
    reader.file(path, text)?;
    Ok(reader.manifests)
}

fn files(given: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let read = |path: &Path, source| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    // A file that is named is read, whatever its name.
    if !std::fs::metadata(given)
        .map_err(|error| read(given, error))?
        .is_dir()
    {
        return Ok(vec![given.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![given.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|error| read(&folder, error))? {
            let path = entry.map_err(|error| read(&folder, error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            // Follows links: Kubernetes mounts ConfigMaps as links.
            let metadata = std::fs::metadata(&path).map_err(|error| read(&path, error))?;
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            if metadata.is_dir() {
                folders.push(path);
            } else if ["yaml", "yml", "json"].contains(&&*extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Objects as they are collected, and where each was found.
#[derive(Default)]
struct Reader {
    manifests: Manifests,
    seen: BTreeMap<(String, String, String), String>,
}

impl Reader {
    fn file(&mut self, path: &Path, text: &str) -> Result<(), LoadError> {
        for document in split(text) {
            let wrong = |(line, message)| LoadError::Document {
                path: path.to_owned(),
                document: document.number,
                line,
                message,
            };
            if let Some(value) = document.value().map_err(wrong)? {
                self.object(path, &document, &[], value).map_err(wrong)?;
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        path: &Path,
        document: &Document<'_>,
        at: &[Step],
        value: serde_json::Value,
    ) -> Result<(), (u64, String)> {
        let wrong = |message: &str| Err((document.line_of(at), message.to_owned()));
        let Some(map) = value.as_object() else {
            return wrong("the document is not an object");
        };
        let text = |name: &str| map.get(name).and_then(serde_json::Value::as_str);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            return wrong("the object has no apiVersion or no kind");
        };
        if kind.ends_with("List")
            && let Some(items) = map.get("items").and_then(serde_json::Value::as_array)
        {
            for (index, item) in items.iter().enumerate() {
                let at = [at, &[Step::Field("items".to_owned()), Step::Item(index)]].concat();
                self.object(path, document, &at, item.clone())?;
            }
            return Ok(());
        }
        let objects = &mut self.manifests.objects;
        let metadata = match (api_version, kind) {
            ("networking.k8s.io/v1", "Ingress") => {
                read(document, at, &value, &mut objects.ingresses)?
            }
            ("networking.k8s.io/v1", "IngressClass") => {
                read(document, at, &value, &mut objects.ingress_classes)?
            }
            ("v1", "Service") => read(document, at, &value, &mut objects.services)?,
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                read(document, at, &value, &mut objects.endpoint_slices)?
            }
            ("v1", "Secret") => read(document, at, &value, &mut objects.secrets)?,
            ("v1", "ConfigMap") => read(document, at, &value, &mut objects.config_maps)?,
            ("v1", "Pod") => {
                let mut pods: Vec<Arc<Pod>> = Vec::new();
                let metadata = read(document, at, &value, &mut pods)?;
                let pods = pods.into_iter().map(Arc::unwrap_or_clone);
                objects.pods.extend(pods.map(PodView::of).map(Arc::new));
                metadata
            }
            ("hale-ingress.io/v1alpha1", "UpstreamPolicy") => {
                read(document, at, &value, &mut objects.policies)?
            }
            _ => {
                if let Some(wanted) = version_of(kind) {
                    let line = line_of(document, at, "apiVersion");
                    let message = format!(
                        "apiVersion {api_version} of kind {kind} is not read: use {wanted}"
                    );
                    return Err((line, message));
                }
                let finding = ignored(path, document, api_version, kind);
                self.manifests.findings.push(finding);
                return Ok(());
            }
        };
        self.unique(path, document, at, metadata)
    }

    fn unique(
        &mut self,
        path: &Path,
        document: &Document<'_>,
        at: &[Step],
        (kind, metadata): (&str, ObjectMeta),
    ) -> Result<(), (u64, String)> {
        let name = metadata.name.unwrap_or_default();
        let namespace = metadata.namespace.unwrap_or_default();
        let place = format!("{}, document {}", path.display(), document.number);
        let key = (kind.to_owned(), namespace, name);
        match self.seen.get(&key) {
            Some(before) => {
                let (kind, namespace, name) = key;
                let message = format!("{kind} {namespace}/{name} is already in {before}");
                Err((document.line_of(at), message))
            }
            None => {
                self.seen.insert(key, place);
                Ok(())
            }
        }
    }
}

/// The apiVersion that is read of a kind.
fn version_of(kind: &str) -> Option<&'static str> {
    match kind {
        "Ingress" | "IngressClass" => Some("networking.k8s.io/v1"),
        "Service" | "Secret" | "ConfigMap" | "Pod" => Some("v1"),
        "EndpointSlice" => Some("discovery.k8s.io/v1"),
        "UpstreamPolicy" => Some("hale-ingress.io/v1alpha1"),
        _ => None,
    }
}

fn ignored(path: &Path, document: &Document<'_>, api_version: &str, kind: &str) -> Finding {
    Finding {
        object: ObjectRef {
            kind: "Manifest",
            namespace: path.display().to_string(),
            name: format!("document {}", document.number),
        },
        reason: FindingReason::KindIgnored,
        severity: Severity::Notice,
        message: format!("kind {kind} of {api_version} is left out: Hale does not read it"),
    }
}

/// A kind that is read.
trait Object: DeserializeOwned + Serialize {
    const KIND: &'static str;
    const NAMESPACED: bool = true;

    fn metadata(&mut self) -> &mut ObjectMeta;

    /// Does what the API server does when it stores an object.
    fn store(&mut self) {}
}

macro_rules! objects {
    ($($kind:ident,)*) => {
        $(impl Object for $kind {
            const KIND: &'static str = stringify!($kind);

            fn metadata(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        })*
    };
}

objects!(
    Ingress,
    Service,
    EndpointSlice,
    ConfigMap,
    Pod,
    UpstreamPolicy,
);

impl Object for IngressClass {
    const KIND: &'static str = "IngressClass";
    const NAMESPACED: bool = false;

    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Object for Secret {
    const KIND: &'static str = "Secret";

    fn metadata(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn store(&mut self) {
        for (name, text) in self.string_data.take().into_iter().flatten() {
            let bytes = k8s_openapi::ByteString(text.into_bytes());
            self.data.get_or_insert_default().insert(name, bytes);
        }
    }
}

fn read<T: Object>(
    document: &Document<'_>,
    at: &[Step],
    value: &serde_json::Value,
    objects: &mut Vec<Arc<T>>,
) -> Result<(&'static str, ObjectMeta), (u64, String)> {
    let mut object: T = document
        .typed(at, value)
        .map_err(|fault| (fault.line, blamed::<T>(value, fault)))?;
    object.store();
    let metadata = object.metadata();
    if metadata.name.as_deref().unwrap_or_default().is_empty() {
        let line = line_of(document, at, "metadata");
        return Err((line, "the object has no metadata.name".to_owned()));
    }
    if T::NAMESPACED {
        metadata
            .namespace
            .get_or_insert_with(|| "default".to_owned());
    }
    let metadata = metadata.clone();
    objects.push(Arc::new(object));
    Ok((T::KIND, metadata))
}

fn line_of(document: &Document<'_>, at: &[Step], field: &str) -> u64 {
    document.line_of(&[at, &[Step::Field(field.to_owned())]].concat())
}

#[cfg(test)]
mod tests;
