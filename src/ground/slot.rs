//! The 8-byte slot: how one value of each type is written down.
//!
//! ```text
//! BOOLEAN               0 or 1
//! BIGINT, TIMESTAMP     i64, two's complement
//! DECIMAL(p,s)          i64, scaled by 10^s
//! DOUBLE                the bits of an f64
//! STRING, BYTES         up to 7 bytes: byte 0 = length, bytes 1..8 = the text, zero-padded
//!                       longer:        byte 0 = 0xFF, bytes 1..4 = length (24 bits),
//!                                      bytes 4..8 = offset into the heap (u32)
//! ARRAY                 as a longer STRING, always: the heap holds
//!                       count: u32 | null bits: ceil(count / 8) bytes | count slots of 8 bytes |
//!                       the elements' own heap; offsets of elements count from the end of the
//!                       slots, and no part is aligned
//! NULL                  0, with the row's null bit set
//! ```
//!
//! 1. The form is canonical: a text of up to 7 bytes is never in the heap, so two short texts are
//!    equal exactly if their slots are, and a short one never equals a long one.
//! 2. A NULL's slot is 0, so rows can be compared and hashed as words.
//! 3. Inside an array an element's long text is in the array's own bytes: an array can be copied
//!    from heap to heap as bytes.

/// Longest text that lives in the slot itself, in bytes.
pub const INLINE_MAX: usize = 7;
/// Longest text or array in a heap, in bytes.
pub const HEAPED_MAX: usize = (1 << 24) - 1;

const HEAPED: u64 = 0xFF;

/// The slot of a text of at most [`INLINE_MAX`] bytes.
#[inline(always)]
pub fn inline(text: &[u8]) -> u64 {
    debug_assert!(text.len() <= INLINE_MAX);
    let mut bytes = [0u8; 8];
    bytes[0] = text.len() as u8;
    bytes[1..=text.len()].copy_from_slice(text);
    u64::from_le_bytes(bytes)
}

/// Whether a STRING or BYTES slot points into a heap.
#[inline(always)]
pub fn is_heaped(slot: u64) -> bool {
    slot & 0xFF == HEAPED
}

/// The slot of `len` bytes at `offset` of a heap.
#[inline(always)]
pub fn heaped(offset: u32, len: usize) -> u64 {
    debug_assert!(len <= HEAPED_MAX);
    HEAPED | (len as u64) << 8 | u64::from(offset) << 32
}

/// Length in bytes of a STRING, BYTES or ARRAY slot.
#[inline(always)]
pub fn len(slot: u64) -> usize {
    if is_heaped(slot) { (slot >> 8) as usize & HEAPED_MAX } else { slot as usize & 0xFF }
}

/// Offset into the heap of a slot that [`is_heaped`].
#[inline(always)]
pub fn offset(slot: u64) -> usize {
    (slot >> 32) as usize
}

/// The bytes of a STRING, BYTES or ARRAY slot. `slot` is borrowed because short texts are in it.
///
/// # Panics
/// If the slot points outside `heap`; a checked batch has none such.
#[inline(always)]
pub fn bytes<'a>(slot: &'a u64, heap: &'a [u8]) -> &'a [u8] {
    if is_heaped(*slot) {
        &heap[offset(*slot)..offset(*slot) + len(*slot)]
    } else {
        &super::batch::word_bytes(slot)[1..1 + (*slot as usize & 7)]
    }
}

/// Writes `text` as a slot, its bytes to `heap` if it is long.
///
/// # Panics
/// If the text is longer than [`HEAPED_MAX`] or the heap would pass 4 GiB: callers refuse such
/// input before.
#[inline(always)]
pub fn put(text: &[u8], heap: &mut Vec<u8>) -> u64 {
    if text.len() <= INLINE_MAX { inline(text) } else { put_heaped(text, heap) }
}

/// As [`put`], for arrays and texts known to be long: always in the heap.
pub fn put_heaped(text: &[u8], heap: &mut Vec<u8>) -> u64 {
    assert!(text.len() <= HEAPED_MAX, "a value of {} bytes passed the limit", text.len());
    let offset = u32::try_from(heap.len()).expect("a batch's heap stays under 4 GiB");
    heap.extend_from_slice(text);
    heaped(offset, text.len())
}

/// Copies a heap-typed slot from one heap to another and gives its new slot.
#[inline(always)]
pub fn rehome(slot: u64, from: &[u8], to: &mut Vec<u8>) -> u64 {
    if is_heaped(slot) { put_heaped(bytes(&slot, from), to) } else { slot }
}

/// The same slot for a heap that was put behind `by` bytes of another.
#[inline(always)]
pub fn shifted(slot: u64, by: u32) -> u64 {
    if is_heaped(slot) { slot + (u64::from(by) << 32) } else { slot }
}

/// Reads and builds the array form described at the head of this file.
pub mod array {
    use super::*;

    /// An array's elements, read in place.
    #[derive(Clone, Copy)]
    pub struct Elements<'a> {
        count: usize,
        nulls: &'a [u8],
        slots: &'a [u8],
        /// Where long texts of the elements lie.
        pub heap: &'a [u8],
    }

    impl<'a> Elements<'a> {
        /// Reads the bytes of an array slot; `None` if they are too short to be one.
        pub fn read(bytes: &'a [u8]) -> Option<Elements<'a>> {
            let (head, rest) = bytes.split_at_checked(4)?;
            let count = u32::from_le_bytes(head.try_into().ok()?) as usize;
            let (nulls, rest) = rest.split_at_checked(count.div_ceil(8))?;
            let (slots, heap) = rest.split_at_checked(count.checked_mul(8)?)?;
            Some(Elements { count, nulls, slots, heap })
        }

        /// Elements in the array.
        pub fn len(&self) -> usize {
            self.count
        }

        /// Whether the array has no element.
        pub fn is_empty(&self) -> bool {
            self.count == 0
        }

        /// Element `i`: its slot, or `None` for NULL.
        pub fn get(&self, i: usize) -> Option<u64> {
            if self.nulls[i / 8] >> (i % 8) & 1 == 1 {
                return None;
            }
            let at = &self.slots[8 * i..8 * i + 8];
            Some(u64::from_le_bytes(at.try_into().expect("eight bytes were sliced")))
        }
    }

    /// Builds one array after the other.
    #[derive(Default)]
    pub struct ArrayBuilder {
        nulls: Vec<bool>,
        slots: Vec<u64>,
        heap: Vec<u8>,
    }

    impl ArrayBuilder {
        /// Adds an element that needs no heap, or NULL.
        pub fn push(&mut self, slot: Option<u64>) {
            self.nulls.push(slot.is_none());
            self.slots.push(slot.unwrap_or(0));
        }

        /// Adds a text.
        pub fn push_bytes(&mut self, text: &[u8]) {
            let slot = put(text, &mut self.heap);
            self.push(Some(slot));
        }

        /// Adds an element whose long text, if any, lies in `from`.
        pub fn push_from(&mut self, slot: u64, from: &[u8]) {
            let slot = rehome(slot, from, &mut self.heap);
            self.push(Some(slot));
        }

        /// Elements so far.
        pub fn len(&self) -> usize {
            self.slots.len()
        }

        /// Whether no element was added.
        pub fn is_empty(&self) -> bool {
            self.slots.is_empty()
        }

        /// Bytes that [`ArrayBuilder::finish`] will write.
        pub fn encoded_len(&self) -> usize {
            4 + self.slots.len().div_ceil(8) + 8 * self.slots.len() + self.heap.len()
        }

        /// Writes the array to a batch's heap, gives its slot and starts the next one; `None`
        /// (and nothing written) if it would pass [`HEAPED_MAX`].
        pub fn finish(&mut self, heap: &mut Vec<u8>) -> Option<u64> {
            let len = self.encoded_len();
            if len > HEAPED_MAX {
                self.clear();
                return None;
            }
            let start = u32::try_from(heap.len()).expect("a batch's heap stays under 4 GiB");
            heap.extend_from_slice(&(self.slots.len() as u32).to_le_bytes());
            for eight in self.nulls.chunks(8) {
                heap.push(
                    eight.iter().enumerate().fold(0, |bits, (i, &n)| bits | u8::from(n) << i),
                );
            }
            for slot in &self.slots {
                heap.extend_from_slice(&slot.to_le_bytes());
            }
            heap.extend_from_slice(&self.heap);
            self.clear();
            Some(heaped(start, len))
        }

        /// Forgets the elements so far.
        pub fn clear(&mut self) {
            self.nulls.clear();
            self.slots.clear();
            self.heap.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_comes_back_and_short_ones_compare_as_words(
            a in proptest::collection::vec(any::<u8>(), 0..20),
            b in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut heap = Vec::new();
            let (x, y) = (put(&a, &mut heap), put(&b, &mut heap));
            prop_assert_eq!(bytes(&x, &heap), &a[..]);
            prop_assert_eq!(bytes(&y, &heap), &b[..]);
            prop_assert_eq!(len(x), a.len());
            if !is_heaped(x) && !is_heaped(y) {
                prop_assert_eq!(x == y, a == b);
            }
            let mut other = vec![1, 2, 3];
            let z = rehome(x, &heap, &mut other);
            prop_assert_eq!(bytes(&z, &other), &a[..]);
        }

        #[test]
        fn an_array_comes_back(
            texts in proptest::collection::vec(
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12)), 0..20)
        ) {
            let (mut builder, mut heap) = (array::ArrayBuilder::default(), vec![7u8; 3]);
            for text in &texts {
                match text {
                    Some(text) => builder.push_bytes(text),
                    None => builder.push(None),
                }
            }
            let slot = builder.finish(&mut heap).unwrap();
            let read = array::Elements::read(bytes(&slot, &heap)).unwrap();
            prop_assert_eq!(read.len(), texts.len());
            for (i, text) in texts.iter().enumerate() {
                let got = read.get(i);
                let got = got.as_ref().map(|slot| bytes(slot, read.heap));
                prop_assert_eq!(got, text.as_deref());
            }
        }
    }
}
