//! `Picker::pick` stands on the path of every request: it must not allocate. A counting allocator shows it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use everup_core::balance::{Candidate, Picker, hash};
use everup_core::config::Balance;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait; this allocator only counts and passes on")]
// SAFETY: every call is passed to System unchanged, and the counter (a const-initialised thread local without a
// destructor) neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps alloc's contract, and System's is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from System with this layout, because alloc above passes it on unchanged.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> usize {
    ALLOCATIONS.with(Cell::get)
}

#[test]
fn no_way_of_picking_allocates() {
    let candidates: Vec<Candidate> =
        (0..100).map(|index| Candidate::new(index, 1 + index as u32, hash(&index.to_le_bytes()))).collect();
    for balance in [
        Balance::RoundRobin,
        Balance::WeightedRoundRobin,
        Balance::LeastConnections,
        Balance::WeightedLeastConnections,
        Balance::IpHash,
        Balance::Maglev,
        Balance::P2cEwma,
    ] {
        for few in [&candidates[..8], &candidates[..]] {
            let mut picker = Picker::new(balance, 5);
            picker.update(few);
            let before = allocations();
            for client in 0..1000 {
                picker.pick(client, &[1, 2, 3], |index| index as u32).expect("most are not excluded");
            }
            assert_eq!(allocations(), before, "{balance:?} with {} candidates", few.len());
        }
    }
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert!(allocations() > before, "the allocator counts");
}
