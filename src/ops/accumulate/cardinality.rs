//! APPROX_COUNT_DISTINCT: exact up to 256 values, then HyperLogLog with 4096 registers, whose
//! standard error is 1.6 %.
//!
//! Written here and not taken from a crate because it must be saved key by key in a fixed form,
//! merge to the same bytes in any order, and be exact while small. Estimator: O. Ertl, "New
//! cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6: no bias tables.
//!
//! 1. `few` is sorted and has no hash twice; it is empty once there are registers.

use crate::ground::key::hash_text;
use crate::ground::slot;

const FEW: usize = 256;
const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;
/// Greatest value of a register.
const RANK_MAX: usize = 64 - BITS as usize + 1;

/// How many distinct values there were, about.
#[derive(Clone, Debug, Default)]
pub struct Cardinality {
    few: Vec<u64>,
    registers: Vec<u8>,
}

impl Cardinality {
    /// Takes a value; `heap` holds long texts and is empty where words are no texts.
    pub fn insert(&mut self, word: u64, heap: &[u8]) {
        if !heap.is_empty() && slot::is_heaped(word) {
            self.insert_hash(hash_text(slot::bytes(&word, heap)));
        } else {
            // A sketch reads every bit of a hash; those of `hash_word` are too regular for it.
            self.insert_hash(hash_text(&word.to_le_bytes()));
        }
    }

    fn insert_hash(&mut self, hash: u64) {
        if !self.registers.is_empty() {
            let rank = (hash << BITS | 1 << (BITS - 1)).leading_zeros() as u8 + 1;
            let register = &mut self.registers[(hash >> (64 - BITS)) as usize];
            *register = (*register).max(rank);
            return;
        }
        if let Err(at) = self.few.binary_search(&hash) {
            self.few.insert(at, hash);
            if self.few.len() > FEW {
                self.spread();
            }
        }
    }

    fn spread(&mut self) {
        self.registers = vec![0; REGISTERS];
        for hash in std::mem::take(&mut self.few) {
            self.insert_hash(hash);
        }
    }

    /// Adds what another one saw.
    pub fn merge(&mut self, other: &Cardinality) {
        if !other.registers.is_empty() {
            if self.registers.is_empty() {
                self.spread();
            }
            for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
                *mine = (*mine).max(*theirs);
            }
        }
        other.few.iter().for_each(|&hash| self.insert_hash(hash));
    }

    /// How many distinct values there were, about.
    pub fn estimate(&self) -> u64 {
        if self.registers.is_empty() {
            return self.few.len() as u64;
        }
        let m = REGISTERS as f64;
        let mut counts = [0u32; RANK_MAX + 1];
        for &rank in &self.registers {
            counts[(rank as usize).min(RANK_MAX)] += 1;
        }
        let mut z = m * tau(1.0 - f64::from(counts[RANK_MAX]) / m);
        for &count in counts[1..RANK_MAX].iter().rev() {
            z = 0.5 * (z + f64::from(count));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }

    /// Hashes (8 bytes each), or one 0 byte and the registers.
    pub fn save(&self, out: &mut Vec<u8>) {
        if self.registers.is_empty() {
            self.few.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
        } else {
            out.push(0);
            out.extend_from_slice(&self.registers);
        }
    }

    /// Reads what `save` wrote.
    pub fn load(bytes: &[u8]) -> Option<Cardinality> {
        let mut read = Cardinality::default();
        if bytes.len() == REGISTERS + 1 {
            read.registers = bytes[1..].to_vec();
            return Some(read);
        }
        let (hashes, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || hashes.len() > FEW {
            return None;
        }
        read.few = hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
        read.few.is_sorted().then_some(read)
    }

    /// Bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.few.capacity() * 8 + self.registers.capacity()
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_exact_and_many_are_close_however_merged() {
        for count in [0u64, 1, 255, 256, 257, 1_000, 10_000, 200_000] {
            let mut whole = Cardinality::default();
            let mut parts = vec![Cardinality::default(); 3];
            for value in (0..count).chain(0..count / 2) {
                whole.insert(value, &[]);
                parts[value as usize % 3].insert(value, &[]);
            }
            let mut merged = Cardinality::default();
            parts.iter().for_each(|part| merged.merge(part));
            assert_eq!(merged.estimate(), whole.estimate());
            let mut saved = Vec::new();
            whole.save(&mut saved);
            let loaded = Cardinality::load(&saved).unwrap();
            assert_eq!(loaded.estimate(), whole.estimate());
            let error = (whole.estimate() as f64 - count as f64).abs();
            let most = if count <= FEW as u64 { 0.0 } else { 0.05 * count as f64 };
            assert!(error <= most, "{count}: {}", whole.estimate());
        }
    }
}
