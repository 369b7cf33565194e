#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";

fn read_text(text: &str) -> Result<Manifests, String> {
    parse(Path::new("a.yaml"), text).map_err(|error| error.to_string())
}

fn error(text: &str) -> String {
    read_text(text).expect_err("an error")
}

#[test]
fn many_documents_lists_and_empty_ones() {
    let text = format!(
        "# a comment\n---\n{SERVICE}---\n\n# nothing\n--- # next\napiVersion: v1\nkind: List\nitems:\n\
         - apiVersion: v1\n  kind: Secret\n  metadata: {{name: s, namespace: x}}\n  stringData: {{a: b}}\n\
         - apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: c}}\n  data: {{t: \"---\\n\"}}\n...\n"
    );
    let manifests = read_text(&text).unwrap();
    let objects = manifests.objects;
    assert_eq!(objects.services.len(), 1);
    assert_eq!(
        objects.services[0].metadata.namespace.as_deref(),
        Some("default")
    );
    let secret = &objects.secrets[0];
    assert_eq!(secret.metadata.namespace.as_deref(), Some("x"));
    assert_eq!(secret.data.as_ref().unwrap()["a"].0, b"b");
    assert_eq!(objects.config_maps.len(), 1);
}

#[test]
fn secrets_are_as_the_api_server_would_store_them() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: x, labels: {keys: shop}}\n\
                type: Opaque\nimmutable: true\n\
                data: {alice: YQ==, auth: YQ==}\nstringData: {auth: \"bob:$apr1$x\", secretAccessKey: k}\n";
    let manifests = read_text(text).unwrap();
    let secret = &manifests.objects.secrets[0];
    let data = secret.data.as_ref().unwrap();
    assert_eq!(data["alice"].0, b"a");
    assert_eq!(data["auth"].0, b"bob:$apr1$x", "stringData goes first");
    assert_eq!(data["secretAccessKey"].0, b"k");
    assert_eq!(secret.string_data, None);
    assert_eq!(secret.metadata.labels.as_ref().unwrap()["keys"], "shop");
}

#[test]
fn an_error_does_not_tell_what_a_secret_holds() {
    let data = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  auth: confidential!\n";
    let text =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  auth: [confidential]\n";
    for text in [
        data,
        text,
        &text.replace("[confidential]", "&a !!int confidential"),
    ] {
        let error = error(text);
        assert!(!error.contains("confidential"), "{error}");
    }
}

#[test]
fn text_with_markers_in_a_block_is_one_document() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  ca.crt: |\n    ---\n    x\n";
    assert_eq!(read_text(text).unwrap().objects.config_maps.len(), 1);
}

#[test]
fn json_is_read() {
    let text = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}"#;
    assert_eq!(read_text(text).unwrap().objects.services.len(), 1);
}

#[test]
fn other_kinds_are_left_out_with_a_notice() {
    let manifests =
        read_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n").unwrap();
    let [finding] = manifests.findings.as_slice() else {
        panic!("{:?}", manifests.findings);
    };
    assert_eq!(finding.reason, FindingReason::KindIgnored);
    assert_eq!(
        finding.message,
        "kind Deployment of apps/v1 is left out: Hale does not read it"
    );
}

#[test]
fn errors_name_file_document_line_and_what_is_wrong() {
    let cases = [
        (
            format!("{SERVICE}---\napiVersion: v1\nkind: Service\nmetadata: {{name: b}}\nspec:\n  prots: []\n  portz: [{{port: 1}}]\n"),
            "a.yaml, line 11 (document 2): Service default/b: unknown field spec.portz",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports:\n  - port: 80\n    nam: x\n"
                .to_owned(),
            "a.yaml, line 7 (document 1): Service default/b: unknown field spec.ports[0].nam",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec:\n  ports:\n  - port: eighty\n".to_owned(),
            "a.yaml, line 6 (document 1): Service default/b: spec.ports[0].port: invalid type: string \"eighty\", expected i32",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: [\n".to_owned(),
            "a.yaml, line 4 (document 1): unclosed bracket '['",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {}\n".to_owned(),
            "a.yaml, line 3 (document 1): the object has no metadata.name",
        ),
        (
            "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: a}\n".to_owned(),
            "a.yaml, line 1 (document 1): apiVersion extensions/v1beta1 of kind Ingress is not read: use networking.k8s.io/v1",
        ),
        (
            format!("{SERVICE}---\n{SERVICE}"),
            "a.yaml, line 6 (document 2): Service default/a is already in a.yaml, document 1",
        ),
        ("- a\n".to_owned(), "a.yaml, line 1 (document 1): the document is not an object"),
        (
            "metadata: {name: a}\n".to_owned(),
            "a.yaml, line 1 (document 1): the object has no apiVersion or no kind",
        ),
    ];
    for (text, wanted) in cases {
        let error = error(&text);
        assert!(error.starts_with(wanted), "{error}\nwanted {wanted}");
    }
}

/// A policy whose spec goes on after its target, which ends in line 7.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: hale-ingress.io/v1alpha1\nkind: UpstreamPolicy\nmetadata:\n  name: p\n  namespace: shop\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: web}}]\n{spec}"
    )
}

#[test]
fn a_value_that_does_not_fit_is_named_with_its_object_its_path_and_its_line() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: web}\n\
                - apiVersion: v1\n  kind: Secret\n  metadata:\n    name: users\n  data:\n    auth: \"not base64!\"\n";
    let cases = [
        (
            policy("  healthCheck:\n    active:\n      interval: 1\n"),
            "a.yaml, line 10 (document 1): UpstreamPolicy shop/p: spec.healthCheck.active.interval: invalid type: \
             integer `1`, expected a string",
        ),
        (
            policy("  healthCheck:\n    active:\n      intervall: 1s\n      interval: 1s\n"),
            "a.yaml, line 10 (document 1): UpstreamPolicy shop/p: unknown field spec.healthCheck.active.intervall",
        ),
        (
            policy("  auth:\n    anyOf:\n    - basic: {secretRef: {name: a}}\n    - jwt:\n        audiences: [a]\n"),
            "a.yaml, line 11 (document 1): UpstreamPolicy shop/p: spec.auth.anyOf[1].jwt: missing field `issuer`",
        ),
        (
            policy("  loadBalancer:\n    type: Random\n"),
            "a.yaml, line 9 (document 1): UpstreamPolicy shop/p: spec.loadBalancer.type: unknown variant `Random`",
        ),
        (
            format!("{SERVICE}---\n{list}"),
            "a.yaml, line 17 (document 2): Secret default/users: data.auth: not base64: encode the value, or write it \
             below stringData",
        ),
        (
            list.replace("  data:", "  dada:"),
            "a.yaml, line 11 (document 1): Secret default/users: unknown field dada",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  a: b\n  pin: 4711\n".to_owned(),
            "a.yaml, line 6 (document 1): Secret default/s: stringData.pin: invalid type: integer, expected a string",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: hale}\nspec: {controller: [a]}\n"
                .to_owned(),
            "a.yaml, line 4 (document 1): IngressClass hale: spec.controller: invalid type: sequence",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n\
             - {apiVersion: v1, kind: Service, metadata: {name: a}}\n"
                .to_owned(),
            "a.yaml, line 5 (document 1): Service default/a is already in a.yaml, document 1",
        ),
        (
            "{\n \"apiVersion\": \"v1\",\n \"kind\": \"Service\",\n \"metadata\": {\n  \"name\": 7\n }\n}\n".to_owned(),
            "a.yaml, line 5 (document 1): Service: metadata.name: invalid type: integer `7`, expected a string",
        ),
    ];
    for (text, wanted) in cases {
        let error = error(&text);
        assert!(error.starts_with(wanted), "{error}\nwanted {wanted}");
    }
}

#[test]
fn a_folder_is_read_in_the_order_of_names() {
    let folder = std::env::temp_dir().join(format!("hale-manifests-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("b.yaml"), SERVICE).unwrap();
    std::fs::write(
        folder.join("sub/a.yml"),
        SERVICE.replace("name: a", "name: b"),
    )
    .unwrap();
    std::fs::write(folder.join(".hidden.yaml"), "broken: [").unwrap();
    std::fs::write(folder.join("readme.txt"), "broken: [").unwrap();
    let manifests = load(&folder).unwrap();
    let names: Vec<_> = manifests
        .objects
        .services
        .iter()
        .map(|service| service.metadata.name.clone().unwrap())
        .collect();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(names, ["a", "b"]);
    assert!(matches!(load(&folder), Err(LoadError::Read { .. })));
}
