//! The machine: its cores, who keeps them busy, and where threads may run.

use std::fs;
use std::io;
use std::mem;
use std::ops::Sub;

/// The cores this process may use, in ascending order.
pub fn cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero set is an empty one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the set is as large as said, and lives through the call.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    let most = 8 * size_of_val(&set);
    // SAFETY: below the size of the set.
    Ok((0..most).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect())
}

/// Async-signal-safe, for use between fork and exec.
pub fn pin_this_thread(cores: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty one.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &core in cores.iter().filter(|&&core| core < 8 * size_of::<libc::cpu_set_t>()) {
        // SAFETY: below the size of the set.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the set is as large as said, and lives through the call.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What all processes together, and the hypervisor, had of some cores so far, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busy {
    /// By processes and interrupts.
    pub here: f64,
    /// By other guests of the host.
    pub stolen: f64,
}

impl Sub for Busy {
    type Output = Busy;

    fn sub(self, earlier: Busy) -> Busy {
        Busy { here: self.here - earlier.here, stolen: self.stolen - earlier.stolen }
    }
}

/// Reads it, for the given cores.
pub fn busy(cores: &[usize]) -> io::Result<Busy> {
    Ok(parse_busy(&fs::read_to_string("/proc/stat")?, cores, ticks_per_second()))
}

fn parse_busy(stat: &str, cores: &[usize], ticks_per_second: f64) -> Busy {
    let mut busy = Busy::default();
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next().unwrap_or_default();
        let core = name.strip_prefix("cpu").and_then(|core| core.parse().ok());
        if !core.is_some_and(|core| cores.contains(&core)) {
            continue;
        }
        // user nice system idle iowait irq softirq steal, as proc_stat(5) has them.
        let ticks: Vec<f64> = fields.filter_map(|ticks| ticks.parse().ok()).collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, steal] = ticks[..8] else {
            continue;
        };
        busy.here += (user + nice + system + irq + softirq) / ticks_per_second;
        busy.stolen += steal / ticks_per_second;
    }
    busy
}

fn ticks_per_second() -> f64 {
    // SAFETY: no pointers.
    (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

/// The most descriptors a process of ours may have. Raises the soft limit to the hard one.
pub fn descriptor_limit() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur as usize)
}

/// In words, for the report.
pub fn description() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = cores().map_or(0, |cores| cores.len());
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cores_asked_for_count_and_idleness_does_not() {
        let stat = "cpu  1 1 1 1 1 1 1 1 0 0\n\
                    cpu0 100 10 200 5000 70 3 7 9 0 0\n\
                    cpu1 400 0 0 5000 0 0 0 0 0 0\n\
                    cpu10 900 0 0 0 0 0 0 0 0 0\n\
                    intr 5\n";
        assert_eq!(parse_busy(stat, &[0], 100.0), Busy { here: 3.2, stolen: 0.09 });
        assert_eq!(parse_busy(stat, &[0, 1], 100.0), Busy { here: 7.2, stolen: 0.09 });
    }

    #[test]
    fn a_thread_is_pinned_where_asked() {
        let last = *cores().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin_this_thread(&[last]).unwrap();
            assert_eq!(cores().unwrap(), [last]);
        })
        .join()
        .unwrap();
    }
}
