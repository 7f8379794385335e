//! Whose the servers are. Postgres refuses to run as root, so root hands them to another user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use super::error::StackError;

/// Names the user that owns the servers when the program runs as root.
const USER_VARIABLE: &str = "PLIMSOLL_PG_USER";

/// The user under which the servers and their tools run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// Our own.
    Own,
    /// Another, which we, as root, become for each child.
    Other { uid: Uid, gid: Gid },
}

impl Account {
    /// Our own user; as root, the one of `PLIMSOLL_PG_USER`, else `postgres`, else `nobody`.
    pub(super) fn choose() -> Result<Self, StackError> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        match std::env::var(USER_VARIABLE) {
            Ok(name) => Self::other(&name)?.ok_or(StackError::NoAccount { tried: name }),
            Err(_) => {
                for name in ["postgres", "nobody"] {
                    if let Some(account) = Self::other(name)? {
                        return Ok(account);
                    }
                }
                Err(StackError::NoAccount { tried: "postgres, nobody".to_owned() })
            }
        }
    }

    /// The account of a name; `None` if there is none, or it is root again.
    fn other(name: &str) -> Result<Option<Self>, StackError> {
        let user = User::from_name(name).map_err(|source| StackError::Io {
            act: "look up the user",
            path: PathBuf::from(name),
            source: source.into(),
        })?;
        let unprivileged = user.filter(|user| !user.uid.is_root());
        Ok(unprivileged.map(|user| Self::Other { uid: user.uid, gid: user.gid }))
    }

    /// The user's number.
    pub(super) fn uid(&self) -> u32 {
        match self {
            Self::Own => geteuid().as_raw(),
            Self::Other { uid, .. } => uid.as_raw(),
        }
    }

    /// Makes a child run as this user. The standard library drops the supplementary groups with it.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Self::Other { uid, gid } = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Checks that this user can reach a directory: another user's home, say, is often closed.
    pub(super) fn may_enter(&self, directory: &Path) -> Result<(), StackError> {
        let Self::Other { uid, .. } = self else { return Ok(()) };
        let open_to_all = |path: &&Path| {
            std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
        };
        match directory.ancestors().find(|path| !open_to_all(path)) {
            None => Ok(()),
            Some(closed) => Err(StackError::StateDirectory {
                directory: directory.to_owned(),
                problem: format!("the servers' user (id {uid}) may not enter {}", closed.display()),
            }),
        }
    }

    /// Gives a file or directory to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), StackError> {
        let Self::Other { uid, gid } = self else { return Ok(()) };
        chown(path, Some(*uid), Some(*gid)).map_err(|source| StackError::Io {
            act: "change the owner of",
            path: path.to_owned(),
            source: source.into(),
        })
    }
}
