//! Rolling: some instances at a time. New ones start first as far as `surge` allows; what is more than that takes the
//! places of old ones that end before.

use super::{Hook, Step, Terms};

pub(super) fn steps(terms: &Terms) -> Vec<Step> {
    let &Terms { replicas, batch, surge, unavailable, rest, approve, hooks: _ } = terms;
    let batch = batch.min(surge + unavailable).max(1);
    let mut steps = Vec::new();
    let mut done = 0;
    while done < replicas {
        let next = (done + batch).min(replicas);
        let places_needed = (next - done).saturating_sub(surge);
        if places_needed > 0 {
            steps.push(Step::Shift { admitted: done, retired: done + places_needed });
            steps.push(Step::Drain);
        }
        steps.push(Step::Start { target: next });
        steps.push(Step::Verify);
        steps.extend(terms.hook(Hook::WarmUp));
        steps.extend(terms.hook(Hook::BeforeSwitch));
        if approve && done == 0 {
            steps.push(Step::Approve);
        }
        steps.push(Step::Shift { admitted: next, retired: next });
        steps.push(Step::Drain);
        steps.extend(terms.hook(Hook::PerBatch));
        if next < replicas && !rest.is_zero() {
            steps.push(Step::Rest { time: rest });
        }
        done = next;
    }
    steps
}
