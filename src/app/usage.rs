//! What the process has used, as Linux counts it.

use std::fs;

/// CPU seconds of all threads so far, also of those that ended; 0 where it cannot be told. Counted
/// by the kernel in hundredths of a second.
pub fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    cpu_of(&stat).unwrap_or(0.0)
}

/// Largest resident memory so far, in bytes; 0 where it cannot be told.
pub fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    peak_of(&status).unwrap_or(0)
}

/// `utime` and `stime`, the 14th and 15th field; the second, in brackets, may hold anything.
fn cpu_of(stat: &str) -> Option<f64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / 100.0)
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
    fn the_kernels_lines_are_read() {
        let stat = "7 (a ) b) R 1 7 7 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 3 0 99";
        assert_eq!(cpu_of(stat), Some(3.0));
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(cpu_of(""), None);
        assert_eq!(peak_of(""), None);
    }
}
