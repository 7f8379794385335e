//! The machine that a run was made on, as the report prints it.

use procfs::Current;

use crate::archive::Environment;

/// What can be read of this machine; a fact that cannot be read stays empty and is shown as not measured.
pub fn environment() -> Environment {
    Environment {
        cpu: cpu_model().unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: procfs::Meminfo::current().map_or(0, |memory| memory.mem_total),
        kernel: kernel().unwrap_or_default(),
        commit: option_env!("PLIMSOLL_COMMIT").map(str::to_owned),
        optimised: cfg!(not(debug_assertions)),
        ..Environment::default()
    }
}

fn cpu_model() -> Option<String> {
    let info = procfs::CpuInfo::current().ok()?;
    info.model_name(0).map(str::to_owned)
}

fn kernel() -> Option<String> {
    let name = nix::sys::utsname::uname().ok()?;
    Some(format!("{} {}", name.sysname().display(), name.release().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let here = environment();
        assert!(here.cores > 0 && here.memory_bytes > 1 << 20);
        assert!(here.kernel.starts_with("Linux "));
    }
}
