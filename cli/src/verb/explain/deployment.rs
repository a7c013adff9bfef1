//! A deployment as `everup explain` tells it: every decision with the numbers that it rests on.

use everup_admin::Client;
use everup_admin::api::{DeploymentHook, DeploymentStatus};
use everup_core::calendar;

use super::put;

/// The deployment of this id, of whichever service.
pub(super) async fn find(client: &Client, id: &str) -> Option<DeploymentStatus> {
    for service in client.status().await.ok()?.services {
        // A service that everup does not run has none.
        let all = client.deployments(&service.name).await.unwrap_or_default();
        if let Some(found) = all.into_iter().find(|one| one.id.eq_ignore_ascii_case(id)) {
            return Some(found);
        }
    }
    None
}

pub(super) fn in_words(deployment: &DeploymentStatus) -> String {
    let DeploymentStatus { id, service, from, to, strategy, by, reason, began, lasted_seconds, .. } =
        deployment;
    let mut text = String::new();
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    put(&mut text, &format!("deployment {id}: {service} {from} -> {to}, {strategy}, by {by}{reason}"));
    let second = calendar::second_text(began.max(0.0) as u64);
    let second = String::from_utf8_lossy(&second).replace('T', " ");
    put(&mut text, &format!("began at {second}Z, {lasted_seconds:.1} s"));
    for event in &deployment.events {
        put(&mut text, &format!("{:>10} {}", format!("+{:.1} s", event.after_seconds), event.text));
        if !event.because.is_empty() {
            put(&mut text, &format!("{:>10} because: {}", "", event.because));
        }
    }
    deployment.hooks.iter().for_each(|hook| tell_hook(&mut text, hook));
    if !deployment.log.is_empty() {
        put(&mut text, "last words of what failed:");
        deployment.log.iter().for_each(|line| put(&mut text, &format!("  | {line}")));
    }
    put(&mut text, &format!("verdict: {}", deployment.text));
    text
}

fn tell_hook(text: &mut String, hook: &DeploymentHook) {
    let DeploymentHook { hook: name, run, after_seconds, took_seconds, passed: _, text: how, output } = hook;
    put(text, &format!("hook `{name}`, run {run} at +{after_seconds:.1} s, for {took_seconds:.1} s: {how}"));
    output.iter().for_each(|line| put(text, &format!("  | {line}")));
}

#[cfg(test)]
mod tests {
    use everup_admin::api::{DeploymentEvent, DeploymentState};

    use super::*;

    #[test]
    fn every_decision_is_told_with_its_numbers_and_a_failure_with_its_last_words() {
        let event = |after_seconds, text: &str, because: &str| DeploymentEvent {
            after_seconds,
            text: text.to_owned(),
            because: because.to_owned(),
        };
        let deployment = DeploymentStatus {
            id: "01B".into(),
            service: "shop".into(),
            from: "v1".into(),
            to: "v2".into(),
            strategy: "rolling".into(),
            by: "ann".into(),
            reason: "because".into(),
            state: DeploymentState::RolledBack,
            text: "rolled back to v1: shop-v2-1 died".into(),
            began: 0.0,
            lasted_seconds: 2.5,
            replicas: 1,
            old: Default::default(),
            new: Default::default(),
            steps: Vec::new(),
            events: vec![
                event(0.0, "start instance 1 of v2", ""),
                event(1.0, "goes back to v1: shop-v2-1 died", "1 of 1 old ones is up"),
            ],
            log: vec!["no data base\u{1b}".into()],
            hooks: vec![DeploymentHook {
                hook: "before".into(),
                run: 1,
                after_seconds: 0.0,
                took_seconds: 0.5,
                passed: true,
                text: "exited with code 0".into(),
                output: vec!["done".into()],
            }],
        };
        let wanted = "\
deployment 01B: shop v1 -> v2, rolling, by ann (because)
began at 1970-01-01 00:00:00Z, 2.5 s
    +0.0 s start instance 1 of v2
    +1.0 s goes back to v1: shop-v2-1 died
           because: 1 of 1 old ones is up
hook `before`, run 1 at +0.0 s, for 0.5 s: exited with code 0
  | done
last words of what failed:
  | no data base?
verdict: rolled back to v1: shop-v2-1 died
";
        assert_eq!(in_words(&deployment), wanted);
    }
}
