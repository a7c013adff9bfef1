//! What the worker may ask for. The worker reads the internet and is trusted less than the configuration: whatever
//! it names must be in there.

use everup_core::config::{Config, Run, is_revision};
use everup_core::ids::InstanceId;

/// Where instances listen: outside the ephemeral range.
const PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// The `run` section of an instance that may be started like this; else why not.
pub(crate) fn check_start<'a>(
    config: &'a Config,
    id: &InstanceId,
    port: u16,
    revision: &str,
) -> Result<&'a Run, String> {
    let service = config.services.iter().find(|service| service.name == id.service);
    let service = service.ok_or_else(|| format!("no service is called \"{}\"", id.service))?;
    let run = service.run.as_ref().ok_or("the service has no `run` section")?;
    // `shop-1` for the first revision, `shop-v2-1` for those that are deployed later.
    let number = id.instance.strip_prefix(&*service.name).and_then(|rest| rest.strip_prefix('-'));
    let number = number.map(|rest| {
        rest.strip_prefix(revision)
            .and_then(|rest| rest.strip_prefix('-'))
            .filter(|rest| is_number(rest))
            .unwrap_or(rest)
    });
    let known = number.filter(|number| is_number(number)).and_then(|number| number.parse().ok());
    if !known.is_some_and(|number| (1..=run.replicas).contains(&number)) {
        return Err(format!("the service has no instance \"{}\"", id.instance));
    }
    if !PORTS.contains(&port) {
        return Err(format!("port {port} is not between {} and {}", PORTS.start(), PORTS.end()));
    }
    if !is_revision(revision) {
        return Err(format!("\"{}\" is no revision", revision.escape_default()));
    }
    Ok(run)
}

/// As it is written: no sign and no leading zero.
fn is_number(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::config_of;

    #[test]
    fn what_the_configuration_names_may_be_started() {
        let mut config = config_of(&["shop"]);
        config.services[0].run.as_mut().unwrap().replicas = 2;
        for (instance, port, revision) in [
            ("shop-1", 20_000, "v1"),
            ("shop-2", 29_999, "1.2_3-rc"),
            ("shop-v2-1", 20_000, "v2"),
            ("shop-1-2", 20_000, "1"),
            ("shop-1.2_3-rc-2", 20_000, "1.2_3-rc"),
        ] {
            check_start(&config, &InstanceId::new("shop", instance), port, revision).unwrap();
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let mut config = config_of(&["shop"]);
        config.services.push(config.services[0].clone());
        config.services[1].name = "fixed".into();
        config.services[1].run = None;
        let long = "x".repeat(65);
        let cases = [
            ("other", "shop-1", 20_000, "v1", "no service"),
            ("fixed", "fixed-1", 20_000, "v1", "no `run` section"),
            ("shop", "shop-0", 20_000, "v1", "no instance"),
            ("shop", "shop-2", 20_000, "v1", "no instance"),
            ("shop", "shop-01", 20_000, "v1", "no instance"),
            ("shop", "../../x", 20_000, "v1", "no instance"),
            ("shop", "shop-v2-2", 20_000, "v2", "no instance"),
            ("shop", "shop-v2-1", 20_000, "v1", "no instance"),
            ("shop", "shop-v2-+1", 20_000, "v2", "no instance"),
            ("shop", "shop-v2-", 20_000, "v2", "no instance"),
            ("shop", "shopv2-1", 20_000, "v2", "no instance"),
            ("shop", "shop-1", 22, "v1", "port 22"),
            ("shop", "shop-1", 30_000, "v1", "port 30000"),
            ("shop", "shop-1", 20_000, "", "no revision"),
            ("shop", "shop-1", 20_000, "..", "no revision"),
            ("shop", "shop-1", 20_000, "a/b", "no revision"),
            ("shop", "shop-1", 20_000, "a\nb", "no revision"),
            ("shop", "shop-1", 20_000, &long, "no revision"),
        ];
        for (service, instance, port, revision, words) in cases {
            let refused =
                check_start(&config, &InstanceId::new(service, instance), port, revision).unwrap_err();
            assert!(refused.contains(words), "{service} {instance} {port} {revision}: {refused}");
        }
    }
}
