//! What stores are asked in benches: which keys, which values, for how long, and what it took.
//!
//! 1. A value says which key it belongs to, and everybody who reads one checks it.

use std::time::{Duration, Instant};

use cutwater::store::chance::Chance;
use rustix::time::{ClockId, clock_gettime};

pub const VALUE: usize = 100;
pub const KEY: usize = 16;

#[expect(clippy::disallowed_methods, reason = "a bench is set up from the outside")]
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Which keys come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    Uniform,
    /// Zipf 0.99.
    Zipf,
}

/// Keys of a law, the same for everybody.
pub struct Keys {
    keys: usize,
    law: Law,
    chance: Chance,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Keys {
    const THETA: f64 = 0.99;

    pub fn new(keys: usize, law: Law) -> Keys {
        let zeta = |n: usize| (1..=n).map(|i| (i as f64).powf(-Keys::THETA)).sum::<f64>();
        let all = if law == Law::Zipf { zeta(keys) } else { 1.0 };
        let eta = (1.0 - (2.0 / keys as f64).powf(1.0 - Keys::THETA)) / (1.0 - zeta(2) / all);
        let alpha = 1.0 / (1.0 - Keys::THETA);
        Keys { keys, law, chance: Chance::new(setting("SEED", 1) as u64), zeta: all, alpha, eta }
    }

    /// The next one; by Zipf's law ranks (Gray and others 1994) are scattered over the keys.
    pub fn next(&mut self) -> u64 {
        if self.law == Law::Uniform {
            return self.chance.below(self.keys) as u64;
        }
        let u = (self.chance.bits() >> 11) as f64 / (1u64 << 53) as f64;
        let rank = match u * self.zeta {
            below if below < 1.0 => 0.0,
            below if below < 1.0 + 0.5f64.powf(Keys::THETA) => 1.0,
            _ => self.keys as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha),
        };
        (rank as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.keys as u64
    }
}

/// The bytes of a key: its number, mixed, so that neighbours are not written together.
pub fn bytes_of(key: u64) -> [u8; KEY] {
    let mixed = (key + 1).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mut bytes = [0; KEY];
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    bytes[8..].copy_from_slice(&key.to_be_bytes());
    bytes
}

/// The first value of a key: a count, bytes of chance, and as many that compress well.
pub fn value_of(key: &[u8; KEY]) -> [u8; VALUE] {
    let mut value = [b'v'; VALUE];
    value[..8].fill(0);
    value[8..8 + KEY].copy_from_slice(key);
    let mut chance = Chance::new(u64::from_le_bytes(key[..8].try_into().expect("8 bytes")));
    for part in value[24..56].chunks_mut(8) {
        part.copy_from_slice(&chance.bits().to_le_bytes());
    }
    value
}

/// One update: counts.
///
/// # Panics
/// If the value is another key's (invariant 1).
#[inline]
pub fn count(key: &[u8; KEY], value: &mut [u8]) {
    assert!(value.len() == VALUE && value[8..8 + KEY] == key[..], "the value is another key's");
    let (count, _) = value.split_first_chunk_mut::<8>().expect("values have 100 bytes");
    *count = (u64::from_le_bytes(*count) + 1).to_le_bytes();
}

/// A stop watch of wall and processor time.
pub struct Watch {
    started: Instant,
    cpu: Duration,
}

#[expect(clippy::disallowed_methods, reason = "a bench has a clock")]
fn now() -> Instant {
    Instant::now()
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

impl Watch {
    pub fn start() -> Watch {
        Watch { started: now(), cpu: cpu() }
    }

    pub fn seconds(&self) -> f64 {
        (now() - self.started).as_secs_f64()
    }

    /// Prints what so many operations took, for whoever reads the table: one line.
    pub fn report(&self, name: &str, operations: u64) {
        let (wall, busy) = (self.seconds(), (cpu() - self.cpu).as_secs_f64());
        let per = 1e6 / operations as f64;
        let rate = operations as f64 / wall;
        println!("{name:<52} {rate:>12.0} {:>9.2} {:>9.2}", wall * per, busy * per);
    }
}
