//! The command line as people type it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
}

fn run(line: &str) -> RunArgs {
    match parse(line).unwrap().command {
        Command::Run(args) => *args,
        other => panic!("not run: {other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_its_environment_variable() {
    let command = Cli::command();
    let all = command.get_subcommands().chain([&command]);
    for argument in all.flat_map(clap::Command::get_arguments) {
        let Some(long) = argument.get_long() else {
            continue;
        };
        if matches!(long, "help" | "version") {
            continue;
        }
        let wanted = format!("HALE_{}", long.to_uppercase().replace('-', "_"));
        let found = argument
            .get_env()
            .map(|name| name.to_string_lossy().into_owned());
        assert_eq!(found.as_deref(), Some(wanted.as_str()), "--{long}");
    }
}

#[test]
fn the_line_that_the_chart_writes_is_understood() {
    let args = run(
        "hale run --ingress-class=hale --controller-class=hale-ingress.io/controller \
         --watch-ingress-without-class=true --election-id=hale-leader \
         --publish-service=ingress/hale --replicas-service=ingress/hale --watch-namespace=shop --http-port=8080 --https-port=8443 \
         --healthz-port=10254 --shutdown-delay=10s --shutdown-grace-period=285s",
    );
    assert!(args.objects.watch_ingress_without_class);
    assert_eq!(args.proxy.shutdown_grace_period, Duration::from_secs(285));
    assert_eq!(args.publish_service.unwrap().to_string(), "ingress/hale");
    assert_eq!(args.replicas_service.unwrap().to_string(), "ingress/hale");
}

#[test]
fn switches_take_a_value_or_none() {
    assert!(run("hale run").objects.ssl_redirect);
    assert!(!run("hale run --ssl-redirect=false").objects.ssl_redirect);
    assert!(run("hale run --disable-leader-election").disable_leader_election);
}

#[test]
fn slashes_are_kept_unless_a_flag_says_otherwise() {
    let objects = run("hale run").objects;
    assert_eq!(objects.escaped_slashes, EscapedSlashes::Keep);
    assert_eq!(objects.repeated_slashes, RepeatedSlashes::Keep);
    let objects = run("hale run --escaped-slashes=Reject --repeated-slashes merge").objects;
    assert_eq!(objects.escaped_slashes, EscapedSlashes::Reject);
    assert_eq!(objects.repeated_slashes, RepeatedSlashes::Merge);
    assert!(parse("hale run --escaped-slashes=Merge").is_err());
}

#[test]
fn the_proxy_protocol_is_for_proxies_that_are_named() {
    let message = parse("hale run --use-proxy-protocol").expect_err("of whom?");
    assert!(message.contains("--trusted-proxy-cidr"), "{message}");
    let args = run("hale run --use-proxy-protocol --trusted-proxy-cidr 10.0.0.0/8");
    assert!(args.proxy.use_proxy_protocol);
    assert!(
        !run("hale run --trusted-proxy-cidr 10.0.0.0/8")
            .proxy
            .use_proxy_protocol
    );
}

#[test]
fn lists_take_commas_and_repeats() {
    let args = run("hale run --explain-cidr 10.0.0.0/8,192.168.0.7 --explain-cidr ::1/128");
    let text: Vec<_> = args
        .proxy
        .explain_cidr
        .iter()
        .map(IpNet::to_string)
        .collect();
    assert_eq!(text, ["10.0.0.0/8", "192.168.0.7/32", "::1/128"]);
    let args = run("hale run --publish-status-address 192.0.2.1,lb.example.com");
    assert_eq!(args.publish_status_address, ["192.0.2.1", "lb.example.com"]);
}

#[test]
fn wrong_values_are_explained() {
    let cases = [
        ("hale run --shutdown-delay 5", "write a number and a unit"),
        ("hale run --explain-cidr ten", "neither a CIDR"),
        ("hale run --default-backend-service shop", "NAMESPACE/NAME"),
        (
            "hale run --publish-service a/b --publish-status-address 1.2.3.4",
            "cannot be used with",
        ),
        ("hale serve", "--manifests"),
    ];
    for (line, wanted) in cases {
        let message = parse(line).expect_err(line);
        assert!(message.contains(wanted), "{line}: {message}");
    }
}
