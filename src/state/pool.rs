//! Values that do not fit a line (texts, lists, sketches), pooled: a line holds the value's number.
//!
//! 1. Number 0 is none, so that a zeroed line owns nothing.
//! 2. A released value keeps its memory and is given out again, empty.

/// A value that a pool can keep.
pub trait Value: Default {
    /// Appends the value, little-endian.
    fn save(&self, out: &mut Vec<u8>);

    /// Reads what `save` wrote; `None` if it is not that.
    fn load(bytes: &[u8]) -> Option<Self>;

    /// Becomes as new, keeping memory where that helps.
    fn reset(&mut self);

    /// Bytes held outside the value itself.
    fn heap_bytes(&self) -> usize;
}

/// Nothing: for state that has only lines.
impl Value for () {
    fn save(&self, _out: &mut Vec<u8>) {}

    fn load(bytes: &[u8]) -> Option<()> {
        bytes.is_empty().then_some(())
    }

    fn reset(&mut self) {}

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Values by number.
#[derive(Debug, Default)]
pub struct Pool<V> {
    values: Vec<V>,
    free: Vec<u32>,
}

impl<V: Value> Pool<V> {
    /// The value whose number is in `word`, made (and its number written there) if there is none.
    #[inline(always)]
    pub fn of(&mut self, word: &mut u64) -> &mut V {
        if *word == 0 {
            *word = self.take();
        }
        &mut self.values[*word as usize - 1]
    }

    #[cold]
    fn take(&mut self) -> u64 {
        match self.free.pop() {
            Some(number) => u64::from(number),
            None => {
                self.values.push(V::default());
                self.values.len() as u64
            }
        }
    }

    /// The value of a number; `None` for 0.
    pub fn get(&self, number: u64) -> Option<&V> {
        self.values.get((number as usize).checked_sub(1)?)
    }

    /// Takes a value in and gives its number.
    pub fn put(&mut self, value: V) -> u64 {
        let mut number = 0;
        *self.of(&mut number) = value;
        number
    }

    /// Gives a value back; 0 is nothing.
    pub fn release(&mut self, number: u64) {
        if number != 0 {
            self.values[number as usize - 1].reset();
            self.free.push(number as u32);
        }
    }

    /// Bytes of memory held. O(values).
    pub fn memory_bytes(&self) -> usize {
        let heap: usize = self.values.iter().map(Value::heap_bytes).sum();
        heap + self.values.capacity() * size_of::<V>() + self.free.capacity() * 4
    }
}
