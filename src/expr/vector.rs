//! The vector machine: runs an expression's instructions over the selected rows of a batch.
//!
//! 1. A register has one word a selected row (or one bit, for masks), and null bits if anything is
//!    NULL; masks have no bit set where they are NULL or past the end.
//! 2. The registers are kept from batch to batch: evaluation allocates only while they grow.
//! 3. The word of a NULL in a result is 0.

use super::ExprError;
use super::code::{Code, Instruction, Operand};
use super::lanes::Lanes;
use super::lower::{self, RowNames};
use super::node::Node;
use super::op::{Op, Shape};
use super::scope::Scope;
use crate::ground::batch::RecordBatch;
use crate::ground::bits;
use crate::ground::schema::DataType;

/// A compiled expression. Owns its registers: evaluation allocates nothing in the steady state.
/// Clone one per shard.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) code: Code,
    pub(super) registers: Vec<Register>,
    /// Null bits of [`Code::columns`] for the selected rows.
    pub(super) nulls: Vec<NullBits>,
    result: Register,
}

/// The values of an expression for the selected rows, in order.
#[derive(Clone, Copy, Debug)]
pub struct Vector<'a> {
    /// One slot a row, as in [`crate::ground::slot`]; 0 where NULL.
    pub values: &'a [u64],
    /// One bit a row, 1 = NULL; `None` if nothing is NULL.
    pub nulls: Option<&'a [u64]>,
    /// Where long texts and arrays lie.
    pub heap: &'a [u8],
}

impl Vector<'_> {
    /// Whether row `i` is NULL.
    #[inline(always)]
    pub fn is_null(&self, i: usize) -> bool {
        self.nulls.is_some_and(|nulls| bits::get(nulls, i))
    }

    /// The slot of row `i`, `None` for NULL.
    #[inline(always)]
    pub fn get(&self, i: usize) -> Option<u64> {
        if self.is_null(i) { None } else { Some(self.values[i]) }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct NullBits {
    pub bits: Vec<u64>,
    pub any: bool,
}

impl NullBits {
    pub fn get(&self) -> Option<&[u64]> {
        self.any.then_some(&self.bits)
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    pub words: Vec<u64>,
    pub nulls: NullBits,
    pub heap: Vec<u8>,
}

impl Program {
    /// Compiles an expression over the columns of `scope`. O(text) but for value numbering, which
    /// is quadratic in the operations; for set-up, never per row.
    ///
    /// # Errors
    /// [`ExprError`] with the place in `text`: syntax, unknown names, types that do not go
    /// together.
    pub fn compile(text: &str, scope: &Scope) -> Result<Program, ExprError> {
        let mut names = RowNames { scope };
        Ok(Program::of(&lower::compile(text, &mut names)?))
    }

    /// As [`Program::compile`], for the value as a text: what `CAST(... AS STRING)` gives.
    ///
    /// # Errors
    /// As [`Program::compile`]; and if the type has no text.
    pub fn text(text: &str, scope: &Scope) -> Result<Program, ExprError> {
        let mut names = RowNames { scope };
        let node = lower::compile(text, &mut names)?;
        let message = format!("a {} has no text", node.type_name());
        let node = node.cast(&DataType::String);
        let wrong = || ExprError { message, span: 0..text.len(), hint: None };
        Ok(Program::of(&node.ok_or_else(wrong)?))
    }

    /// As [`Program::compile`], for a condition.
    ///
    /// # Errors
    /// As [`Program::compile`]; and if the expression is not BOOLEAN.
    pub fn predicate(text: &str, scope: &Scope) -> Result<Program, ExprError> {
        let mut names = RowNames { scope };
        Ok(Program::of(&lower::compile_predicate(text, &mut names)?))
    }

    /// The condition that a bit of a BIGINT column without NULLs is set: what is left of one that
    /// was evaluated before.
    ///
    /// # Panics
    /// If `bit` is over 63.
    pub fn flag(column: usize, bit: u32) -> Program {
        assert!(bit < u64::BITS, "a word has 64 bits");
        let word = Node::column(column, DataType::BigInt, false);
        Program::of(&Node::call(Op::Flag(bit), vec![word], DataType::Boolean))
    }

    /// Column and bit, if it is [`Program::flag`].
    pub fn as_flag(&self) -> Option<(usize, u32)> {
        match &self.code.instructions[..] {
            [Instruction { op: Op::Flag(bit), .. }] => Some((self.code.columns[0], *bit)),
            _ => None,
        }
    }

    /// Reads the columns from other places: column c of the scope is at `place(c)`.
    pub fn remap(&mut self, place: impl Fn(usize) -> usize) {
        self.code.remap(place);
    }

    pub(crate) fn of(node: &Node) -> Program {
        let code = Code::for_batches(node);
        Program {
            registers: vec![Register::default(); code.instructions.len()],
            nulls: vec![NullBits::default(); code.columns.len()],
            result: Register::default(),
            code,
        }
    }

    /// The instructions, for telling programs apart.
    pub fn listing(&self) -> String {
        format!("{:?}", self.code)
    }

    /// The type of the values.
    pub fn data_type(&self) -> &DataType {
        &self.code.data_type
    }

    /// Whether a value may be NULL.
    pub fn nullable(&self) -> bool {
        self.code.nullable
    }

    /// The columns of the batch that are read, each once.
    pub fn columns(&self) -> Vec<usize> {
        self.code.columns.clone()
    }

    /// The column, if the expression is nothing but one: its values can be read where they lie.
    pub fn as_column(&self) -> Option<usize> {
        match (self.code.root, &self.code.data_type) {
            (Operand::Column(place), _) => Some(self.code.columns[place as usize]),
            // A BOOLEAN column is read as a mask.
            (Operand::Register(0), DataType::Boolean) if self.code.instructions.len() == 1 => {
                let Instruction { op, args, .. } = &self.code.instructions[0];
                match (op, args[0]) {
                    (Op::Mask, Operand::Column(_)) => Some(self.code.columns[0]),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The values for the batch's rows `select`, in order. About 1 ns a row and operation on
    /// numbers.
    ///
    /// # Panics
    /// If `select` names a row that is not there, or the batch has fewer columns than the scope.
    pub fn eval<'a>(&'a mut self, batch: &'a RecordBatch, select: &[u32]) -> Vector<'a> {
        self.run(batch, select);
        let own = match self.code.root {
            Operand::Register(r) if self.code.data_type != DataType::Boolean => Some(r as usize),
            _ => None,
        };
        if own.is_none() {
            self.copy_root(batch, select);
        }
        let chosen = match own {
            Some(r) => &mut self.registers[r],
            None => &mut self.result,
        };
        if chosen.nulls.any {
            let words = &mut chosen.words;
            bits::for_each(&chosen.nulls.bits, |i| words[i] = 0);
        }
        let heap = match self.code.root {
            Operand::Column(_) => batch.heap(),
            Operand::Constant(_) => &self.code.heap,
            _ => &chosen.heap,
        };
        Vector { values: &chosen.words, nulls: chosen.nulls.get(), heap }
    }

    /// Puts a root that is no register of words into `result`.
    fn copy_root(&mut self, batch: &RecordBatch, select: &[u32]) {
        let mut result = std::mem::take(&mut self.result);
        let args = [self.code.root];
        let mut lanes = self.lanes(batch, select, &args, Shape::Word, &mut result);
        match self.code.root {
            Operand::Register(_) => Op::Widen.apply(&mut lanes),
            _ => Op::Load.apply(&mut lanes),
        }
        self.result = result;
    }

    /// For BOOLEAN expressions: bit i is set where the value is TRUE for `select[i]` (NULL counts
    /// as not true); see [`crate::ground::bits`].
    ///
    /// # Panics
    /// As [`Program::eval`]; and if the expression is not BOOLEAN.
    pub fn mask(&mut self, batch: &RecordBatch, select: &[u32], out: &mut Vec<u64>) {
        assert_eq!(self.code.data_type, DataType::Boolean, "a mask is BOOLEAN");
        self.run(batch, select);
        let Operand::Register(root) = self.code.root else {
            unreachable!("code.rs puts masks into registers");
        };
        out.clear();
        out.extend_from_slice(&self.registers[root as usize].words);
    }

    fn run(&mut self, batch: &RecordBatch, select: &[u32]) {
        for (nulls, &column) in self.nulls.iter_mut().zip(&self.code.columns) {
            nulls.any = false;
            if batch.has_nulls() {
                bits::pack(select.len(), &mut nulls.bits, |i| {
                    batch.is_null(select[i] as usize, column)
                });
                nulls.any = nulls.bits.iter().any(|&word| word != 0);
            }
        }
        for i in 0..self.code.instructions.len() {
            let mut out = std::mem::take(&mut self.registers[i]);
            let Instruction { op, args, shape } = &self.code.instructions[i];
            let mut lanes = self.lanes(batch, select, args, *shape, &mut out);
            op.apply(&mut lanes);
            self.registers[i] = out;
        }
    }

    fn lanes<'a>(
        &'a self,
        batch: &'a RecordBatch,
        select: &'a [u32],
        args: &'a [Operand],
        shape: Shape,
        out: &'a mut Register,
    ) -> Lanes<'a> {
        Lanes { program: self, batch, select, args, shape, out }
    }
}
