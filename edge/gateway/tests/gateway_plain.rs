//! The tests of `gateway` once more, with every system call made by itself: so it is where the kernel has no io_uring for
//! us. What differs is in `gateway/stage.rs`.

#[path = "gateway/main.rs"]
mod gateway;

use gateway::{random, stage, tls, tls_instances, websockets, wire};
