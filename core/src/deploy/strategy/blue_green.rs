//! Blue-green: a whole second set of instances, and one switch in one table.

use super::{Hook, Step, Terms};

pub(super) fn steps(terms: &Terms) -> Vec<Step> {
    let all = terms.replicas;
    let mut steps = vec![Step::Start { target: all }, Step::Verify];
    steps.extend(terms.hook(Hook::WarmUp));
    steps.extend(terms.hook(Hook::BeforeSwitch));
    if terms.approve {
        steps.push(Step::Approve);
    }
    steps.push(Step::Shift { admitted: all, retired: all });
    steps.push(Step::Drain);
    steps
}
