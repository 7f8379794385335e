//! The outside channel manager, played by the stand-in that the backend's program brings along: as slow and as broken as the
//! scenario says.

use std::process::Command;

use super::error::StackError;
use super::postgres::Site;
use super::program::{self, Program};
use super::spec::StackSpec;
use crate::scenario::ChannelManager;

/// Its name in incidents and process groups, and of its log.
pub(super) const CHANNEL_MANAGER: &str = "channel-manager";

/// Starts the one that is wanted, if any, and waits until it listens.
pub(super) async fn start(site: &Site, spec: &StackSpec) -> Result<Option<Program>, StackError> {
    let Some(command) = command(spec) else { return Ok(None) };
    Program::start(site, CHANNEL_MANAGER, command).await.map(Some)
}

/// How it is called; nothing where none is wanted.
pub(super) fn command(spec: &StackSpec) -> Option<Command> {
    let ChannelManager { delay, error_rate } = spec.channel_manager?;
    let mut command = program::command(&spec.backend, "ota-stub");
    command.args(["--listen", "127.0.0.1:0"]);
    command.args(["--delay-ms", &(delay.get() / 1_000).to_string()]);
    command.args(["--fail-ratio", &error_rate.get().to_string()]);
    Some(command)
}
