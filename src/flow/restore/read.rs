//! Reading the files of a checkpoint: every length and every number may be wrong.

use crate::flow::RunError;
use crate::flow::snapshot::{BY_KEY, TOGETHER};
use crate::ground::batch::{BatchBuilder, RecordBatch};
use crate::ground::slot;

/// Reads a file of a shard; `what` says which, in errors.
pub struct Read<'a> {
    pub rest: &'a [u8],
    pub what: String,
}

impl<'a> Read<'a> {
    /// An error that says where the reading stands.
    pub fn damaged(&self, reason: &str) -> RunError {
        let left = self.rest.len();
        RunError::of("checkpoint", format!("{}: {reason} ({left} bytes left)", self.what))
    }

    /// Takes bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], RunError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.damaged("it is cut short"));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// A number of two bytes.
    pub fn half(&mut self) -> Result<u16, RunError> {
        let taken = self.take(2)?;
        Ok(u16::from_le_bytes(taken.try_into().expect("two bytes were taken")))
    }

    /// A number of eight bytes.
    pub fn word(&mut self) -> Result<u64, RunError> {
        let taken = self.take(8)?;
        Ok(u64::from_le_bytes(taken.try_into().expect("eight bytes were taken")))
    }

    /// A length.
    pub fn len(&mut self) -> Result<usize, RunError> {
        let taken = self.take(4)?;
        Ok(u32::from_le_bytes(taken.try_into().expect("four bytes were taken")) as usize)
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], RunError> {
        let len = self.len()?;
        self.take(len)
    }

    /// A text behind its length.
    pub fn name(&mut self) -> Result<String, RunError> {
        let bytes = self.bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(name) => Ok(name.to_string()),
            Err(_) => Err(self.damaged("a name is no text")),
        }
    }

    /// One key of `width` columns.
    pub fn key(&mut self, builder: &mut BatchBuilder, width: usize) -> Result<(), RunError> {
        let (mut row, mut nulls) = (vec![0; width], vec![0u64; width.div_ceil(64)]);
        for (column, value) in row.iter_mut().enumerate() {
            match self.take(1)?[0] {
                0 => nulls[column / 64] |= 1 << (column % 64),
                1 => *value = self.word()?,
                2 => {
                    let bytes = self.bytes()?;
                    if bytes.len() > slot::HEAPED_MAX {
                        return Err(self.damaged("a key is too long"));
                    }
                    *value = slot::put(bytes, &mut builder.heap);
                }
                _ => return Err(self.damaged("a key is neither NULL nor a value")),
            }
        }
        builder.push_nulls(&row, &nulls);
        Ok(())
    }

    /// So many keys of `width` columns.
    pub fn keys(&mut self, count: usize, width: usize) -> Result<RecordBatch, RunError> {
        let mut builder = BatchBuilder::new(width, count);
        for _ in 0..count {
            self.key(&mut builder, width)?;
        }
        Ok(builder.finish())
    }

    /// Passes a key of `width` columns.
    pub fn skip_key(&mut self, width: usize) -> Result<(), RunError> {
        for _ in 0..width {
            match self.take(1)?[0] {
                0 => {}
                1 => drop(self.take(8)?),
                2 => drop(self.bytes()?),
                _ => return Err(self.damaged("a key is neither NULL nor a value")),
            }
        }
        Ok(())
    }

    /// Whether what follows a handle's name is of all keys together.
    pub fn is_together(&mut self) -> Result<bool, RunError> {
        match self.take(1)?[0] {
            BY_KEY => Ok(false),
            TOGETHER => Ok(true),
            _ => Err(self.damaged("a handle's form is not known")),
        }
    }

    /// A handle's entries for the keys that have a slot here.
    pub fn entries(&mut self, slots: &[Option<u32>]) -> Result<Vec<(u32, &'a [u8])>, RunError> {
        let mut entries = Vec::new();
        for _ in 0..self.len()? {
            let key = self.len()?;
            let bytes = self.bytes()?;
            match slots.get(key) {
                Some(Some(slot)) => entries.push((*slot, bytes)),
                Some(None) => {}
                None => return Err(self.damaged("it names a key that it does not have")),
            }
        }
        Ok(entries)
    }
}
