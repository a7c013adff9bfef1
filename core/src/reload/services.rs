//! Services and their instances: which came, went or changed.

use std::collections::BTreeMap;

use super::{Change, Differs, Kind, Subject, When};
use crate::config::{FixedInstance, Run, Service};

pub(super) fn diff(old: &[Service], new: &[Service], changes: &mut Vec<Change>) {
    let find = |services: &[Service], name: &str| services.iter().position(|service| &*service.name == name);
    for service in old.iter().filter(|service| find(new, &service.name).is_none()) {
        let effect = "its requests in flight finish, for `drain.time` at most; then what everup runs for it is stopped";
        changes.push(whole(service, Kind::Removed, effect));
    }
    for service in new {
        match find(old, &service.name) {
            Some(before) => changed(&old[before], service, changes),
            None => changes.push(whole(service, Kind::Added, "no connection is touched")),
        }
    }
}

fn whole(service: &Service, kind: Kind, effect: &str) -> Change {
    Change {
        subject: Subject::Service(service.name.to_string()),
        kind,
        settings: Vec::new(),
        when: When::Now,
        closes_connections: false,
        effect: effect.to_owned(),
    }
}

fn changed(old: &Service, new: &Service, changes: &mut Vec<Change>) {
    let Service {
        name: _,
        balance,
        instances,
        timeout,
        retry,
        park,
        max_connections,
        queue,
        slow_start,
        drain,
        health,
        outlier,
        sticky,
        send_proxy,
        tls,
        run,
    } = old;
    let subject = || Subject::Service(new.name.to_string());
    let mut differs = Differs::new();
    differs.look("balance", balance, &new.balance);
    differs.look("timeout", timeout, &new.timeout);
    differs.look("retry", retry, &new.retry);
    differs.look("park", park, &new.park);
    differs.look("max_connections", max_connections, &new.max_connections);
    differs.look("queue", queue, &new.queue);
    differs.look("slow_start", slow_start, &new.slow_start);
    differs.look("drain", drain, &new.drain);
    differs.look("health", health, &new.health);
    differs.look("outlier", outlier, &new.outlier);
    differs.look("sticky", sticky, &new.sticky);
    differs.look("send_proxy", send_proxy, &new.send_proxy);
    differs.look("tls", tls, &new.tls);
    differs.look(
        "run.log",
        &run.as_ref().map(|run| &run.log),
        &new.run.as_ref().or(run.as_ref()).map(|run| &run.log),
    );
    let effect = "no connection is touched; holds for requests that begin";
    differs.tell(subject(), When::Now, effect, changes);
    if let (Some(before), Some(after)) = (run, &new.run) {
        revision(before, after, subject(), changes);
    }
    instances_changed(
        new,
        (&of_instances(old, instances, run.as_ref()), &of_instances(new, &new.instances, new.run.as_ref())),
        changes,
    );
}

/// What a process is started with.
fn revision(old: &Run, new: &Run, subject: Subject, changes: &mut Vec<Change>) {
    let Run { command, directory, replicas: _, revision, environment, user, log: _ } = old;
    let mut differs = Differs::new();
    differs.look("run.command", command, &new.command);
    differs.look("run.directory", directory, &new.directory);
    differs.look("run.revision", revision, &new.revision);
    differs.look("run.environment", environment, &new.environment);
    differs.look("run.user", user, &new.user);
    let effect = "nothing is touched: what a process is started with belongs to its revision, so that all instances are alike";
    differs.tell(subject, When::Deploy, effect, changes);
}

/// Name -> weight and backup; the name says whether everup runs it.
type Instances = BTreeMap<String, (u32, bool)>;

fn of_instances(service: &Service, fixed: &[FixedInstance], run: Option<&Run>) -> Instances {
    match run {
        Some(run) => (1..=run.replicas).map(|n| (format!("{}-{n}", service.name), (1, false))).collect(),
        None => fixed
            .iter()
            .map(|FixedInstance { address, weight, backup }| (address.to_string(), (*weight, *backup)))
            .collect(),
    }
}

fn instances_changed(service: &Service, (old, new): (&Instances, &Instances), changes: &mut Vec<Change>) {
    let mut tell = |name: &str, kind, settings: Vec<&str>, effect: &str| {
        changes.push(Change {
            subject: Subject::Instance(service.name.to_string(), name.to_owned()),
            kind,
            settings: settings.into_iter().map(str::to_owned).collect(),
            when: When::Now,
            closes_connections: false,
            effect: effect.to_owned(),
        });
    };
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let effect = "it gets no new requests once another instance takes them; those it has finish, for `drain.time` at \
                      most; then it is stopped if everup runs it";
        tell(name, Kind::Removed, Vec::new(), effect);
    }
    for (name, (weight, backup)) in new {
        let Some((old_weight, old_backup)) = old.get(name) else {
            tell(
                name,
                Kind::Added,
                Vec::new(),
                "no connection is touched; it takes requests once its checks pass",
            );
            continue;
        };
        let mut settings = Vec::new();
        settings.extend((weight != old_weight).then_some("weight"));
        settings.extend((backup != old_backup).then_some("backup"));
        if !settings.is_empty() {
            tell(
                name,
                Kind::Changed,
                settings,
                "no connection is touched; requests that begin are shared anew",
            );
        }
    }
}

/// `run` belongs to the revision: of a service that everup runs before and after, all but the number of instances
/// and their logs stays.
pub(super) fn keep_revision(old: &Service, new: &mut Service) {
    if let (Some(before), Some(after)) = (&old.run, &mut new.run) {
        *after = Run { replicas: after.replicas, log: after.log.clone(), ..before.clone() };
    }
}
