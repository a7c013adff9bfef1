//! What two versions of everup must agree on for one to take over from the other, and whether they do. The new binary says
//! what it can ([`Proof`]), the running keeper knows what is spoken ([`Spoken`]), and [`judge`] decides, before anything
//! has changed.
//!
//! Nothing is done here: `keeper/src/upgrade.rs` tells the whole story of an upgrade.

use serde::{Deserialize, Serialize};

/// The version of the keeper's state, as it goes from one binary to the next. Raised when a field changes its meaning.
pub const KEEPER_STATE: u32 = 1;

/// The version of what a worker that leaves and its successor say to each other: [`crate::succession`].
pub const SUCCESSION: u32 = 1;

/// Versions of one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest that is understood.
    pub least: u32,
    /// The newest.
    pub most: u32,
}

impl Versions {
    /// Just this one.
    pub const fn only(version: u32) -> Self {
        Self { least: version, most: version }
    }

    fn hold(self, version: u32) -> bool {
        (self.least..=self.most).contains(&version)
    }
}

/// What a binary says of itself when it is asked whether it could take over. It has read the state that it was given, and
/// the configuration in it. Later versions may add fields: what is missing or unknown is no mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Its version, for people.
    pub everup: String,
    /// Versions of the keeper's state that it reads, and writes again if it has to go back.
    pub keeper_state: Versions,
    /// Versions of the link between keeper and worker that its keeper speaks: the old worker lives on for a while.
    pub link: Versions,
    /// Versions of [`crate::succession`] that its worker speaks.
    pub succession: Versions,
    /// Why it could not, all the same: it cannot use the configuration, for example.
    pub objection: Option<String>,
}

/// What runs now speaks these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The state is written like this.
    pub keeper_state: u32,
    /// The worker's link.
    pub link: u32,
    /// The worker's language for its successor.
    pub succession: u32,
}

impl Spoken {
    /// What this everup speaks.
    pub const OURS: Self =
        Self { keeper_state: KEEPER_STATE, link: crate::keeper::PROTOCOL, succession: SUCCESSION };
}

impl Proof {
    /// What this everup says of itself; `objection`: why it could not take over.
    pub fn ours(everup: &str, objection: Option<String>) -> Self {
        let Spoken { keeper_state, link, succession } = Spoken::OURS;
        Self {
            everup: everup.to_owned(),
            keeper_state: Versions::only(keeper_state),
            link: Versions::only(link),
            succession: Versions::only(succession),
            objection,
        }
    }
}

/// Whether it can take over from what runs; else why not, in one line for the operator.
pub fn judge(proof: &Proof, spoken: Spoken) -> Result<(), String> {
    let Proof { everup, keeper_state, link, succession, objection } = proof;
    let languages = [
        ("keeper's state", *keeper_state, spoken.keeper_state),
        ("link to the worker", *link, spoken.link),
        ("hand-over between workers", *succession, spoken.succession),
    ];
    if let Some((what, theirs, ours)) = languages.into_iter().find(|(_, theirs, ours)| !theirs.hold(*ours)) {
        let Versions { least, most } = theirs;
        let theirs = if least == most { least.to_string() } else { format!("{least} to {most}") };
        return Err(format!(
            "everup {everup} is too far from the one that runs: it knows version {theirs} of the {what}, and {ours} is \
             spoken here; upgrade to a version between them first, or stop everup and start the new one"
        ));
    }
    match objection {
        Some(why) => Err(format!("everup {everup} could not go on from here: {why}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOKEN: Spoken = Spoken { keeper_state: 3, link: 4, succession: 5 };

    fn proof() -> Proof {
        Proof {
            everup: "9.9.9".into(),
            keeper_state: Versions { least: 1, most: 3 },
            link: Versions::only(4),
            succession: Versions { least: 5, most: 7 },
            objection: None,
        }
    }

    #[test]
    fn who_knows_every_version_that_is_spoken_can_take_over() {
        assert_eq!(judge(&proof(), SPOKEN), Ok(()));
        assert_eq!(judge(&Proof::ours("0.1.0", None), Spoken::OURS), Ok(()));
    }

    #[test]
    fn who_is_too_new_or_too_old_is_refused_with_both_versions() {
        let cases = [
            (
                Proof { keeper_state: Versions { least: 4, most: 6 }, ..proof() },
                "4 to 6 of the keeper's state, and 3 is",
            ),
            (Proof { link: Versions::only(3), ..proof() }, "version 3 of the link to the worker, and 4 is"),
            (Proof { succession: Versions { least: 1, most: 4 }, ..proof() }, "1 to 4 of the hand-over"),
        ];
        for (proof, words) in cases {
            let refused = judge(&proof, SPOKEN).unwrap_err();
            assert!(refused.contains(words) && refused.contains("everup 9.9.9"), "{refused}");
        }
    }

    #[test]
    fn an_objection_is_passed_on() {
        let proof = Proof { objection: Some("line 3: unknown key".into()), ..proof() };
        assert!(
            judge(&proof, SPOKEN).unwrap_err().ends_with("could not go on from here: line 3: unknown key")
        );
    }

    #[test]
    fn a_proof_of_a_later_version_with_more_fields_is_read() {
        let mut text = serde_json::to_value(proof()).unwrap();
        text["songs"] = serde_json::json!(["one"]);
        assert_eq!(serde_json::from_value::<Proof>(text).unwrap(), proof());
    }
}
