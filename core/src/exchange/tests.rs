//! The custody rule as a table: every failure at every stage, for both kinds of request.

use super::*;

const NOW: Duration = Duration::from_secs(100);

const FAILURES: [Failure; 10] = [
    Failure::ConnectRefused,
    Failure::ConnectFailed,
    Failure::ConnectTimeout,
    Failure::HandshakeFailed,
    Failure::Lost,
    Failure::Stale,
    Failure::JudgedDown,
    Failure::AttemptTimeout,
    Failure::BadAnswer,
    Failure::RequestTimeout,
];

fn decide(idempotent: bool, failure: Failure, progress: Progress) -> Decision {
    Exchange::new(idempotent, 3).on_failure(NOW, failure, progress, &mut Budget::new(10))
}

fn every_progress() -> impl Iterator<Item = Progress> {
    (0..8).map(|bits| Progress { written: bits & 1 != 0, replayable: bits & 2 != 0, answered: bits & 4 != 0 })
}

#[test]
fn a_non_idempotent_request_of_which_a_byte_was_written_is_never_tried_again() {
    for failure in FAILURES {
        for progress in every_progress().filter(|progress| progress.written) {
            let decision = decide(false, failure, progress);
            assert!(
                matches!(decision, Decision::Answer(_) | Decision::Cut),
                "{failure:?} {progress:?} {decision:?}"
            );
        }
    }
}

#[test]
fn nothing_is_tried_again_once_a_byte_of_an_answer_was_forwarded() {
    for failure in FAILURES {
        for progress in every_progress().filter(|progress| progress.answered) {
            for idempotent in [true, false] {
                assert_eq!(decide(idempotent, failure, progress), Decision::Cut, "{failure:?} {progress:?}");
            }
        }
    }
}

#[test]
fn a_request_that_cannot_be_sent_again_whole_is_not_sent_again() {
    for failure in FAILURES {
        for progress in every_progress().filter(|progress| !progress.replayable && !progress.answered) {
            assert!(
                matches!(decide(true, failure, progress), Decision::Answer(_)),
                "{failure:?} {progress:?}"
            );
        }
    }
}

#[test]
fn an_idempotent_request_is_tried_elsewhere_after_anything_but_its_own_timeout() {
    let progress = Progress { written: true, replayable: true, answered: false };
    for failure in FAILURES {
        let decision = decide(true, failure, progress);
        match failure {
            Failure::RequestTimeout => assert_eq!(decision, Decision::Answer(504)),
            Failure::ConnectRefused
            | Failure::ConnectFailed
            | Failure::ConnectTimeout
            | Failure::HandshakeFailed
            | Failure::Lost
            | Failure::Stale
            | Failure::JudgedDown
            | Failure::AttemptTimeout
            | Failure::BadAnswer => {
                assert!(matches!(decision, Decision::Retry { .. }), "{failure:?} {decision:?}")
            }
        }
    }
}

#[test]
fn a_request_of_which_nothing_was_written_is_tried_elsewhere_whatever_its_method() {
    let progress = Progress { written: false, replayable: true, answered: false };
    for failure in FAILURES.into_iter().filter(|failure| *failure != Failure::RequestTimeout) {
        assert!(matches!(decide(false, failure, progress), Decision::Retry { .. }), "{failure:?}");
    }
}

#[test]
fn an_instance_that_ends_new_connections_before_a_byte_is_written_is_not_tried_over_and_over() {
    let progress = Progress { written: false, replayable: true, answered: false };
    for idempotent in [true, false] {
        assert_eq!(decide(idempotent, Failure::Lost, progress), Decision::Retry { reuse: false });
    }
}

#[test]
fn an_instance_that_refused_is_not_used_even_if_it_is_the_last() {
    let progress = Progress { written: false, replayable: true, answered: false };
    assert_eq!(decide(true, Failure::ConnectRefused, progress), Decision::Retry { reuse: false });
}

#[test]
fn refused_connects_and_rescues_cost_neither_attempts_nor_budget() {
    let mut exchange = Exchange::new(true, 1);
    let mut budget = Budget::new(0);
    while budget.try_retry(NOW) {}
    let progress = Progress { written: true, replayable: true, answered: false };
    for _ in 0..1000 {
        for failure in [Failure::ConnectRefused, Failure::JudgedDown] {
            let decision = exchange.on_failure(NOW, failure, progress, &mut budget);
            assert_eq!(decision, Decision::Retry { reuse: false });
        }
    }
}

#[test]
fn the_first_stale_connection_costs_nothing_and_the_next_one_counts() {
    let mut exchange = Exchange::new(true, 1);
    let mut budget = Budget::new(10);
    let progress = Progress { written: true, replayable: true, answered: false };
    let mut fail = || exchange.on_failure(NOW, Failure::Stale, progress, &mut budget);
    assert_eq!(fail(), Decision::Retry { reuse: true });
    assert_eq!(fail(), Decision::Answer(502));
}

#[test]
fn a_stale_connection_of_which_nothing_was_written_costs_no_request_whatever_its_method() {
    let progress = Progress { written: false, replayable: true, answered: false };
    for idempotent in [true, false] {
        assert_eq!(decide(idempotent, Failure::Stale, progress), Decision::Retry { reuse: true });
    }
}

#[test]
fn attempts_are_counted_and_the_last_failure_is_told() {
    let mut exchange = Exchange::new(true, 3);
    let mut budget = Budget::new(10);
    let progress = Progress { written: true, replayable: true, answered: false };
    let mut fail = |failure| exchange.on_failure(NOW, failure, progress, &mut budget);
    assert_eq!(fail(Failure::Lost), Decision::Retry { reuse: true });
    assert_eq!(fail(Failure::Lost), Decision::Retry { reuse: true });
    assert_eq!(fail(Failure::AttemptTimeout), Decision::Answer(504));
}

#[test]
fn a_retry_past_the_budget_waits_instead_of_failing() {
    let mut budget = Budget::new(0);
    while budget.try_retry(NOW) {}
    let progress = Progress { written: true, replayable: true, answered: false };
    let decision = Exchange::new(true, 3).on_failure(NOW, Failure::Lost, progress, &mut budget);
    assert_eq!(decision, Decision::Park);
}
