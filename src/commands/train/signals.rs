//! Signals that stop a training run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::mpi::Launched;

/// Exit code of a stopped run: 128 + SIGINT, as in shells.
pub const STOPPED: u8 = 130;

/// Returns a flag that SIGINT, SIGTERM, SIGQUIT and SIGHUP set. A second signal ends the process at once, and loses nothing
/// that was saved. SIGHUP does not count as second: a terminal that goes away sends it along with others.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicBool::new(false));
    #[cfg_attr(not(unix), expect(unused_mut))]
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGQUIT};
        signals.extend((!is_ignored(SIGQUIT)).then_some(SIGQUIT));
        if !is_ignored(SIGHUP) {
            signal_hook::flag::register(SIGHUP, Arc::clone(&stop))?;
        }
    }
    let is_rank = Launched::read().is_some_and(|launched| launched.size > 1);
    for signal in signals {
        // `mpirun` may send SIGTERM more than once, and kills who does not end.
        if !(is_rank && signal == SIGTERM) {
            signal_hook::flag::register_conditional_shutdown(signal, STOPPED.into(), Arc::clone(&asked))?;
        }
        signal_hook::flag::register(signal, Arc::clone(&asked))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // At a file-size limit, writing fails and the run says so, instead of being killed.
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
    Ok(stop)
}

/// Returns true if whoever started the process told it to ignore this signal, as `nohup` does.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // Linux says so in a file.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.map_or_else(|| child_ignores(signal), |mask| mask & (1 << (signal - 1)) != 0)
}

/// Returns true if a child process survives the signal: children ignore the signals that their parent ignores. Asking the
/// system takes an unsafe call.
#[cfg(unix)]
fn child_ignores(signal: i32) -> bool {
    use std::process::{Command, Stdio};
    // A child that does not survive must leave no core file.
    let script = format!("ulimit -c 0; kill -{signal} $$");
    let child = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    child.is_ok_and(|status| status.success())
}

#[cfg(all(test, unix))]
mod tests {
    use signal_hook::consts::{SIGHUP, SIGQUIT, SIGURG};

    use super::{child_ignores, is_ignored};

    #[test]
    fn a_child_tells_which_signals_are_ignored() {
        for signal in [SIGHUP, SIGQUIT] {
            assert_eq!(child_ignores(signal), is_ignored(signal), "{signal}");
        }
        // It ends no process, as if every one ignored it.
        assert!(child_ignores(SIGURG));
    }
}
