//! The time limit of a probe, with virtual time for the timers and real overdue wake-ups for the starvation.

use std::time::Instant;

use super::*;

fn starvation() -> Starvation {
    Starvation::new(Instant::now())
}

const TIMEOUT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_silent_instance_times_out_when_we_were_awake() {
    let result = within(TIMEOUT, &starvation(), std::future::pending::<()>()).await;
    assert_eq!(result, Err(TimedOut::Instance));
}

#[tokio::test]
async fn an_answer_in_time_is_passed_on() {
    assert_eq!(within(TIMEOUT, &starvation(), async { 7 }).await, Ok(7));
}

#[tokio::test]
async fn the_time_for_which_we_starved_is_given_back() {
    let starvation = starvation();
    // The driver means to wake up now, and does not: its thread is held up for longer than the probe's whole time.
    starvation.plan(Some(Instant::now()), true);
    let answer = async {
        std::thread::sleep(2 * TIMEOUT);
        tokio::time::sleep(TIMEOUT / 2).await;
    };
    assert_eq!(within(TIMEOUT, &starvation, answer).await, Ok(()));
}

#[tokio::test]
async fn starving_all_the_time_is_no_evidence() {
    let starvation = starvation();
    starvation.plan(Some(Instant::now()), true);
    let result = within(TIMEOUT, &starvation, std::future::pending::<()>()).await;
    assert_eq!(result, Err(TimedOut::Us));
}

#[tokio::test]
async fn our_own_limits_are_not_the_instances_fault() {
    for errno in [Errno::MFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
        assert!(is_ours(&errno.into()), "{errno}");
    }
    for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::CONNRESET, Errno::NOENT] {
        assert!(!is_ours(&errno.into()), "{errno}");
    }
}
