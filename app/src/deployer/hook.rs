//! What a hook of a deployment is told, and how it ended.

use std::sync::Arc;

use everup_core::deploy::{HookOrder, Input};
use everup_core::ids::InstanceId;

use super::{Deployer, Fleet};
use crate::clock::Now;
use crate::controller::Controller;
use crate::hooks::{Ended, Run};

impl Deployer {
    /// The hook that is being run, in words: whoever ends this worker now ends it, too.
    pub(crate) fn hook_under_way(&self) -> Option<String> {
        self.fleets.iter().find_map(|fleet| {
            let deployment = fleet.machine.row().active().filter(|one| one.held.is_none())?;
            let hook = deployment.hook_under_way()?;
            Some(format!("the hook `{}` of deployment {} is being run", hook.word(), deployment.id))
        })
    }

    /// A hook is over.
    pub(crate) fn hook_ended(&mut self, now: Now, Ended { service, result }: Ended) {
        let time = self.time(now);
        let fleet = self.fleets.iter_mut().find(|fleet| fleet.service == service);
        if let Some(fleet) = fleet.filter(|_| !self.ended) {
            fleet.machine.handle(time, Input::HookEnded(result));
        }
    }
}

impl Fleet {
    pub(super) fn hook(&self, order: HookOrder, controller: &Controller) -> Run {
        let ids: Vec<_> = order.slots.iter().map(|slot| self.id(slot)).collect();
        let services = controller.services().iter().filter(|one| one.settings.name == self.service);
        let instances: Vec<_> = services.flat_map(|service| &service.instances).collect();
        let address =
            |id: &InstanceId| instances.iter().find(|one| one.id == *id).and_then(|one| one.address());
        // One for each name, so that they can be counted off together.
        let addresses =
            ids.iter().map(|id| address(id).map_or_else(|| "-".to_owned(), |one| one.to_string()));
        let addresses: Vec<String> = addresses.collect();
        let names: Vec<&str> = ids.iter().map(|id| &*id.instance).collect();
        let mut environment = vec![
            ("EVERUP_HOOK", order.hook.word().to_owned()),
            ("EVERUP_RUN", order.run.to_string()),
            ("EVERUP_SERVICE", self.service.to_string()),
            ("EVERUP_DEPLOYMENT", order.deployment.clone()),
            ("EVERUP_INSTANCES", names.join(" ")),
            ("EVERUP_ADDRESSES", addresses.join(" ")),
        ];
        if let Some(deployment) = &self.machine.durable().deployment {
            // An order never has a NUL, but what is damaged can hold anything.
            let said = |text: &str| text.replace('\0', "");
            environment.extend([
                ("EVERUP_REVISION", deployment.to.to_string()),
                ("EVERUP_PREVIOUS", deployment.from.to_string()),
                ("EVERUP_STRATEGY", said(&deployment.recipe.strategy)),
                ("EVERUP_BY", said(&deployment.by)),
                ("EVERUP_REASON", said(&deployment.reason)),
            ]);
        }
        let watches = ids.iter().filter_map(|id| controller.watch_of(id)).collect();
        Run { service: Arc::clone(&self.service), order, environment, watches }
    }
}
