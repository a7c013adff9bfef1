//! Backup instances: they stand by while any other instance of the service takes requests, and serve when none does.
//! Never both: a backup (a page that says sorry, another site) is not to be mixed into everyday traffic. Instances that
//! are all at their limit take requests all the same: those wait in the queue.
//!
//! An instance that is ejected for its bad answers is better than nobody, but a backup is better than it.

/// The group that an instance belongs to. The first group, in this order, that has a member serves, and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Takes requests and is no backup.
    Regular,
    /// Takes requests and is a backup.
    Backup,
    /// Is ejected and no backup.
    EjectedRegular,
    /// Is ejected and a backup.
    EjectedBackup,
}

impl Rank {
    /// The group of an instance that could take requests.
    pub fn new(ejected: bool, backup: bool) -> Self {
        match (ejected, backup) {
            (false, false) => Self::Regular,
            (false, true) => Self::Backup,
            (true, false) => Self::EjectedRegular,
            (true, true) => Self::EjectedBackup,
        }
    }

    /// Its members are backups.
    pub fn is_backup(self) -> bool {
        match self {
            Self::Backup | Self::EjectedBackup => true,
            Self::Regular | Self::EjectedRegular => false,
        }
    }
}

/// The group that serves, given the groups of those that could take requests. None: nobody can.
pub fn serving(ranks: impl IntoIterator<Item = Rank>) -> Option<Rank> {
    ranks.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_serve_exactly_when_no_other_instance_takes_requests() {
        assert_eq!(serving([Rank::Regular, Rank::Backup]), Some(Rank::Regular));
        assert_eq!(serving([Rank::Backup]), Some(Rank::Backup));
        assert_eq!(serving([]), None);
    }

    #[test]
    fn a_backup_serves_before_an_ejected_instance_and_that_before_nobody() {
        assert_eq!(serving([Rank::EjectedRegular, Rank::Backup]), Some(Rank::Backup));
        assert_eq!(serving([Rank::EjectedBackup, Rank::EjectedRegular]), Some(Rank::EjectedRegular));
        assert_eq!(serving([Rank::EjectedBackup]), Some(Rank::EjectedBackup));
    }
}
