//! `hale crds`: what is installed, made from the same types that read it.

/// The CustomResourceDefinition as YAML.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let yaml = serde_saphyr::to_string(&hale_crds::crd())?;
    Ok(format!("# Printed by `hale crds`; do not edit.\n{yaml}"))
}
