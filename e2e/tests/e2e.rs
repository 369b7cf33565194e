//! The whole product on a real cluster: one cluster and one installation for
//! all scenarios, a namespace for each.
//!
//! A scenario's name says what it shows. Those that disturb everybody (an
//! upgrade, the API server's end) run alone; the others a few at a time, which
//! is what waiting allows. `cargo test -p hale-e2e -- NAME` runs those whose
//! name has NAME in it.

mod access;
mod broken;
mod crd;
mod engine;
mod health;
mod lifecycle;
mod origin;
mod outage;
mod policies;
mod reasons;
mod rollout;
mod routing;
mod scale;
mod stage;
mod tls;

use hale_e2e::cluster::Cluster;
use hale_e2e::sandbox::{self, Place};
use libtest_mimic::{Arguments, Completion, Trial};
use stage::{Company, Scenario, World, scenarios};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Scenarios mostly wait; more at a time than this would make each other late.
const AT_A_TIME: usize = 3;

fn scenarios() -> Vec<Scenario> {
    scenarios![
        Beside:
            health::readiness_and_check_that_disagree_are_reported,
            lifecycle::helm_installs_into_a_restricted_namespace_and_helm_test_passes,
            crd::the_api_server_takes_the_crd_without_a_warning,
            crd::kubectl_explain_reads_like_documentation,
            crd::wrong_policies_are_refused_with_understandable_messages,
            crd::right_policies_are_accepted,
            routing::hosts_and_paths_reach_their_services,
            routing::ports_are_found_by_name_and_by_number,
            routing::http2_is_spoken_on_both_sides,
            routing::websockets_are_tunnelled,
            routing::grpc_passes_with_its_trailers,
            routing::only_ingresses_of_hales_class_are_served,
            routing::the_older_ingress_keeps_a_host_until_it_goes,
            tls::each_host_shows_its_own_certificate_and_a_rotation_needs_no_restart,
            tls::tls_to_the_peers_is_verified,
            policies::a_timeout_on_an_ingress_goes_before_the_one_on_its_service,
            policies::a_failing_answer_is_tried_again_on_another_pod,
            health::a_pod_that_is_not_ready_gets_no_requests,
            health::when_all_fail_the_503_says_why_and_recovery_is_prompt,
            health::a_tcp_check_on_another_port_decides,
            engine::a_check_is_taken_from_the_pods_own_readiness_probe,
            engine::a_pod_that_answers_errors_is_ejected_and_readmitted,
            engine::a_session_stays_with_its_pod_and_moves_when_that_is_out,
            reasons::each_fault_of_pods_has_its_reason_wherever_one_looks,
            reasons::an_upstream_at_its_limit_says_so,
            rollout::scaling_to_zero_is_explained_and_back_again_served,
            rollout::a_deleted_pod_is_left_before_its_slice_says_so,
            broken::a_broken_ingress_policy_and_secret_cost_only_themselves,
            broken::of_two_policies_for_one_section_the_older_wins,
            access::each_method_lets_its_own_credentials_in,
            access::an_access_key_is_rotated_without_a_failed_request,
            access::a_broken_secret_denies_on_its_route_alone_and_is_named,
            access::another_service_decides_and_limits_are_kept;
        Alone:
            routing::a_default_backend_takes_what_no_rule_matches,
            health::ready_pods_that_fail_the_check_leave_traffic_in_time_and_come_back,
            rollout::a_rolling_restart_under_load_fails_no_request,
            rollout::in_a_rolling_restart_no_post_is_executed_twice,
            lifecycle::the_address_of_the_published_service_is_in_the_status_of_ingresses,
            outage::the_leader_killed_the_other_goes_on_with_statuses,
            lifecycle::helm_upgrade_fails_no_request,
            lifecycle::helm_uninstall_keeps_the_crd_and_the_policies;
        // The last: controllers, scheduler, kubelet and kube-proxy each wait for up to a minute before they ask a
        // server that comes back, and until then nothing that needs Kubernetes is as usual.
        OwnCluster:
            outage::a_minute_without_the_api_server_fails_no_request;
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
    scenarios.retain(|scenario| wanted(&arguments, scenario.name));
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
        Trial::ignorable_test(scenario.name, move || {
            if scenario.company == Company::OwnCluster && !world.cluster.is_own() {
                return Ok(Completion::ignored_with(
                    "it would stop parts of this cluster",
                ));
            }
            let outcome = handle.block_on(world.run(scenario));
            outcome
                .map(|()| Completion::Completed)
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
