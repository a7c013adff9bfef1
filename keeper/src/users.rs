//! Whose rights the worker and the instances get.
//!
//! Users are looked up in `/etc/passwd` and `/etc/group`, not through the C library: its lookup can load plugins
//! that talk to a network, which a keeper must not wait for. A user that only a directory service knows cannot be
//! used.

use std::collections::BTreeMap;
use std::fs;

use everup_core::config::Config;

use crate::{KeeperError, log};

/// The user that is taken as root if the configuration names none.
const DEFAULT: &str = "everup";

/// A user of this host, with everything that a process needs to become it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Every group it is a member of, its own included.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// The users of this configuration. None everywhere: as the keeper itself.
#[derive(Debug)]
pub(crate) struct Users {
    worker: Option<User>,
    /// By service, where it has its own; None again: as the keeper itself.
    services: BTreeMap<String, Option<User>>,
}

/// What is known about this host's users, and who we are.
struct Host {
    passwd: String,
    group: String,
    own_uid: u32,
}

impl Users {
    /// As root: `node.user`, else the user "everup" if there is one, else root; services can have
    /// their own. Not as root: nobody but ourselves.
    pub(crate) fn choose(config: &Config) -> Result<Self, KeeperError> {
        let read = |path| {
            fs::read_to_string(path)
                .map_err(|source| KeeperError::System { what: "reading the host's users", source })
        };
        let own_uid = rustix::process::getuid().as_raw();
        let host = Host { passwd: read("/etc/passwd")?, group: read("/etc/group")?, own_uid };
        Self::choose_on(&host, config)
    }

    /// Tells the operator when nobody unprivileged was found.
    pub(crate) fn warn(&self, config: &Config) {
        let is_root = rustix::process::getuid().as_raw() == 0;
        if is_root && self.worker.is_none() && config.node.user.is_none() {
            log("runs as root, the worker too: add a user \"everup\" or set node.user");
        }
    }

    fn choose_on(host: &Host, config: &Config) -> Result<Self, KeeperError> {
        let worker = match &config.node.user {
            Some(name) => host.require("node.user", name)?,
            None if host.own_uid == 0 => host.find(DEFAULT),
            None => None,
        };
        let mut services = BTreeMap::new();
        for service in &config.services {
            if let Some(name) = service.run.as_ref().and_then(|run| run.user.as_ref()) {
                let user = host.require(&format!("service.{}.run.user", service.name), name)?;
                services.insert(service.name.to_string(), user);
            }
        }
        Ok(Self { worker, services })
    }

    pub(crate) fn worker(&self) -> Option<&User> {
        self.worker.as_ref()
    }

    pub(crate) fn instances_of(&self, service: &str) -> Option<&User> {
        self.services.get(service).unwrap_or(&self.worker).as_ref()
    }
}

impl Host {
    /// None if that is us anyway.
    fn require(&self, setting: &str, name: &str) -> Result<Option<User>, KeeperError> {
        let refuse = |reason: &str| {
            Err(KeeperError::User {
                setting: setting.to_owned(),
                user: name.to_owned(),
                reason: reason.to_owned(),
            })
        };
        match self.find(name) {
            None => refuse(
                "there is no such user in /etc/passwd; add it (useradd --system) or change the setting",
            ),
            Some(user) if user.uid == self.own_uid => Ok(None),
            Some(_) if self.own_uid != 0 => refuse(
                "only root can start processes as another user; start everup as root or remove the setting",
            ),
            Some(user) => Ok(Some(user)),
        }
    }

    /// passwd(5): name:password:uid:gid:comment:home:shell
    fn find(&self, name: &str) -> Option<User> {
        let line = self.passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let fields: Vec<_> = line.split(':').collect();
        let &[name, _, uid, gid, _, home, _] = fields.as_slice() else { return None };
        let gid = gid.parse().ok()?;
        let groups = std::iter::once(gid).chain(self.groups_of(name).filter(|other| *other != gid)).collect();
        Some(User { name: name.to_owned(), uid: uid.parse().ok()?, gid, groups, home: home.to_owned() })
    }

    /// group(5): name:password:gid:member,member
    fn groups_of(&self, user: &str) -> impl Iterator<Item = u32> {
        self.group.lines().filter_map(move |line| {
            let fields: Vec<_> = line.split(':').collect();
            let &[_, _, gid, members] = fields.as_slice() else { return None };
            members.split(',').any(|member| member == user).then(|| gid.parse().ok())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::config_of;

    fn choose(own_uid: u32, node: Option<&str>, shop: Option<&str>) -> Result<Users, String> {
        let host = Host {
            passwd: "root:x:0:0:root:/root:/bin/sh\neverup:x:900:901::/var/lib/everup:/bin/false\n\
                     shop:x:1000:1000::/home/shop:/bin/sh\nbroken:x:many:1\n"
                .into(),
            group: "root:x:0:\ncerts:x:50:shop,other\nshop:x:1000:shop\n".into(),
            own_uid,
        };
        let mut config = config_of(&["shop"]);
        config.node.user = node.map(str::to_owned);
        config.services[0].run.as_mut().unwrap().user = shop.map(str::to_owned);
        Users::choose_on(&host, &config).map_err(|error| error.to_string())
    }

    fn names(own_uid: u32, node: Option<&str>, shop: Option<&str>) -> [Option<String>; 2] {
        let users = choose(own_uid, node, shop).unwrap();
        [users.worker(), users.instances_of("shop")].map(|user| user.map(|user| user.name.clone()))
    }

    #[test]
    fn root_gives_its_rights_away_to_the_user_everup_if_no_other_is_named() {
        let [everup, shop] = ["everup", "shop"].map(|name| Some(name.to_owned()));
        assert_eq!(names(0, None, None), [everup.clone(), everup.clone()]);
        assert_eq!(names(0, Some("shop"), None), [shop.clone(), shop.clone()]);
        assert_eq!(names(0, None, Some("shop")), [everup.clone(), shop]);
        assert_eq!(names(0, None, Some("root")), [everup, None]);
        assert_eq!(names(0, Some("root"), None), [None, None]);
    }

    #[test]
    fn a_user_comes_with_its_groups_and_home() {
        let users = choose(0, Some("shop"), None).unwrap();
        let shop = users.worker().unwrap();
        assert_eq!((shop.uid, shop.gid, shop.groups.as_slice()), (1000, 1000, &[1000, 50][..]));
        assert_eq!(shop.home, "/home/shop");
    }

    #[test]
    fn who_is_not_root_stays_who_it_is() {
        assert_eq!(names(1000, None, None), [None, None]);
        assert_eq!(names(1000, Some("shop"), Some("shop")), [None, None]);
        let refused = choose(1000, Some("everup"), None).unwrap_err();
        assert!(refused.contains("node.user = \"everup\"") && refused.contains("only root"), "{refused}");
    }

    #[test]
    fn a_user_that_does_not_exist_or_is_broken_is_refused() {
        for name in ["nobody-here", "broken", ""] {
            let refused = choose(0, None, Some(name)).unwrap_err();
            assert!(
                refused.contains("service.shop.run.user") && refused.contains("no such user"),
                "{refused}"
            );
        }
    }
}
