//! That the memory is bounded and its threads never wait.

use super::*;

fn tale(id: &str, started: SystemTime) -> Tale {
    Tale {
        id: id.to_owned(),
        started,
        client: "10.0.0.1".to_owned(),
        method: "GET".to_owned(),
        host: "app".to_owned(),
        path: "/".to_owned(),
        listener: 0,
        route: None,
        service: "app".to_owned(),
        instance: None,
        generation: Generation(1),
        attempts: 0,
        status: 503,
        verdict: Verdict::Refused,
        bytes_in: 10,
        bytes_out: 20,
        phases: Phases::default(),
        events: Vec::new(),
        left_out: 0,
    }
}

#[test]
fn the_memory_is_bounded_and_the_oldest_are_forgotten_first() {
    let memory = Arc::new(Memory::new(2));
    let thread = Remember::new(Arc::clone(&memory), 1);
    let start = SystemTime::now();
    for number in 0..=REMEMBERED / 2 {
        thread.remember(tale(&number.to_string(), start));
    }
    assert_eq!(memory.recall("0", start), []);
    assert_eq!(memory.recall("1", start).len(), 1);
    assert_eq!(memory.0[1].lock().unwrap().len(), REMEMBERED / 2);
}

#[test]
fn what_is_too_old_is_not_told_and_is_let_go() {
    let memory = Arc::new(Memory::new(1));
    let thread = Remember::new(Arc::clone(&memory), 0);
    let start = SystemTime::now();
    thread.remember(tale("a", start));
    let later = start + REMEMBERED_TIME + Duration::from_secs(1);
    assert_eq!(memory.recall("a", start).len(), 1);
    assert_eq!(memory.recall("a", later), []);
    thread.settle(Some(later));
    assert!(memory.0[0].lock().unwrap().is_empty());
}

#[test]
fn requests_that_share_an_id_are_told_in_order_and_only_the_newest_of_many() {
    let memory = Arc::new(Memory::new(2));
    let threads = [0, 1].map(|thread| Remember::new(Arc::clone(&memory), thread));
    let start = SystemTime::now();
    for number in 0..30 {
        threads[number % 2].remember(tale("a", start + Duration::from_secs(number as u64)));
    }
    let seconds: Vec<_> = memory
        .recall("a", start)
        .iter()
        .map(|tale| tale.started.duration_since(start).unwrap().as_secs())
        .collect();
    assert_eq!(seconds, (20..30).collect::<Vec<_>>());
}

#[test]
fn a_thread_does_not_wait_for_a_reader_and_forgets_nothing_meanwhile() {
    let memory = Arc::new(Memory::new(1));
    let thread = Remember::new(Arc::clone(&memory), 0);
    let start = SystemTime::now();
    let reading = memory.0[0].lock().unwrap();
    thread.remember(tale("a", start));
    drop(reading);
    assert_eq!(memory.recall("a", start), []);
    thread.settle(None);
    assert_eq!(memory.recall("a", start).len(), 1);
}
