//! Accumulators that do not fit a line's words: long texts, lists and sketches.

use sketches_ddsketch::{Config, DDSketch};

use super::cardinality::Cardinality;
use crate::ground::schema::DataType;
use crate::ground::slot;
use crate::state::lines::{Reader, put_word};
use crate::state::pool::Value;

/// One such accumulator.
#[derive(Default)]
pub enum Object {
    /// As new.
    #[default]
    Empty,
    Text(Vec<u8>),
    List(List),
    Percentile(Box<DDSketch>),
    Cardinality(Cardinality),
}

impl Object {
    /// Makes it hold this text.
    pub fn set_text(&mut self, text: &[u8]) {
        match self {
            Object::Text(held) => {
                held.clear();
                held.extend_from_slice(text);
            }
            other => *other = Object::Text(text.to_vec()),
        }
    }

    /// The text that it holds; empty if it is none.
    pub fn text(&self) -> &[u8] {
        match self {
            Object::Text(held) => held,
            _ => &[],
        }
    }

    /// The list that it is, or becomes.
    pub fn list(&mut self) -> &mut List {
        if !matches!(self, Object::List(_)) {
            *self = Object::List(List::default());
        }
        match self {
            Object::List(list) => list,
            _ => unreachable!("it was made a list"),
        }
    }

    /// The sketch that it is, or becomes: relative error 1 %, which is the sketch's default.
    pub fn percentile(&mut self) -> &mut DDSketch {
        if !matches!(self, Object::Percentile(_)) {
            *self = Object::Percentile(Box::new(DDSketch::new(Config::defaults())));
        }
        match self {
            Object::Percentile(sketch) => sketch,
            _ => unreachable!("it was made a sketch"),
        }
    }

    /// The sketch that it is, or becomes.
    pub fn cardinality(&mut self) -> &mut Cardinality {
        if !matches!(self, Object::Cardinality(_)) {
            *self = Object::Cardinality(Cardinality::default());
        }
        match self {
            Object::Cardinality(sketch) => sketch,
            _ => unreachable!("it was made a sketch"),
        }
    }

    /// Adds what another object of the same call holds.
    pub fn merge(&mut self, other: &Object) {
        match other {
            Object::Empty => {}
            Object::Text(text) => self.set_text(text),
            Object::List(list) => self.list().extend(list),
            Object::Percentile(sketch) => {
                let merged = self.percentile().merge(sketch);
                debug_assert!(merged.is_ok(), "all sketches have one configuration");
            }
            Object::Cardinality(sketch) => self.cardinality().merge(sketch),
        }
    }
}

impl Value for Object {
    /// kind: u8 | the kind's own form.
    fn save(&self, out: &mut Vec<u8>) {
        match self {
            Object::Empty => out.push(0),
            Object::Text(text) => {
                out.push(1);
                out.extend_from_slice(text);
            }
            Object::List(list) => {
                out.push(2);
                list.save(out);
            }
            Object::Percentile(sketch) => {
                out.push(3);
                out.extend_from_slice(&sketch.to_java_bytes());
            }
            Object::Cardinality(sketch) => {
                out.push(4);
                sketch.save(out);
            }
        }
    }

    fn load(bytes: &[u8]) -> Option<Object> {
        let (kind, rest) = bytes.split_first()?;
        Some(match kind {
            0 => Object::Empty,
            1 => Object::Text(rest.to_vec()),
            2 => Object::List(List::load(rest)?),
            3 => {
                let read = DDSketch::from_java_bytes(rest);
                Object::Percentile(Box::new(read.ok()?))
            }
            4 => Object::Cardinality(Cardinality::load(rest)?),
            _ => return None,
        })
    }

    fn reset(&mut self) {
        match self {
            Object::Text(text) => text.clear(),
            Object::List(list) => list.clear(),
            other => *other = Object::Empty,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Object::Empty => 0,
            Object::Text(text) => text.capacity(),
            Object::List(list) => list.entries.capacity() * 24 + list.heap.capacity(),
            Object::Percentile(sketch) => sketch.length() * 8,
            Object::Cardinality(sketch) => sketch.heap_bytes(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Number of the row that it came from.
    number: u64,
    value: Option<u64>,
}

/// Values with the numbers of their rows.
#[derive(Clone, Debug, Default)]
pub struct List {
    entries: Vec<Entry>,
    heap: Vec<u8>,
}

impl List {
    /// Adds a value; its long text, if it has one, lies in `from`.
    pub fn push(&mut self, number: u64, value: Option<u64>, from: &[u8]) {
        let value = match value {
            Some(word) if !from.is_empty() && slot::is_heaped(word) => {
                Some(slot::rehome(word, from, &mut self.heap))
            }
            other => other,
        };
        self.entries.push(Entry { number, value });
    }

    /// Values in the list.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the list has no value.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The values, in their order at present.
    pub fn values(&self) -> impl Iterator<Item = Option<u64>> + '_ {
        self.entries.iter().map(|entry| entry.value)
    }

    /// Long texts of the values.
    pub fn heap(&self) -> &[u8] {
        &self.heap
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.heap.clear();
    }

    fn extend(&mut self, other: &List) {
        for entry in &other.entries {
            self.push(entry.number, entry.value, &other.heap);
        }
    }

    /// Puts the values in the order of their rows.
    pub fn sort_by_arrival(&mut self) {
        self.entries.sort_by_key(|entry| entry.number);
    }

    /// Keeps the `k` greatest values, greatest first.
    pub fn keep_top(&mut self, k: usize, data_type: &DataType) {
        let heap = std::mem::take(&mut self.heap);
        match data_type {
            DataType::String | DataType::Bytes | DataType::Array(_) => {
                fn text<'a>(entry: &'a Entry, heap: &'a [u8]) -> Option<&'a [u8]> {
                    entry.value.as_ref().map(|word| slot::bytes(word, heap))
                }
                self.entries.sort_by(|a, b| text(b, &heap).cmp(&text(a, &heap)));
            }
            DataType::Double => {
                let number = |entry: &Entry| f64::from_bits(entry.value.unwrap_or(0));
                self.entries.sort_by(|a, b| number(b).total_cmp(&number(a)));
            }
            _ => {
                let number = |entry: &Entry| entry.value.unwrap_or(0) as i64;
                self.entries.sort_by_key(|entry| std::cmp::Reverse(number(entry)));
            }
        }
        self.entries.truncate(k);
        for entry in &mut self.entries {
            if let Some(word) = &mut entry.value
                && !heap.is_empty()
                && data_type.is_heaped()
            {
                *word = slot::rehome(*word, &heap, &mut self.heap);
            }
        }
    }

    /// count | for each: number, 0 or 1 for NULL, slot | heap.
    fn save(&self, out: &mut Vec<u8>) {
        put_word(self.entries.len() as u64, out);
        for entry in &self.entries {
            put_word(entry.number, out);
            put_word(u64::from(entry.value.is_none()), out);
            put_word(entry.value.unwrap_or(0), out);
        }
        out.extend_from_slice(&self.heap);
    }

    fn load(bytes: &[u8]) -> Option<List> {
        let mut read = Reader::new("list", bytes);
        let count = read.count(24).ok()?;
        let mut list = List::default();
        for _ in 0..count {
            let (number, null) = (read.word().ok()?, read.word().ok()?);
            let word = read.word().ok()?;
            let value = (null == 0).then_some(word);
            list.entries.push(Entry { number, value });
        }
        list.heap = read.rest().to_vec();
        Some(list)
    }
}
