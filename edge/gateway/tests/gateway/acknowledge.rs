//! A table is acknowledged when nobody can use an older one any more: afterwards no request comes to an instance that
//! is not in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use everup_gateway::Availability::{Draining, Takes};

use crate::stage::{Origin, before, until};
use crate::wire::{Wire, get, ok, post};

#[test]
fn after_the_acknowledgement_nothing_new_reaches_an_instance_that_was_taken_out() {
    let taken_out = Arc::new(AtomicBool::new(false));
    let late = Arc::new(AtomicUsize::new(0));
    let (seen_out, counted) = (Arc::clone(&taken_out), Arc::clone(&late));
    let origins = [
        Origin::named("stays"),
        Origin::answering(move |_| {
            if seen_out.load(Ordering::SeqCst) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            ok("moves")
        }),
    ];
    let mut stage = before(&origins).threads(2).start();
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..8)
        .map(|number| {
            let (address, stop) = (stage.address, Arc::clone(&stop));
            thread::spawn(move || {
                let mut client = Wire::to(address);
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    if number == 0 {
                        client = Wire::to(address);
                    }
                    client.send(if number % 2 == 0 { get("/") } else { post("/", "x") });
                    assert_eq!(client.answer().status(), 200);
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for round in 0..30 {
        let before = origins[1].count();
        until("the other instance has requests", || origins[1].count() > before);
        if round % 2 == 0 {
            stage.publish(&[Takes, Draining]);
        } else {
            stage.publish_members(&[0], &[Takes]);
        }
        // What was on its way there when the table came is still counted as in flight.
        until("it has finished what it had", || stage.instances[1].in_flight() == 0);
        taken_out.store(true, Ordering::SeqCst);
        let others = origins[0].count();
        until("the load goes on", || origins[0].count() > others + 50);
        taken_out.store(false, Ordering::SeqCst);
        stage.publish(&[Takes, Takes]);
    }
    stop.store(true, Ordering::Relaxed);
    let answers: usize = load.into_iter().map(|one| one.join().unwrap()).sum();
    assert_eq!(late.load(Ordering::SeqCst), 0);
    assert_eq!(answers, origins[0].count() + origins[1].count());
    stage.settles();
}
