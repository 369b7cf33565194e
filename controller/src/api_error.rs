//! What the API server, or the way to it, says when something fails: one line for a log.

/// The error and its causes, each once. What RBAC refuses is said with what to do.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{} (the role of Hale's service account lacks a rule)",
            status.message
        ),
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let said = cause.to_string();
                if !text.contains(&said) {
                    text = format!("{text}: {said}");
                }
                source = cause.source();
            }
            text
        }
    }
}
