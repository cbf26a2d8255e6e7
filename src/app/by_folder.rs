//! The encoder in front of a sink with `partition_by`: rows of a batch gathered by the value that
//! names their sub-folder, each folder's rows encoded apart.
//!
//! 1. Rows of one folder keep their order.

use std::collections::BTreeMap;

use crate::codec::Encoder;
use crate::edge::file::folder_name::folder_name;
use crate::edge::file::folders::put_rows;
use crate::expr::Program;
use crate::ground::batch::RecordBatch;
use crate::ground::slot;
use crate::port::Encode;

/// Encodes rows by folder.
pub struct ByFolder {
    /// A STRING.
    by: Program,
    encoder: Box<dyn Encoder>,
    /// Rows of the batch under way by value; NULL is the empty text, as in a folder's name.
    rows: BTreeMap<Box<[u8]>, Vec<u32>>,
}

impl ByFolder {
    /// Rows that `encoder` writes, in folders named by the text of `by`.
    pub fn new(by: Program, encoder: Box<dyn Encoder>) -> ByFolder {
        ByFolder { by, encoder, rows: BTreeMap::new() }
    }
}

impl Encode for ByFolder {
    fn encode(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u8>) {
        let values = self.by.eval(batch, select);
        for (i, &row) in select.iter().enumerate() {
            let is_null = values.is_null(i);
            let text = if is_null { b"" } else { slot::bytes(&values.values[i], values.heap) };
            match self.rows.get_mut(text) {
                Some(rows) => rows.push(row),
                None => {
                    self.rows.insert(text.into(), vec![row]);
                }
            }
        }
        for (text, rows) in std::mem::take(&mut self.rows) {
            let name = folder_name(&String::from_utf8_lossy(&text));
            put_rows(&name, out, |out| self.encoder.encode(batch, &rows, out));
        }
    }
}
