//! What the process has used, as Linux counts it.

use std::fs;

/// CPU seconds of all threads so far, user and system, also of those that ended.
pub fn cpu_s() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 * 1e-9
}

/// Largest resident memory so far, in bytes; 0 where it cannot be told.
pub fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    peak_of(&status).unwrap_or(0)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(peak_of(""), None);
    }

    #[test]
    fn work_takes_cpu_time_of_any_thread() {
        let before = cpu_s();
        let work = || (0..20_000_000u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
        std::thread::spawn(work).join().expect("the thread ends");
        assert!(cpu_s() > before);
    }
}
