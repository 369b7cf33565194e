//! What users of Hale declare: the `UpstreamPolicy` custom resource.
