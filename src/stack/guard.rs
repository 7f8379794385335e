//! Ties a child to the thread that starts it: when that thread ends, for whatever reason, the kernel signals the
//! child. The only unsafe code of the program is here.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// Makes `command` start its child in a process group of its own (a terminal's Ctrl-C is for us to pass on, in
/// order), to be sent `on_death` when the thread that spawned it ends.
pub(super) fn tie_to_spawner(command: &mut Command, on_death: Signal) {
    let parent = getpid();
    let tie = move || {
        set_pdeathsig(on_death)?;
        // A parent that died before the call above never signals: look once more, now that it would.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    command.process_group(0);
    #[expect(
        unsafe_code,
        reason = "the child must be tied between fork and exec: pre_exec is the only place"
    )]
    // SAFETY: the closure runs in the forked child, where only async-signal-safe work is allowed. It makes two
    // system calls (prctl, getppid) on values captured by copy; it neither allocates, locks nor panics. It runs
    // after the change of user, which would have cleared the parent-death signal.
    unsafe {
        command.pre_exec(tie);
    }
}
