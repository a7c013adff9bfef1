//! What opens, and how much does not.

use everup_core::balance::hash;

use super::*;

/// Forged values that a run of the tests tries; `cargo xtask drills cookies` tries a million.
const FORGED: u64 = 20_000;

fn sealed(seal: &Seal, instance: &str) -> String {
    seal.seal("shop", instance, 1_700_000_000, 1_700_000_100).expect("random bytes")
}

fn seal() -> Seal {
    Seal::new(&[[7; 32]])
}

#[test]
fn a_sealed_ticket_opens_for_its_service_and_no_other() {
    let seal = seal();
    let value = sealed(&seal, "shop-1");
    let ticket = Ticket { instance: "shop-1".to_owned(), pinned: 1_700_000_000, set: 1_700_000_100 };
    assert_eq!(seal.open("shop", value.as_bytes()), Some(Opened { ticket, newest_key: true }));
    assert_eq!(seal.open("api", value.as_bytes()), None);
}

#[test]
fn another_key_opens_nothing() {
    assert_eq!(Seal::new(&[[8; 32]]).open("shop", sealed(&seal(), "shop-1").as_bytes()), None);
}

#[test]
fn every_key_of_the_ring_opens_and_the_first_one_seals() {
    let old = sealed(&seal(), "shop-1");
    let ring = Seal::new(&[[8; 32], [7; 32]]);
    let opened = ring.open("shop", old.as_bytes()).expect("the second key opens it");
    assert_eq!((opened.ticket.instance.as_str(), opened.newest_key), ("shop-1", false));
    let new = sealed(&ring, "shop-1");
    assert!(Seal::new(&[[8; 32]]).open("shop", new.as_bytes()).is_some_and(|opened| opened.newest_key));
    assert_eq!(seal().open("shop", new.as_bytes()), None, "without the newer key it is nothing");
}

#[test]
fn no_changed_or_cut_value_opens() {
    let seal = seal();
    let value = sealed(&seal, "shop-1").into_bytes();
    for at in 0..value.len() {
        let mut changed = value.clone();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        // The last digit of unpadded base64 has bits that say nothing; the decoder refuses those that are not zero.
        assert_eq!(seal.open("shop", &changed), None, "changed at {at}");
        assert_eq!(seal.open("shop", &value[..at]), None, "cut at {at}");
    }
}

#[test]
fn the_longest_name_fits_and_nothing_longer_is_looked_at() {
    let seal = seal();
    let value = sealed(&seal, &"x".repeat(255));
    assert!(value.len() <= VALUE_BYTES, "{}", value.len());
    assert!(seal.open("shop", value.as_bytes()).is_some());
    assert_eq!(seal.open("shop", &[b'A'; VALUE_BYTES + 1]), None);
}

/// `number` is the seed: the same value in every run.
fn forged(real: &[u8], number: u64) -> Vec<u8> {
    let draw = |salt: u64, below: usize| (hash(&(number ^ salt << 48).to_le_bytes()) % below as u64) as usize;
    let digit =
        |salt: u64| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[draw(salt, 64)];
    let mut value = real.to_vec();
    match number % 5 {
        0 => value.truncate(draw(1, real.len())),
        1 => drop(value.splice(..draw(2, real.len()) + 1, [])),
        2 => value.insert(draw(3, real.len() + 1), digit(4)),
        3 => {
            let (from, to) = (draw(5, real.len()), draw(6, real.len()));
            value.swap(from, to);
            value[draw(7, real.len())] = digit(8);
        }
        _ => value.iter_mut().zip(10..).for_each(|(byte, salt)| *byte = digit(salt)),
    }
    value
}

#[test]
fn not_one_of_very_many_forged_and_truncated_values_opens() {
    let count =
        std::env::var("EVERUP_FORGED_COOKIES").ok().and_then(|count| count.parse().ok()).unwrap_or(FORGED);
    let seal = Seal::new(&[[7; 32], [8; 32]]);
    let nonce_and_ticket = |instance: &str| sealed(&seal, instance).into_bytes();
    let real = [nonce_and_ticket("shop-1"), nonce_and_ticket("127.0.0.1:9001"), nonce_and_ticket("x")];
    let mut tried = 0u64;
    for number in 0..count {
        let real = &real[(number % 3) as usize];
        let value = forged(real, number);
        // Two swapped digits can be the same one.
        if value == *real {
            continue;
        }
        tried += 1;
        assert_eq!(seal.open("shop", &value), None, "number {number}: {}", value.escape_ascii());
    }
    assert!(tried > count - count / 100, "{tried} of {count}");
    assert!(real.iter().all(|real| seal.open("shop", real).is_some()), "the real ones still open");
}
