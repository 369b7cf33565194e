//! What is said of an object that cannot be taken: which one it is, which of its fields, and what is wrong there. Of a
//! Secret nothing that it holds is said.

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::{
    Object,
    places::{Step, Steps},
};

/// What is wrong with an object.
pub(super) struct Fault {
    /// The line of the file.
    pub(super) line: u64,
    /// Where in the object; nothing where the message says it.
    pub(super) path: Vec<Step>,
    pub(super) message: String,
}

/// `UpstreamPolicy shop/checkout: spec.timeouts.connect: invalid type: …`.
pub(super) fn blamed<T: Object>(value: &Value, fault: Fault) -> String {
    let metadata = |name: &str| value.get("metadata")?.get(name)?.as_str();
    let mut text = T::KIND.to_owned();
    if let Some(name) = metadata("name") {
        text.push(' ');
        if T::NAMESPACED {
            text.push_str(metadata("namespace").unwrap_or("default"));
            text.push('/');
        }
        text.push_str(name);
    }
    if !fault.path.is_empty() {
        text.push_str(&format!(": {}", Steps(&fault.path)));
    }
    let message = if T::KIND == Secret::KIND {
        without_values(&fault)
    } else {
        fault.message
    };
    format!("{text}: {message}")
}

/// What is wrong with a Secret, without anything of what it holds.
fn without_values(fault: &Fault) -> String {
    let message = fault.message.as_str();
    let in_data = fault.path.first() == Some(&Step::Field("data".to_owned()));
    // Decoders tell the byte that they cannot take.
    if in_data && !message.starts_with("invalid type") {
        return "not base64: encode the value, or write it below stringData".to_owned();
    }
    match (message.find(['`', '"']), message.rfind(", expected ")) {
        (Some(from), Some(to)) if from < to => {
            format!("{}{}", message[..from].trim_end(), &message[to..])
        }
        _ => message.to_owned(),
    }
}
