//! The whole product on a real cluster: one cluster and one installation for
//! all scenarios, a namespace for each.
//!
//! A scenario's name says what it shows. Those that disturb everybody (an
//! upgrade, the API server's end) run alone; the others a few at a time, which
//! is what waiting allows. `cargo test -p hale-e2e -- NAME` runs those whose
//! name has NAME in it.

mod broken;
mod crd;
mod health;
mod lifecycle;
mod origin;
mod outage;
mod rollout;
mod routing;
mod stage;
mod tls;

use hale_e2e::cluster::Cluster;
use hale_e2e::sandbox::{self, Place};
use libtest_mimic::{Arguments, Trial};
use stage::{Scenario, World, alone, beside};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Scenarios mostly wait; more at a time than this would make each other late.
const AT_A_TIME: usize = 3;

fn scenarios() -> Vec<Scenario> {
    vec![
        beside!(lifecycle::helm_installs_into_a_restricted_namespace_and_helm_test_passes),
        beside!(crd::the_api_server_takes_the_crd_without_a_warning),
        beside!(crd::kubectl_explain_reads_like_documentation),
        beside!(crd::wrong_policies_are_refused_with_understandable_messages),
        beside!(crd::right_policies_are_accepted),
        beside!(routing::hosts_and_paths_reach_their_services),
        beside!(routing::a_default_backend_takes_what_no_rule_matches),
        beside!(routing::ports_are_found_by_name_and_by_number),
        beside!(routing::http2_is_spoken_on_both_sides),
        beside!(routing::websockets_are_tunnelled),
        beside!(routing::grpc_passes_with_its_trailers),
        beside!(routing::the_older_ingress_keeps_a_host_until_it_goes),
        beside!(tls::each_host_shows_its_own_certificate_and_a_rotation_needs_no_restart),
        beside!(health::ready_pods_that_fail_the_check_leave_traffic_in_time_and_come_back),
        beside!(health::when_all_fail_the_503_says_why_and_recovery_is_prompt),
        beside!(health::readiness_and_check_that_disagree_are_reported),
        beside!(health::a_tcp_check_on_another_port_decides),
        beside!(rollout::a_rolling_restart_under_load_fails_no_request),
        beside!(rollout::scaling_to_zero_is_explained_and_back_again_served),
        beside!(broken::a_broken_ingress_policy_and_secret_cost_only_themselves),
        beside!(broken::of_two_policies_for_one_section_the_older_wins),
        alone!(lifecycle::the_address_of_the_published_service_is_in_the_status_of_ingresses),
        alone!(outage::the_leader_killed_the_other_goes_on_with_statuses),
        alone!(outage::a_minute_without_the_api_server_fails_no_request),
        alone!(lifecycle::helm_upgrade_fails_no_request),
        alone!(lifecycle::helm_uninstall_keeps_the_crd_and_the_policies),
    ]
}

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    let mut scenarios = scenarios();
    scenarios.retain(|scenario| wanted(&arguments, &scenario.name));
    if arguments.list || scenarios.is_empty() {
        let trials = scenarios
            .into_iter()
            .map(|scenario| Trial::test(scenario.name, || Ok(())));
        return Ok(libtest_mimic::run(&arguments, trials.collect()).exit_code());
    }
    let place = sandbox::place();
    if let Place::Outside = place {
        return sandbox::supervise(Path::new(env!("CARGO_BIN_EXE_origin")));
    }
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let runtime = tokio::runtime::Runtime::new()?;
    let (cluster, logs) = match &place {
        Place::Inside(folder) => {
            sandbox::settle(folder)?;
            (
                runtime.block_on(Cluster::start(folder))?,
                folder.join("logs"),
            )
        }
        Place::Existing(kubeconfig) => {
            let logs = std::env::temp_dir().join(format!("hale-e2e-logs-{}", std::process::id()));
            std::fs::create_dir_all(&logs)?;
            (runtime.block_on(Cluster::existing(kubeconfig))?, logs)
        }
        Place::Outside => anyhow::bail!("outside, the cluster is not there"),
    };
    let world = Arc::new(runtime.block_on(World::install(cluster, logs))?);
    let trials = scenarios.into_iter().map(|scenario| {
        let (world, handle) = (world.clone(), runtime.handle().clone());
        Trial::test(scenario.name.clone(), move || {
            handle
                .block_on(world.run(scenario))
                .map_err(|error| format!("{error:#}").into())
        })
    });
    Ok(libtest_mimic::run(&arguments, trials.collect()).exit_code())
}

/// The choice that libtest-mimic will make, too: no cluster is started for nothing.
fn wanted(arguments: &Arguments, name: &str) -> bool {
    let fits = |pattern: &String| {
        if arguments.exact {
            name == pattern
        } else {
            name.contains(pattern)
        }
    };
    arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
}
