//! Frames of every form, cut anywhere; and bytes that are no frames at all.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A frame in one of the forms that section 5.2 knows.
#[derive(Clone, Debug)]
struct Frame {
    first: u8,
    masked: bool,
    /// A longer form of the length than needed.
    longer: u8,
    payload: usize,
}

impl Frame {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.first);
        let mask = if self.masked { MASKED } else { 0 };
        let form = match self.payload {
            0..126 => 0,
            126..65_536 => 1,
            _ => 2,
        };
        match form.max(self.longer) {
            0 => out.push(mask | self.payload as u8),
            1 => {
                out.push(mask | 126);
                out.extend((self.payload as u16).to_be_bytes());
            }
            _ => {
                out.push(mask | 127);
                out.extend((self.payload as u64).to_be_bytes());
            }
        }
        if self.masked {
            out.extend([0x88; 4]);
        }
        // What looks like the head of a Close, inside.
        out.extend(std::iter::repeat_n(0x88, self.payload));
    }

    fn is_control(&self) -> bool {
        opcode(self.first) >= CONTROL
    }
}

fn frame() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![0..4_usize, 120..130_usize, 65_530..65_540_usize];
    (any::<u8>(), any::<bool>(), 0..3_u8, payload).prop_map(|(first, masked, longer, payload)| Frame {
        first,
        masked,
        longer,
        payload,
    })
}

fn written(frames: &[Frame]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let ends = frames.iter().map(|frame| {
        frame.write(&mut bytes);
        bytes.len()
    });
    let ends = ends.collect();
    (bytes, ends)
}

proptest! {
    #[test]
    fn frames_end_where_they_end_however_they_arrive(
        frames in vec(frame(), 1..12),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (bytes, ends) = written(&frames);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut follows = Frames::default();
        for pair in cuts.windows(2) {
            follows.take(&bytes[pair[0]..pair[1]]);
            let at = pair[1];
            let whole = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(follows.is_between_frames(), at == 0 || ends.contains(&at));
            // A frame has begun with its first byte.
            let begun = if at == 0 || ends.contains(&at) { whole } else { whole + 1 };
            let closed = frames[..begun].iter().any(|frame| opcode(frame.first) == CLOSE);
            prop_assert_eq!(follows.has_closed(), closed);
            let data = frames[..begun].iter().rev().find(|frame| !frame.is_control());
            let unfinished = data.is_some_and(|frame| frame.first & FIN == 0);
            prop_assert_eq!(follows.is_between_messages(), follows.is_between_frames() && !unfinished);
        }
    }

    #[test]
    fn the_first_place_is_found(frames in vec(frame(), 1..8), cut in any::<prop::sample::Index>()) {
        let (bytes, ends) = written(&frames);
        let cut = cut.index(bytes.len() + 1);
        let begun = |at: usize| &frames[..ends.iter().filter(|end| **end < at).count() + usize::from(at > 0)];
        let closed = |at: usize| begun(at).iter().any(|frame| opcode(frame.first) == CLOSE);
        let is_between = |at: usize| at == 0 || ends.contains(&at);
        let is_whole = |at: usize| {
            begun(at).iter().rev().find(|frame| !frame.is_control()).is_none_or(|frame| frame.first & FIN != 0)
        };
        let begins_close = |at: usize| is_between(at) && bytes.get(at).is_some_and(|byte| opcode(*byte) == CLOSE);
        let places: [(Stop, &dyn Fn(usize) -> bool); 5] = [
            (Stop::Never, &|_| false),
            (Stop::WhenQuiet, &|_| false),
            (Stop::AtMessage, &|at| is_between(at) && is_whole(at) && !closed(at)),
            (Stop::AtFrame, &|at| is_between(at) && !closed(at)),
            (Stop::AtClose, &begins_close),
        ];
        for (stop, is_place) in places {
            let mut follows = Frames::default();
            follows.take(&bytes[..cut]);
            let found = follows.take_to(&bytes[cut..], stop);
            let expected = (cut..=bytes.len()).find(|at| is_place(*at));
            prop_assert_eq!(found.map(|found| cut + found), expected, "{:?}", stop);
            let mut all = Frames::default();
            all.take(&bytes);
            prop_assert_eq!(follows, all);
        }
    }

    #[test]
    fn any_bytes_are_followed(bytes in vec(any::<u8>(), 0..300), piece in 1..20_usize) {
        let (mut whole, mut pieces) = (Frames::default(), Frames::default());
        whole.take(&bytes);
        bytes.chunks(piece).for_each(|piece| pieces.take(piece));
        prop_assert_eq!(whole, pieces);
    }
}

#[test]
fn the_longest_length_there_is_overflows_nothing() {
    let mut frames = Frames::default();
    frames.take(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(frames.take_frame(&[0; 1000]), 1000);
    assert!(!frames.is_between_frames());
}

#[test]
fn control_frames_within_a_message_do_not_end_it() {
    let mut frames = Frames::default();
    // "Hel" without FIN, a ping, "lo" with FIN (section 5.7).
    frames.take(b"\x01\x03Hel");
    assert!(frames.is_between_frames() && !frames.is_between_messages());
    frames.take(b"\x89\x00");
    assert!(frames.is_between_frames() && !frames.is_between_messages());
    frames.take(b"\x80\x02lo");
    assert!(frames.is_between_messages());
}

#[test]
fn one_frame_is_taken_at_a_time() {
    let mut frames = Frames::default();
    assert_eq!(frames.take_frame(b"\x81\x01a\x81\x01b"), 3);
    assert_eq!(frames.take_frame(b"\x81\x01b"), 3);
    assert_eq!(frames.take_frame(b""), 0);
}

#[test]
fn a_quiet_moment_between_two_messages_is_a_place_until_a_close_has_begun() {
    let mut frames = Frames::default();
    assert!(frames.may_stop(Stop::WhenQuiet, true) && !frames.may_stop(Stop::WhenQuiet, false));
    assert!(!frames.may_stop(Stop::Never, true) && !frames.may_stop(Stop::AtClose, true));
    frames.take(b"\x01\x01a");
    assert!(!frames.may_stop(Stop::AtMessage, true) && frames.may_stop(Stop::AtFrame, true));
    frames.take(b"\x80\x00\x88\x00");
    assert!(frames.is_between_messages() && !frames.may_stop(Stop::AtFrame, true));
}
