//! Backup instances: they stand by while any other instance of the service takes requests, and serve when none does.
//! Never both: a backup (a page that says sorry, another site) is not to be mixed into everyday traffic. Instances that
//! are all at their limit take requests all the same: those wait in the queue.

/// Whether the backups of a service serve, given of each instance (it takes requests, it is a backup).
pub fn serve(instances: impl IntoIterator<Item = (bool, bool)>) -> bool {
    !instances.into_iter().any(|(takes, backup)| takes && !backup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_serve_exactly_when_no_other_instance_takes_requests() {
        assert!(!serve([(true, false), (true, true)]));
        assert!(!serve([(true, false), (false, false), (true, true)]));
        assert!(serve([(false, false), (true, true)]));
        assert!(serve([(false, false), (false, true)]));
        assert!(serve([]));
    }
}
