//! A fake instance: how it behaves, and since when. What it was given is kept by whoever gave it; the instance only
//! holds back the answers that are due while it is frozen or cut off.

use std::time::Duration;

use everup_core::hash::Random;
use everup_core::time::Time;

/// What an instance is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers everything soon.
    Serves,
    /// Answers probes in time and requests late.
    Slow,
    /// Does not exist: connects are refused, what was open is lost.
    Dead,
    /// Stopped: the kernel accepts connections for it, nothing is answered until it goes on.
    Frozen,
    /// Packets to and from it vanish.
    Unreachable,
    /// Answers requests, and probes with 500.
    Sick,
}

impl Behaviour {
    pub(crate) fn fault(random: &mut Random) -> Self {
        [Self::Slow, Self::Dead, Self::Dead, Self::Frozen, Self::Unreachable, Self::Sick][random.below(6)]
    }

    /// Whether a probe passes.
    pub(crate) fn passes(self) -> bool {
        match self {
            Self::Serves | Self::Slow => true,
            Self::Dead | Self::Frozen | Self::Unreachable | Self::Sick => false,
        }
    }

    /// Whether answers leave it.
    pub(crate) fn speaks(self) -> bool {
        match self {
            Self::Serves | Self::Slow | Self::Sick => true,
            Self::Dead | Self::Frozen | Self::Unreachable => false,
        }
    }

    /// How long a request takes.
    pub(crate) fn takes(self, random: &mut Random) -> Duration {
        let micros = match self {
            Self::Slow => 200_000 + random.below(2_800_000),
            Self::Serves | Self::Dead | Self::Frozen | Self::Unreachable | Self::Sick => {
                1_000 + random.below(20_000)
            }
        };
        Duration::from_micros(micros as u64)
    }
}

/// The truth about an instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) behaviour: Behaviour,
    /// It passes (or fails) probes since then without a break.
    pub(crate) passes_since: Option<Time>,
    pub(crate) fails_since: Option<Time>,
    /// It serves, neither slow nor anything else, since then.
    pub(crate) serves_since: Option<Time>,
    /// Grows with every death: answers of an earlier life never come.
    pub(crate) life: u32,
    /// Times of a fault that probes can see.
    pub(crate) faults: u32,
    /// Answers that wait for it to go on.
    pub(crate) held: Vec<Answer>,
}

/// What an instance sends back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Probe {
        number: u64,
    },
    /// The head of an answer to a request.
    Head {
        request: u64,
        attempt: u32,
    },
    /// The rest of it.
    End {
        request: u64,
        attempt: u32,
    },
}

impl Instance {
    pub(crate) fn new() -> Self {
        Self {
            behaviour: Behaviour::Serves,
            passes_since: Some(Time::ZERO),
            fails_since: None,
            serves_since: Some(Time::ZERO),
            life: 0,
            faults: 0,
            held: Vec::new(),
        }
    }

    /// Behaves differently from now on. Returns the answers that it held back and now sends.
    pub(crate) fn becomes(&mut self, now: Time, behaviour: Behaviour) -> Vec<Answer> {
        self.behaviour = behaviour;
        self.serves_since = (behaviour == Behaviour::Serves).then_some(now);
        if behaviour.passes() {
            self.passes_since = self.passes_since.or(Some(now));
            self.fails_since = None;
        } else {
            self.faults += u32::from(self.fails_since.is_none());
            self.fails_since = self.fails_since.or(Some(now));
            self.passes_since = None;
        }
        if behaviour == Behaviour::Dead {
            self.life += 1;
            self.held.clear();
        }
        if behaviour.speaks() { std::mem::take(&mut self.held) } else { Vec::new() }
    }
}
