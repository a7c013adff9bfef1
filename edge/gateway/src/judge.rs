//! What an attempt says about the instance: good or bad, counted; and a word to the control thread when there were so
//! many bad ones in a row that it should look. It ejects nobody: `everup_core::health::outlier` does.
//!
//! Only what a client cannot bring about by being slow counts: an instance is not blamed for losing a request whose
//! body was still to come, nor for an answer that broke off after its head, which it may have ended because the
//! client did not read. Connects are health's matter.

use everup_core::exchange::Failure;

use crate::client::Incoming;
use crate::local::Local;
use crate::service::{Instance, Service};

/// The instance's answer went out whole, or it granted a tunnel.
pub(crate) fn on_answer(local: &Local, service: &Service, instance: &Instance, status: u16) {
    let shared = &instance.table.shared;
    match status {
        // Not implemented; HTTP version not supported.
        501 | 505 => {}
        500..600 => {
            shared.answers.cell(local.thread).errors.add(1);
            on_bad(local, service, instance);
        }
        _ => shared.on_good(local.thread),
    }
}

/// The attempt failed before the answer's head was whole. `first`: no other instance had a part of the request's time.
pub(crate) fn on_failure(
    local: &Local,
    incoming: &Incoming,
    instance: &Instance,
    failure: Failure,
    first: bool,
) {
    let is_bad = match failure {
        Failure::Lost | Failure::BadAnswer | Failure::AttemptTimeout => true,
        Failure::RequestTimeout => first,
        Failure::ConnectRefused
        | Failure::ConnectFailed
        | Failure::ConnectTimeout
        | Failure::HandshakeFailed
        | Failure::Stale
        | Failure::JudgedDown => false,
    };
    if is_bad && incoming.body.is_done() {
        instance.table.shared.answers.cell(local.thread).broken.add(1);
        on_bad(local, &incoming.service, instance);
    }
}

fn on_bad(local: &Local, service: &Service, instance: &Instance) {
    let streak = instance.table.shared.lengthen_streak();
    let limit = service.settings.outlier.as_ref().and_then(|outlier| outlier.failures);
    // And again at every multiple: what could not be done the first time may be possible now.
    if limit.is_some_and(|limit| streak.is_multiple_of(limit)) {
        local.report_failing(instance);
    }
}
