//! What operators behind the ordering stage want of a row, so that no more than that waits: the
//! columns they read, and conditions that depend on the row alone, evaluated over the batch as it
//! came and kept as bits.
//!
//! 1. Rows behind the stage have the kept columns, in the input's order, then one BIGINT for every
//!    64 flags. Flag i is bit `i % 64` of word `i / 64`: set where the condition is TRUE.
//! 2. Flags are asked for before anybody is told places: a program given back by [`Ahead::flag`]
//!    reads a column past the input's, which [`Ahead::place`] knows.

use crate::expr::Program;
use crate::ground::batch::RecordBatch;
use crate::ground::bits;
use crate::ground::key::hash_text;
use crate::ground::schema::{Column, DataType, Schema};

/// Columns and flags, see the module's head.
#[derive(Clone)]
pub struct Ahead {
    input_width: usize,
    columns: Vec<usize>,
    flags: Vec<Program>,
    /// What tells each of them from others.
    listings: Vec<String>,
}

impl Ahead {
    /// Nothing of rows of `input` yet.
    pub fn new(input: &Schema) -> Ahead {
        Ahead {
            input_width: input.width(),
            columns: Vec::new(),
            flags: Vec::new(),
            listings: Vec::new(),
        }
    }

    /// Keeps columns of the input.
    ///
    /// # Panics
    /// If one does not exist.
    pub fn keep(&mut self, columns: impl IntoIterator<Item = usize>) {
        for column in columns {
            assert!(column < self.input_width, "the input has the column");
            if let Err(at) = self.columns.binary_search(&column) {
                self.columns.insert(at, column);
            }
        }
    }

    /// Has a condition evaluated ahead, equal ones once; what reads the outcome, to be remapped by
    /// [`Ahead::place`].
    pub fn flag(&mut self, condition: Program) -> Program {
        let listing = condition.listing();
        let at = self.listings.iter().position(|known| *known == listing).unwrap_or_else(|| {
            self.listings.push(listing);
            self.flags.push(condition);
            self.flags.len() - 1
        });
        let (word, bit) = (at / 64, at % 64);
        Program::flag(self.input_width + word, bit as u32)
    }

    /// Where a column of the input, or one that [`Ahead::flag`] made up, is behind the stage.
    /// Right only when all has been asked for.
    ///
    /// # Panics
    /// If the column is not kept.
    pub fn place(&self, column: usize) -> usize {
        match column.checked_sub(self.input_width) {
            Some(word) => self.columns.len() + word,
            None => self.columns.binary_search(&column).expect("the column is kept"),
        }
    }

    /// Whether the column is kept.
    pub fn keeps(&self, column: usize) -> bool {
        self.columns.binary_search(&column).is_ok()
    }

    /// The kept columns, in order.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Words that flags take in a row.
    pub fn flag_words(&self) -> usize {
        self.flags.len().div_ceil(64)
    }

    /// Tells what was asked for apart from anything else that could be.
    pub fn form(&self) -> u64 {
        let flags = self.flags.iter().map(Program::listing).collect::<Vec<_>>();
        hash_text(format!("{:?} {flags:?}", self.columns).as_bytes())
    }

    /// Schema of the rows behind the stage.
    pub fn schema(&self, input: &Schema) -> Schema {
        let kept = self.columns.iter().map(|&column| input.columns[column].clone());
        let flags = (0..self.flag_words())
            .map(|word| Column::new(format!("#flags{word}"), DataType::BigInt).not_null());
        Schema::new(kept.chain(flags).collect())
    }
}

/// The flags of a batch's rows.
pub struct Flags {
    programs: Vec<Program>,
    /// Words a row.
    width: usize,
    words: Vec<u64>,
    mask: Vec<u64>,
}

impl Flags {
    /// Evaluates what was asked for ahead.
    pub fn new(ahead: &Ahead) -> Flags {
        let (programs, width) = (ahead.flags.clone(), ahead.flag_words());
        Flags { programs, width, words: Vec::new(), mask: Vec::new() }
    }

    /// Evaluates all conditions for the selected rows.
    pub fn eval(&mut self, records: &RecordBatch, select: &[u32]) {
        self.words.clear();
        self.words.resize(select.len() * self.width, 0);
        let (words, width) = (&mut self.words[..], self.width);
        for (i, program) in self.programs.iter_mut().enumerate() {
            program.mask(records, select, &mut self.mask);
            let (word, bit) = (i / 64, i % 64);
            bits::for_each(&self.mask, |row| words[row * width + word] |= 1 << bit);
        }
    }

    /// The flags of selected rows from `row` on, [`Ahead::flag_words`] for each.
    #[inline(always)]
    pub fn from(&self, row: usize) -> &[u64] {
        &self.words[row * self.width..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Scope;
    use crate::ground::batch::BatchBuilder;

    #[test]
    fn more_flags_than_a_word_has_bits_tell_what_the_conditions_do() {
        let input = Schema::new(vec![
            Column::new("a", DataType::String),
            Column::new("n", DataType::BigInt),
        ]);
        let scope = Scope::of(&input);
        let mut ahead = Ahead::new(&input);
        let compile = |i: usize| Program::predicate(&format!("n = {i}"), &scope).unwrap();
        let mut read: Vec<Program> = (0..70).map(|i| ahead.flag(compile(i))).collect();
        ahead.keep([1, 1]);
        read.iter_mut().for_each(|program| program.remap(|column| ahead.place(column)));
        assert_eq!((ahead.schema(&input).width(), ahead.keeps(0), ahead.place(1)), (3, false, 0));

        let mut builder = BatchBuilder::new(2, 0);
        for n in [69u64, 3, 64, 99] {
            builder.push_nulls(&[0, n], &[if n == 3 { 2 } else { 0 }]);
        }
        let rows = builder.finish();
        let select = [3, 2, 1, 0];
        let mut flags = Flags::new(&ahead);
        flags.eval(&rows, &select);
        let mut behind = BatchBuilder::new(3, 0);
        for (i, &row) in select.iter().enumerate() {
            let words = &flags.from(i)[..2];
            behind.push(&[rows.row(row as usize)[1], words[0], words[1]]);
        }
        let behind = behind.finish();
        for (i, program) in read.iter_mut().enumerate() {
            let mut mask = Vec::new();
            program.mask(&behind, &[0, 1, 2, 3], &mut mask);
            // NULL is not 3.
            let expected = match i {
                69 => 1 << 3,
                64 => 1 << 1,
                _ => 0,
            };
            assert_eq!(mask, [expected], "{i}");
        }
    }
}
