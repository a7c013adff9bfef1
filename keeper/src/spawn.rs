//! How children are started: the worker and the instances. Each is in its own session (Ctrl-C reaches the keeper
//! alone) and thereby its own process group, has default signal handling, an empty signal mask and no descriptor but
//! 0, 1 and 2. And how the keeper itself becomes another binary.
//!
//! It only starts; who is started when stands in `keeper.rs`. The crate's `unsafe` is all here.

use std::ffi::{CStr, CString};
use std::io::{self, ErrorKind, PipeWriter};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use everup_core::config::Run;
use everup_core::ids::InstanceId;
use rustix::process::{Gid, Uid, getpid, set_child_subreaper, setsid};
use rustix::thread::{clear_ambient_capability_set, set_thread_gid, set_thread_groups, set_thread_uid};

use crate::users::User;
use crate::{KeeperError, Options, log, notify};

/// What was open when we were started (a shell's lock file, for example) is not handed on to children.
#[expect(unsafe_code, reason = "neither std nor rustix has close_range")]
pub(crate) fn keep_descriptors_to_ourselves() -> Result<(), KeeperError> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call closes nothing; it sets a flag on descriptors and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match (result, io::Error::last_os_error()) {
        (0, _) => Ok(()),
        // Before Linux 5.11.
        (_, error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
            log(
                "this kernel is older than 5.11: descriptors that were open at the start are inherited by instances",
            );
            Ok(())
        }
        (_, source) => Err(KeeperError::System { what: "marking open descriptors", source }),
    }
}

/// Children of instances that lost their parent become ours, so that somebody reaps them.
pub(crate) fn adopt_orphans() -> Result<(), KeeperError> {
    set_child_subreaper(Some(getpid()))
        .map_err(|errno| KeeperError::System { what: "becoming the reaper of orphans", source: errno.into() })
}

/// Starts a worker with its end of the link as standard input.
pub(crate) fn worker(options: &Options, user: Option<&User>, link: OwnedFd) -> io::Result<u32> {
    let mut command = child(&options.worker, user);
    command.arg0("everup").arg("worker").args(&options.worker_arguments).stdin(Stdio::from(link));
    // For health commands. Entered with our rights, like the instances' directories: the worker's user may not get there.
    command.current_dir(base(options));
    start(command)
}

/// Has a binary prove that it could take over: it gets the keeper's state as standard input, and says what it says to
/// `output`.
pub(crate) fn proof(
    options: &Options,
    user: Option<&User>,
    binary: BorrowedFd<'_>,
    state: OwnedFd,
    output: PipeWriter,
) -> io::Result<u32> {
    // What was opened, whatever its path names by now. The child has a copy of our descriptors until it executes it.
    let mut command = child(Path::new(&format!("/proc/self/fd/{}", binary.as_raw_fd())), user);
    command.arg0("everup").arg("run").arg(&options.config_path).args(["--upgraded", "--prove"]);
    // It finds no file by a relative name, nor when it takes our place: `run` is a script to a shell.
    command.stdin(Stdio::from(state)).stdout(output.try_clone()?).stderr(output).current_dir("/");
    start(command)
}

/// The signals that the keeper heeds wait, from now on, over an exec, until they are told to wait no more.
#[expect(unsafe_code, reason = "neither std nor rustix can change the signal mask")]
pub(crate) fn hold_signals(hold: bool) {
    let how = if hold { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, which is ours; the others read it and change nothing but this thread's
    // mask. None can fail with these arguments.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in crate::signals::HEEDED {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut());
    }
}

/// This process goes on as this binary, with our environment, in the root directory: there is nobody else's file in it that
/// a word of ours could mean. Returns only if it does not.
pub(crate) fn become_binary(binary: BorrowedFd<'_>, arguments: &[CString]) -> io::Error {
    let variable = |(mut name, value): (std::ffi::OsString, std::ffi::OsString)| {
        name.push("=");
        name.push(value);
        // One with a NUL cannot have come from an environment.
        CString::new(name.into_vec()).ok()
    };
    let environment: Vec<CString> = std::env::vars_os().filter_map(variable).collect();
    let directory = std::env::current_dir();
    if let Err(error) = std::env::set_current_dir("/") {
        return error;
    }
    let error = execute(binary, arguments, &environment);
    if let Ok(directory) = directory {
        // Nothing of ours depends on it.
        let _ = std::env::set_current_dir(directory);
    }
    error
}

#[expect(
    unsafe_code,
    reason = "std resets the signal mask before it executes, and knows binaries by paths only"
)]
fn execute(binary: BorrowedFd<'_>, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let nowhere: &CStr = c"";
    // SAFETY: both lists end with a null pointer, and what they point to lives until the call returns, if it does.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            binary.as_raw_fd(),
            nowhere.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// An instance to be started.
pub(crate) struct Launch<'a> {
    pub(crate) options: &'a Options,
    pub(crate) run: &'a Run,
    pub(crate) id: &'a InstanceId,
    pub(crate) port: u16,
    pub(crate) revision: &'a str,
    pub(crate) user: Option<&'a User>,
}

impl Launch<'_> {
    /// Starts it with `log` as output. The error is in words for the operator.
    pub(crate) fn start(&self, log: OwnedFd) -> Result<u32, String> {
        let directory = self.directory();
        if !directory.is_dir() {
            return Err(format!("its directory {} does not exist", directory.display()));
        }
        let mut words = self.run.command.iter().map(|word| self.render(word));
        let program = words.next().ok_or("its `run.command` is empty")?;
        let program = if program.contains('/') { directory.join(program) } else { PathBuf::from(program) };
        let outputs = log.try_clone().map_err(|error| format!("its log cannot be handed over: {error}"))?;

        let mut command = child(&program, self.user);
        command.args(words).current_dir(&directory).stdin(Stdio::null()).stdout(outputs).stderr(log);
        command.envs(self.run.environment.iter().map(|(name, value)| (name, self.render(value))));
        command
            .env("PORT", self.port.to_string())
            .env("EVERUP_SERVICE", &*self.id.service)
            .env("EVERUP_INSTANCE", &*self.id.instance)
            .env("EVERUP_REVISION", self.revision);
        start(command).map_err(|error| explain(&program, &error))
    }

    fn directory(&self) -> PathBuf {
        let base = base(self.options);
        self.run.directory.as_ref().map_or_else(|| base.to_owned(), |directory| base.join(directory))
    }

    /// Replaces the placeholders, in one pass: what was put in is not looked at again. Unknown ones stay as they are,
    /// because braces are common in values.
    fn render(&self, template: &str) -> String {
        let port = self.port.to_string();
        let everup = self.options.everup.to_string_lossy();
        let values = [
            ("{port}", port.as_str()),
            ("{revision}", self.revision),
            ("{instance}", &self.id.instance),
            ("{service}", &self.id.service),
            ("{everup}", &everup),
        ];
        let mut rendered = String::new();
        let mut rest = template;
        while let Some(brace) = rest.find('{') {
            rendered.push_str(&rest[..brace]);
            rest = &rest[brace..];
            let (name, value) =
                values.into_iter().find(|(name, _)| rest.starts_with(name)).unwrap_or(("{", "{"));
            rendered.push_str(value);
            rest = &rest[name.len()..];
        }
        rendered + rest
    }
}

/// Where relative paths of the configuration start: its file's directory.
fn base(options: &Options) -> &Path {
    options.config_path.parent().unwrap_or_else(|| Path::new("/"))
}

fn explain(program: &Path, error: &io::Error) -> String {
    let path = program.display();
    match error.kind() {
        ErrorKind::NotFound if program.exists() => {
            format!("{path} exists, but the interpreter or loader that it names does not")
        }
        ErrorKind::NotFound if program.is_relative() => format!("{path} is not found in PATH"),
        ErrorKind::NotFound => format!("{path} does not exist"),
        ErrorKind::PermissionDenied => {
            format!("{path} may not be executed: chmod +x, or the rights of its user")
        }
        _ => format!("{path} cannot be executed: {error}"),
    }
}

/// What all children have in common.
fn child(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    leave_the_terminal(&mut command);
    leave_capabilities(&mut command);
    if let Some(user) = user {
        only_harmless_environment(&mut command);
        command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
        become_user(&mut command, user);
    }
    notify::PRIVATE.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// What a child under another user gets of our environment. The rest may hold root's secrets (tokens of a deploy shell,
/// everything that sudo kept).
const PASSED_ON: [&str; 4] = ["PATH", "LANG", "TZ", "TERM"];
/// And what is named for locales or for everup itself (`EVERUP_LOG`).
const PASSED_ON_PREFIXES: [&str; 2] = ["LC_", "EVERUP_"];

fn only_harmless_environment(command: &mut Command) {
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        let is_harmless = name.to_str().is_some_and(|name| {
            PASSED_ON.contains(&name) || PASSED_ON_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        });
        if is_harmless {
            command.env(name, value);
        }
    }
}

/// A session of its own has no terminal: none that could stop the worker, and with it all traffic, for writing in the
/// background (`stty tostop`), and none into which a process with fewer rights could type commands for the operator's
/// shell (TIOCSTI).
#[expect(unsafe_code, reason = "std can begin no session")]
fn leave_the_terminal(command: &mut Command) {
    let leave = || setsid().map(drop).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call without memory.
    unsafe { command.pre_exec(leave) };
}

/// What a unit file gave to a keeper that is not root (ports below 1024) is not for what it starts. A kernel that knows
/// no such capabilities gave none.
#[expect(unsafe_code, reason = "std knows no capabilities")]
fn leave_capabilities(command: &mut Command) {
    let leave = || {
        let _ = clear_ambient_capability_set();
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call without memory.
    unsafe { command.pre_exec(leave) };
}

/// The process is reaped by the keeper's loop, not through `Child`.
fn start(mut command: Command) -> io::Result<u32> {
    Ok(command.spawn()?.id())
}

/// Not `Command::uid`: it leaves the process without supplementary groups.
#[expect(unsafe_code, reason = "std can set no supplementary groups")]
fn become_user(command: &mut Command, user: &User) {
    let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let become_it = move || {
        set_thread_groups(&groups)?;
        set_thread_gid(gid)?;
        set_thread_uid(uid)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes three system calls on memory that was allocated before the
    // fork; it allocates nothing and takes no lock. The child has one thread, so per-thread ids are the process's.
    unsafe { command.pre_exec(become_it) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::options_in;

    fn rendered(template: &str, revision: &str) -> String {
        let mut options = options_in(Path::new("/srv"), &["true"]);
        options.everup = "/usr/bin/everup".into();
        let id = InstanceId::new("shop", "shop-1");
        let run = options.config.services[0].run.as_ref().unwrap();
        Launch { options: &options, run, id: &id, port: 20_001, revision, user: None }.render(template)
    }

    #[test]
    fn placeholders_are_replaced_once_and_other_braces_stay() {
        let all = "{everup} {service}/{instance}:{port}@{revision}";
        assert_eq!(rendered(all, "v1"), "/usr/bin/everup shop/shop-1:20001@v1");
        assert_eq!(rendered("{\"a\":{}} {ports} { {{port}}", "v1"), "{\"a\":{}} {ports} { {20001}");
        assert_eq!(rendered("{revision}", "{port}"), "{port}");
        assert_eq!(rendered("grün{", "v1"), "grün{");
    }

    #[test]
    fn what_cannot_be_executed_is_told_with_the_path_that_was_tried() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("plain"), "").unwrap();
        std::fs::write(home.path().join("script"), "#!/no/such/shell\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(home.path().join("script"), mode).unwrap();
        let missing = home.path().join("bin/shop").display().to_string();
        let cases = [
            (&["./bin/shop"][..], missing.replace("bin/", "./bin/"), "does not exist"),
            (&["no-such-program"], "no-such-program".into(), "not found in PATH"),
            (&["./plain"], "plain".into(), "may not be executed"),
            (&["./script"], "script".into(), "interpreter"),
        ];
        for (command, path, words) in cases {
            let options = options_in(home.path(), command);
            let run = options.config.services[0].run.as_ref().unwrap();
            let id = InstanceId::new("shop", "shop-1");
            let launch = Launch { options: &options, run, id: &id, port: 20_001, revision: "v1", user: None };
            let log = std::fs::File::create(home.path().join("log")).unwrap();
            let reason = launch.start(log.into()).unwrap_err();
            assert!(reason.contains(&path) && reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn a_user_gets_its_own_rights_and_groups_and_none_of_ours() {
        if !rustix::process::getuid().is_root() {
            return; // Only root can become somebody else.
        }
        let home = tempfile::tempdir().unwrap();
        let options = options_in(home.path(), &["sh", "-c", "id -u; id -g; id -G; echo $HOME $LOGNAME"]);
        let run = options.config.services[0].run.as_ref().unwrap();
        let id = InstanceId::new("shop", "shop-1");
        let user = User {
            name: "shop".into(),
            uid: 4321,
            gid: 4322,
            groups: vec![4322, 4323],
            home: "/srv/shop".into(),
        };
        let launch =
            Launch { options: &options, run, id: &id, port: 20_001, revision: "v1", user: Some(&user) };
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let pid = launch.start(log.into()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.cast_signed());
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        let output = std::fs::read_to_string(home.path().join("log")).unwrap();
        assert_eq!(output, "4321\n4322\n4322 4323\n/srv/shop shop\n");
    }
}
