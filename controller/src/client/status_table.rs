//! `hale status`: a table that is read at a glance.

use std::fmt::Write;

use jiff::Timestamp;

use super::view::{Finding, Peer, Status, Upstream};

const COLUMNS: [&str; 9] = [
    "PEER",
    "POD",
    "STANDING",
    "REASON",
    "LAST CHECK",
    "TOOK",
    "SINCE",
    "REQUESTS",
    "IN FLIGHT",
];

/// The whole answer as text. `filter` keeps upstreams whose name holds it.
pub(super) fn write(status: &Status, filter: Option<&str>, now: Timestamp) -> String {
    let mut text = headline(status, now);
    let wanted = |upstream: &&Upstream| filter.is_none_or(|filter| upstream.id.contains(filter));
    let upstreams: Vec<&Upstream> = status.upstreams.iter().filter(wanted).collect();
    if upstreams.is_empty() {
        text.push_str(match filter {
            Some(_) => "\nNo upstream has that name.\n",
            None => "\nNo route names an upstream.\n",
        });
    }
    let all = upstreams.iter().flat_map(|upstream| &upstream.peers);
    let widths = widths(all, now);
    for upstream in upstreams {
        write_upstream(&mut text, upstream, &widths, now);
    }
    if filter.is_none() {
        let title = "Policies that do not let in whom they should";
        write_findings(&mut text, title, &status.unavailable);
        let told = |finding: &&Finding| !is_told(finding, &status.unavailable);
        write_findings(&mut text, "Findings", status.findings.iter().filter(told));
    }
    text
}

/// Findings below a title; nothing where there are none.
pub(super) fn write_findings<'a>(
    text: &mut String,
    title: &str,
    findings: impl IntoIterator<Item = &'a Finding>,
) {
    let mut findings = findings.into_iter().peekable();
    if findings.peek().is_some() {
        let _ = writeln!(text, "\n{title}");
    }
    for finding in findings {
        let _ = writeln!(
            text,
            "  {} {}: {}",
            finding.object, finding.reason, finding.message
        );
    }
}

/// Whether the lines of policies that let nobody in say already all that a finding says, but for the fields.
fn is_told(finding: &Finding, unavailable: &[Finding]) -> bool {
    let told = unavailable.iter().filter(|line| {
        let named = line.message.strip_prefix(finding.object.as_str());
        line.object == finding.object || named.is_some_and(|rest| rest.starts_with(": "))
    });
    let told: Vec<&str> = told.map(|line| line.message.as_str()).collect();
    let mut faults = finding.message.split("; ").map(|fault| {
        // `auth.anyOf[0].apiKey: ` is where, and what follows it is what.
        let place = fault.split_once(": ");
        place
            .filter(|(field, _)| field.starts_with("auth") || field.starts_with("access"))
            .map_or(fault, |(_, what)| what)
    });
    !told.is_empty() && faults.all(|fault| told.iter().any(|line| line.contains(fault)))
}

fn headline(status: &Status, now: Timestamp) -> String {
    let role = match status.leader {
        Some(true) => ", leader",
        Some(false) => ", not leader",
        None => "",
    };
    let table = match status.published {
        Some(published) => format!(
            "table {} of {} ago ({})",
            status.generation,
            age(published, now),
            short(&status.fingerprint),
        ),
        None => "no table yet".to_owned(),
    };
    let upstreams = match status.upstreams.len() {
        1 => "1 upstream".to_owned(),
        many => format!("{many} upstreams"),
    };
    let (mut peers, mut serving) = (0, 0);
    for upstream in &status.upstreams {
        peers += upstream.peers.len();
        serving += upstream.peers.iter().filter(|peer| peer.serving).count();
    }
    format!(
        "Hale {} {}{role} | {table} | {upstreams}, {serving}/{peers} peers serving\n",
        status.version, status.phase,
    )
}

/// One upstream and its peers, as `hale why` shows it, too.
pub(super) fn write_one(text: &mut String, upstream: &Upstream, now: Timestamp) {
    let widths = widths(upstream.peers.iter(), now);
    write_upstream(text, upstream, &widths, now);
}

fn write_upstream(text: &mut String, upstream: &Upstream, widths: &[usize], now: Timestamp) {
    let mut line = format!(
        "\n{}  {}/{} serving",
        upstream.id,
        upstream.peers.iter().filter(|peer| peer.serving).count(),
        upstream.peers.len()
    );
    if upstream.panic {
        line.push_str("  PANIC: too few peers pass, so failing ones serve, too");
    }
    if !upstream.checked {
        line.push_str("  (no active check)");
    }
    if let Some(reason) = &upstream.reason {
        let _ = write!(line, "  {reason}: {}", upstream.message);
    }
    text.push_str(line.trim_end_matches([' ', ':']));
    text.push('\n');
    if upstream.peers.is_empty() {
        return;
    }
    write_row(text, &COLUMNS.map(str::to_owned), widths);
    for peer in &upstream.peers {
        write_row(text, &cells(peer, now), widths);
        if !peer.message.is_empty() {
            let _ = writeln!(text, "      {}", peer.message);
        }
        if let Some(error) = &peer.last_error
            && peer.reason.as_ref() != Some(&error.reason)
        {
            let when = error
                .at
                .map_or_else(String::new, |at| format!(" {} ago", age(at, now)));
            let _ = writeln!(
                text,
                "      last request{when}: {}: {}, {} in a row",
                error.reason, error.message, error.in_a_row
            );
        }
    }
}

fn write_row(text: &mut String, cells: &[String], widths: &[usize]) {
    let mut line = String::from("  ");
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(line, "{cell:<width$}  ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn cells(peer: &Peer, now: Timestamp) -> [String; 9] {
    let dash = || "-".to_owned();
    let (check, took) = match &peer.last_check {
        Some(check) => {
            let result = if check.pass { "pass" } else { "FAIL" };
            let ago = check.at.map_or_else(dash, |at| age(at, now));
            (
                format!("{result} x{} {ago} ago", check.in_a_row),
                format!("{}ms", check.duration_ms),
            )
        }
        None => (dash(), dash()),
    };
    [
        peer.address.clone(),
        peer.pod.clone().unwrap_or_else(dash),
        peer.standing.clone(),
        peer.reason.clone().unwrap_or_else(dash),
        check,
        took,
        peer.since.map_or_else(dash, |since| age(since, now)),
        peer.requests.to_string(),
        peer.in_flight.to_string(),
    ]
}

fn widths<'a>(peers: impl Iterator<Item = &'a Peer>, now: Timestamp) -> Vec<usize> {
    let mut widths = COLUMNS.map(str::len);
    for peer in peers {
        for (width, cell) in widths.iter_mut().zip(cells(peer, now)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths.to_vec()
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

/// How long ago, in the two units that matter, as kubectl writes ages.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{minutes}m{}s", seconds % 60),
        600..7_200 => format!("{minutes}m"),
        7_200..172_800 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests;
