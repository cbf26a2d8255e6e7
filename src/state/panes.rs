//! Pane columns: what each key has in each pane of time, one column of lines for every pane.
//!
//! A row writes one line of one column; a firing window reads its columns from front to back. So
//! what a row changes together lies in one cache line, and what a firing scans lies in a row of
//! memory. Columns are used again for later panes without being wiped as a whole.
//!
//! 1. Columns are ordered by pane number; there is none for a pane that nobody touched.
//! 2. A line whose slot is not in `touched` is all 0; so is the whole of a spare column.
//! 3. The words in `owned` hold pool numbers; a value belongs to one word of one line.
//!
//! With a store beneath: `save` writes all panes of a slot with [`Panes::done`], `clear` zeroes its
//! lines, `load` puts them back, making columns where they are gone. A slot whose window is due
//! must be loaded before the window fires; the store keeps the first pane of what it saved for
//! that.

use std::collections::{BTreeMap, VecDeque};

use super::lines::{Lines, Reader, put_word};
use super::pool::{Pool, Value};
use super::touched::Touched;
use super::{Handle, LoadError};
use crate::ground::batch::words_bytes;

/// Emptied columns kept for later panes.
const SPARE: usize = 4;

/// High parts of sums that left 64 bits: by slot and word, what to add times 2^64. Nearly always
/// empty.
pub type Carries = BTreeMap<(u32, u32), i64>;

/// One pane's lines.
pub struct Column {
    /// Which pane this is: counted from the windows' offset, may be negative.
    pub pane: i64,
    /// The accumulators, by slot.
    pub lines: Lines,
    /// Slots that have something in this pane.
    pub touched: Touched,
    /// See [`Carries`].
    pub carries: Carries,
}

impl Column {
    fn new(name: &str, words: usize) -> Column {
        Column {
            pane: 0,
            lines: Lines::new(name, words),
            touched: Touched::default(),
            carries: Carries::default(),
        }
    }

    fn reserve(&mut self, slots: usize) {
        self.lines.reserve(slots);
        self.touched.reserve(slots);
    }

    /// Adds to one word as to an `i64`, exactly: what leaves 64 bits goes to the carries.
    #[inline(always)]
    pub fn add(&mut self, slot: u32, word: usize, value: i64) {
        let cell = self.lines.word_mut(slot, word);
        let (sum, over) = (*cell as i64).overflowing_add(value);
        *cell = sum as u64;
        if over {
            self.carry(slot, word, value);
        }
    }

    #[cold]
    #[inline(never)]
    fn carry(&mut self, slot: u32, word: usize, value: i64) {
        *self.carries.entry((slot, word as u32)).or_default() += value.signum();
    }

    fn wipe<V: Value>(&mut self, owned: &[usize], pool: &mut Pool<V>) {
        let width = self.lines.width();
        let lines = &mut self.lines;
        self.touched.for_each_word(|block, bits| {
            let block = lines.block_mut(block);
            if bits.count_ones() >= 32 && owned.is_empty() {
                block.fill(0);
                return;
            }
            let mut left = bits;
            while left != 0 {
                let line = &mut block[left.trailing_zeros() as usize * width..][..width];
                owned.iter().for_each(|&word| pool.release(line[word]));
                line.fill(0);
                left &= left - 1;
            }
        });
        self.touched.clear();
        self.carries.clear();
    }
}

/// The columns of all live panes.
pub struct Panes<V> {
    name: String,
    words: usize,
    owned: Vec<usize>,
    columns: VecDeque<Column>,
    spare: Vec<Column>,
    /// Values that do not fit a line.
    pub pool: Pool<V>,
    slots: usize,
    /// The operator's own mark of what has fired, so that a loaded key does not fire again.
    pub done: i64,
    /// Rows that the operator has numbered, so that later ones get greater numbers.
    pub numbered: u64,
}

impl<V: Value> Panes<V> {
    /// Columns of lines of `words` words, of which `owned` hold pool numbers.
    ///
    /// # Panics
    /// If an owned word is past the line.
    pub fn new(name: &str, words: usize, owned: Vec<usize>) -> Panes<V> {
        assert!(owned.iter().all(|&word| word < words), "owned words are of the line");
        Panes {
            name: name.to_string(),
            words: words.max(1),
            owned,
            columns: VecDeque::new(),
            spare: Vec::new(),
            pool: Pool::default(),
            slots: 0,
            done: i64::MIN,
            numbered: 0,
        }
    }

    /// Makes room for slots below `slots` in every column. O(columns) when there is more to make.
    pub fn reserve(&mut self, slots: usize) {
        if slots > self.slots {
            self.slots = slots;
            self.columns.iter_mut().for_each(|column| column.reserve(slots));
        }
    }

    /// Index of a pane's column, made if there is none. O(log columns).
    pub fn column(&mut self, pane: i64) -> usize {
        match self.columns.binary_search_by_key(&pane, |column| column.pane) {
            Ok(index) => index,
            Err(index) => {
                let new = || Column::new(&self.name, self.words);
                let mut column = self.spare.pop().unwrap_or_else(new);
                column.pane = pane;
                column.reserve(self.slots);
                self.columns.insert(index, column);
                index
            }
        }
    }

    /// Indices of the columns of panes `first..=last`.
    pub fn between(&self, first: i64, last: i64) -> std::ops::Range<usize> {
        let start = self.columns.partition_point(|column| column.pane < first);
        let end = self.columns.partition_point(|column| column.pane <= last);
        start..end
    }

    /// All columns, in the order of their panes.
    pub fn columns(&self) -> &VecDeque<Column> {
        &self.columns
    }

    /// A column and the pool, to be changed.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn column_mut(&mut self, index: usize) -> (&mut Column, &mut Pool<V>) {
        (&mut self.columns[index], &mut self.pool)
    }

    /// Drops the earliest pane; costs what was touched in it.
    pub fn drop_front(&mut self) {
        if let Some(mut column) = self.columns.pop_front() {
            column.wipe(&self.owned, &mut self.pool);
            if self.spare.len() < SPARE {
                self.spare.push(column);
            }
        }
    }
}

impl<V: Value> Handle for Panes<V> {
    /// done | numbered | columns | for each: pane, words, carries (word, high part), owned values (len, bytes).
    fn save(&self, slot: u32, out: &mut Vec<u8>) {
        let held = || self.columns.iter().filter(|column| column.touched.get(slot));
        if held().next().is_none() {
            return;
        }
        put_word(self.done as u64, out);
        put_word(self.numbered, out);
        put_word(held().count() as u64, out);
        for column in held() {
            put_word(column.pane as u64, out);
            let line = column.lines.line(slot);
            for (word, &value) in line[..self.words].iter().enumerate() {
                // Numbers are this pool's own affair.
                let value = if self.owned.contains(&word) { value.min(1) } else { value };
                put_word(value, out);
            }
            let carry = |word: usize| column.carries.get(&(slot, word as u32));
            put_word((0..self.words).filter(|&w| carry(w).is_some()).count() as u64, out);
            for word in 0..self.words {
                if let Some(&high) = carry(word) {
                    put_word(word as u64, out);
                    put_word(high as u64, out);
                }
            }
            for &word in &self.owned {
                if let Some(value) = self.pool.get(line[word]) {
                    let at = out.len();
                    put_word(0, out);
                    value.save(out);
                    let len = (out.len() - at - 8) as u64;
                    out[at..at + 8].copy_from_slice(&len.to_le_bytes());
                }
            }
        }
    }

    fn load(&mut self, slot: u32, bytes: &[u8]) -> Result<(), LoadError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let name = self.name.clone();
        let mut read = Reader::new(&name, bytes);
        self.reserve(slot as usize + 1);
        self.done = self.done.max(read.word()? as i64);
        self.numbered = self.numbered.max(read.word()?);
        for _ in 0..read.count((self.words + 2) * 8)? {
            let index = self.column(read.word()? as i64);
            let (column, pool) = (&mut self.columns[index], &mut self.pool);
            let mut line = Vec::with_capacity(self.words);
            for _ in 0..self.words {
                line.push(read.word()?);
            }
            for _ in 0..read.count(16)? {
                let word = read.word()? as u32;
                column.carries.insert((slot, word), read.word()? as i64);
            }
            for &word in &self.owned {
                if line[word] != 0 {
                    let len = read.count(1)?;
                    let value = V::load(read.bytes(len)?);
                    line[word] = pool.put(value.ok_or_else(|| read.error("a value is damaged"))?);
                }
            }
            column.lines.line_mut(slot)[..line.len()].copy_from_slice(&line);
            column.touched.set(slot);
        }
        read.end()
    }

    fn clear(&mut self, slot: u32) {
        for column in &mut self.columns {
            if !column.touched.get(slot) {
                continue;
            }
            let line = column.lines.line_mut(slot);
            self.owned.iter().for_each(|&word| self.pool.release(line[word]));
            line.fill(0);
            column.touched.unset(slot);
            column.carries.retain(|&(of, _), _| of != slot);
        }
        let empty = |column: &Column| column.touched.is_empty();
        while self.columns.front().is_some_and(empty) {
            self.drop_front();
        }
    }

    /// done | numbered | columns | for each: pane | carries | for each: place, word, high part
    /// | which slots, a bit each | their words
    fn save_all(&self, slots: &[u32], out: &mut Vec<u8>) -> bool {
        if !self.owned.is_empty() {
            return false;
        }
        put_word(self.done as u64, out);
        put_word(self.numbered, out);
        put_word(self.columns.len() as u64, out);
        // Mostly no key was ever let go, and a slice begins with a word of bits.
        let first = slots.first().copied().unwrap_or(0);
        let is_run = slots.iter().zip(first..).all(|(&slot, at)| slot == at);
        let first_word = (is_run && first.is_multiple_of(64)).then_some(first as usize / 64);
        for column in &self.columns {
            put_word(column.pane as u64, out);
            let place = |slot: &u32| slots.binary_search(slot).ok();
            let carries = column.carries.iter();
            let carries =
                carries.filter_map(|((slot, word), high)| Some((place(slot)?, word, high)));
            put_word(carries.clone().count() as u64, out);
            for (place, word, high) in carries {
                put_word(place as u64, out);
                put_word(u64::from(*word), out);
                put_word(*high as u64, out);
            }
            let bits = |(number, block): (usize, &[u32])| {
                if let Some(first) = first_word {
                    let last = block.len() - 1;
                    return column.touched.word(first + number) & (u64::MAX >> (63 - last));
                }
                let bit = |(i, &slot): (usize, &u32)| u64::from(column.touched.get(slot)) << i;
                block.iter().enumerate().map(bit).sum()
            };
            let touched: Vec<u64> = slots.chunks(64).enumerate().map(bits).collect();
            out.extend_from_slice(words_bytes(&touched));
            out.reserve(slots.len() * self.words * 8);
            for (block, &bits) in slots.chunks(64).zip(&touched) {
                let mut left = bits;
                while left != 0 {
                    let slot = block[left.trailing_zeros() as usize];
                    let line = column.lines.line(slot);
                    match line.first_chunk::<4>() {
                        // The common width, as one store.
                        Some(line) if self.words == 4 => {
                            out.extend_from_slice(words_bytes(line));
                        }
                        _ => out.extend_from_slice(words_bytes(&line[..self.words])),
                    }
                    left &= left - 1;
                }
            }
        }
        true
    }

    fn load_all(&mut self, slots: &[Option<u32>], bytes: &[u8]) -> Result<(), LoadError> {
        let name = self.name.clone();
        let mut read = Reader::new(&name, bytes);
        self.reserve(slots.iter().flatten().max().map_or(0, |&slot| slot as usize + 1));
        self.done = self.done.max(read.word()? as i64);
        self.numbered = self.numbered.max(read.word()?);
        for _ in 0..read.count(16)? {
            let pane = read.word()? as i64;
            let mut carries = Vec::new();
            for _ in 0..read.count(24)? {
                let place = slots.get(read.word()? as usize);
                let slot = place.ok_or_else(|| read.error("it names a slot that is not there"))?;
                carries.push((*slot, read.word()? as u32, read.word()? as i64));
            }
            let mut touched = Vec::with_capacity(slots.len().div_ceil(64));
            for _ in 0..slots.len().div_ceil(64) {
                touched.push(read.word()?);
            }
            if slots.iter().all(Option::is_none) {
                let held: u32 = touched.iter().map(|bits| bits.count_ones()).sum();
                read.bytes(held as usize * self.words * 8)?;
                continue;
            }
            let index = self.column(pane);
            let column = &mut self.columns[index];
            for (i, slot) in slots.iter().enumerate() {
                if touched[i / 64] >> (i % 64) & 1 == 0 {
                    continue;
                }
                let Some(slot) = *slot else {
                    read.bytes(self.words * 8)?;
                    continue;
                };
                let line = column.lines.line_mut(slot);
                for word in &mut line[..self.words] {
                    *word = read.word()?;
                }
                column.touched.set(slot);
            }
            for (slot, word, high) in carries {
                slot.map(|slot| column.carries.insert((slot, word), high));
            }
        }
        read.end()
    }

    fn save_whole(&self, out: &mut Vec<u8>) {
        put_word(self.done as u64, out);
        put_word(self.numbered, out);
    }

    fn load_whole(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let mut read = Reader::new(&self.name, bytes);
        let (done, numbered) = (read.word()? as i64, read.word()?);
        read.end()?;
        self.done = self.done.max(done);
        self.numbered = self.numbered.max(numbered);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter().chain(&self.spare);
        let lines: usize =
            columns.map(|column| column.lines.bytes() + column.touched.memory_bytes()).sum();
        lines + self.pool.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A text, for the test.
    #[derive(Default, Clone, Debug, PartialEq)]
    struct Text(Vec<u8>);

    impl Value for Text {
        fn save(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.0);
        }
        fn load(bytes: &[u8]) -> Option<Text> {
            Some(Text(bytes.to_vec()))
        }
        fn reset(&mut self) {
            self.0.clear();
        }
        fn heap_bytes(&self) -> usize {
            self.0.capacity()
        }
    }

    type Model = BTreeMap<(i64, u32), (i128, Vec<u8>)>;

    fn contents(panes: &Panes<Text>, slots: u32) -> Model {
        let mut found = Model::new();
        for column in panes.columns() {
            for slot in (0..slots).filter(|&slot| column.touched.get(slot)) {
                let line = column.lines.line(slot);
                let high = column.carries.get(&(slot, 0)).copied().unwrap_or(0);
                let sum = i128::from(line[0] as i64) + (i128::from(high) << 64);
                let text = panes.pool.get(line[1]).cloned().unwrap_or_default();
                found.insert((column.pane, slot), (sum, text.0));
            }
        }
        found
    }

    proptest! {
        #[test]
        fn panes_hold_what_was_added_also_after_save_and_load(
            steps in proptest::collection::vec(
                (-3..4i64, 0..100u32, prop_oneof![-9..9i64, Just(i64::MAX), Just(i64::MIN)],
                    0..12u8),
                1..120),
        ) {
            let mut panes: Panes<Text> = Panes::new("test", 2, vec![1]);
            let mut model = Model::new();
            for (pane, slot, value, step) in steps {
                match step {
                    0 => {
                        if let Some(first) = panes.columns().front().map(|column| column.pane) {
                            panes.drop_front();
                            model.retain(|&(pane, _), _| pane != first);
                        }
                    }
                    1 => {
                        let mut saved = Vec::new();
                        panes.save(slot, &mut saved);
                        panes.clear(slot);
                        panes.load(slot, &saved).unwrap();
                    }
                    2 => {
                        panes.clear(slot);
                        model.retain(|&(_, of), _| of != slot);
                    }
                    _ => {
                        panes.reserve(slot as usize + 1);
                        let index = panes.column(pane);
                        let (column, pool) = panes.column_mut(index);
                        column.touched.set(slot);
                        column.add(slot, 0, value);
                        let entry = model.entry((pane, slot)).or_default();
                        entry.0 += i128::from(value);
                        if step > 8 {
                            pool.of(column.lines.word_mut(slot, 1)).0.push(step);
                            entry.1.push(step);
                        }
                    }
                }
                prop_assert_eq!(&contents(&panes, 100), &model);
            }
        }
    }

    proptest! {
        /// Slots come to other places, and some are not wanted.
        #[test]
        fn saved_together_they_are_what_each_was(
            added in proptest::collection::vec(
                (-3..4i64, 0..100u32, prop_oneof![-9..9i64, Just(i64::MAX), Just(i64::MIN)]),
                0..300),
            step in 1..5usize,
            // A slice of slots may begin with a word of bits.
            first in prop_oneof![Just(0usize), Just(64)],
            wanted in any::<u64>(),
        ) {
            let mut panes: Panes<()> = Panes::new("test", 3, vec![]);
            panes.reserve(100);
            for (i, (pane, slot, value)) in added.into_iter().enumerate() {
                let index = panes.column(pane);
                let (column, _) = panes.column_mut(index);
                column.touched.set(slot);
                column.add(slot, i % 3, value);
            }
            (panes.done, panes.numbered) = (7, 9);
            let slots: Vec<u32> = (first as u32..100).step_by(step).collect();
            let is_wanted = |i: usize| wanted >> (i % 64) & 1 == 1;
            let to = |i: usize| is_wanted(i).then_some(200 - 2 * i as u32);
            let there: Vec<Option<u32>> = (0..slots.len()).map(to).collect();
            let mut saved = Vec::new();
            prop_assert!(panes.save_all(&slots, &mut saved));
            let mut other: Panes<()> = Panes::new("test", 3, vec![]);
            other.load_all(&there, &saved).unwrap();
            for (from, to) in slots.iter().zip(&there) {
                let Some(to) = to else { continue };
                let (mut one, mut two) = (Vec::new(), Vec::new());
                panes.save(*from, &mut one);
                other.save(*to, &mut two);
                prop_assert_eq!(one, two);
            }
            let held = |panes: &Panes<()>, slot| panes.columns().iter().any(|c| c.touched.get(slot));
            let strange = (0..201).filter(|slot| !there.contains(&Some(*slot)));
            prop_assert!(strange.into_iter().all(|slot| !held(&other, slot)));
            for len in 0..saved.len().min(200) {
                let mut other: Panes<()> = Panes::new("test", 3, vec![]);
                prop_assert!(other.load_all(&there, &saved[..len]).is_err());
            }
        }
    }

    #[test]
    fn damaged_bytes_do_not_load() {
        let mut panes: Panes<Text> = Panes::new("test", 2, vec![1]);
        panes.reserve(1);
        let index = panes.column(5);
        let (column, pool) = panes.column_mut(index);
        column.touched.set(0);
        pool.of(column.lines.word_mut(0, 1)).0.push(9);
        let mut saved = Vec::new();
        panes.save(0, &mut saved);
        for len in 1..saved.len() {
            let mut other: Panes<Text> = Panes::new("test", 2, vec![1]);
            assert!(other.load(0, &saved[..len]).is_err(), "{len}");
        }
    }
}
