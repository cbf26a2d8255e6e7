//! The scalar machine: runs an expression's instructions for one row, without a batch of its own.
//! It is how patterns test what a row means to a partial match, and how constants are folded.
//!
//! 1. The kernels are those of the vector machine ([`super::op`]); masks are words of 0 or 1.
//! 2. Registers live in the machine: a test allocates nothing, once the heaps of text operations
//!    have grown.

use std::cell::Cell;

use super::code::{Code, Instruction, Operand};
use super::op::{ARGS_MAX, Args, Compare, Driver, Op, Shape};
use super::pattern::StepRef;
use crate::ground::batch::RecordBatch;
use crate::ground::slot;

/// A value from outside the row: its slot, whether it is NULL, and where long texts lie.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    pub slot: u64,
    pub null: bool,
    pub heap: &'a [u8],
}

/// A condition on one row and the values that a partial match gives. Keep one per shard: it is
/// `Send`, not `Sync`.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The values that [`Scalar::test`] wants, in order.
    pub refs: Vec<StepRef>,
    machine: Machine,
}

impl Scalar {
    pub(crate) fn new(refs: Vec<StepRef>, code: Code) -> Scalar {
        Scalar { refs, machine: Machine::new(code) }
    }

    /// The columns of the event being tried that are read, each once.
    pub fn columns(&self) -> &[usize] {
        &self.machine.code.columns
    }

    /// Reads the columns, those of the refs too, from other places: column c is at `place(c)`.
    pub fn remap(&mut self, place: impl Fn(usize) -> usize) {
        self.machine.code.remap(&place);
        for of in &mut self.refs {
            of.argument = of.argument.map(&place);
        }
    }

    /// The comparison, if the condition is no more than one of a column with one of the refs.
    pub fn as_comparison(&self) -> Option<Comparison> {
        Comparison::of(&self.machine.code)
    }

    /// Whether the condition is TRUE (NULL is not). `row` of `batch` is the event being tried,
    /// `refs[i]` the value of `self.refs[i]`. 2-3 ns an operation.
    ///
    /// # Panics
    /// If there is no such row, or there are fewer `refs` than wanted.
    pub fn test(&self, batch: &RecordBatch, row: usize, refs: &[Value<'_>]) -> bool {
        let (word, null) = self.machine.run(batch, row, refs);
        word != 0 && !null
    }

    /// The value of the expression, `None` for NULL; for tests against the vector machine.
    #[cfg(test)]
    pub(crate) fn value(
        &self,
        batch: &RecordBatch,
        row: usize,
        refs: &[Value<'_>],
    ) -> Option<Vec<u8>> {
        let (word, null) = self.machine.run(batch, row, refs);
        let heap = self.machine.root_heap(batch, refs);
        if null {
            return None;
        }
        if self.machine.code.data_type.is_heaped() {
            let heap = heap.to_vec();
            return Some(slot::bytes(&word, &heap).to_vec());
        }
        Some(word.to_le_bytes().to_vec())
    }
}

/// `column <compare> ref` of BIGINTs, TIMESTAMPs, DECIMALs of one scale or texts, as patterns ask
/// of neighbours all the time; known as such, it costs no machine.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Column of the event being tried.
    pub column: usize,
    /// Place in [`Scalar::refs`].
    pub reference: usize,
    compare: Compare,
    is_text: bool,
}

impl Comparison {
    fn of(code: &Code) -> Option<Comparison> {
        let [Instruction { op, args, .. }] = &code.instructions[..] else {
            return None;
        };
        let (compare, is_text) = match op {
            Op::CompareInt(compare) => (*compare, false),
            Op::CompareText(compare) => (*compare, true),
            _ => return None,
        };
        let (column, reference, compare) = match args[..] {
            [Operand::Column(column), Operand::Ref(of)] => (column, of, compare),
            [Operand::Ref(of), Operand::Column(column)] => (column, of, compare.flipped()),
            _ => return None,
        };
        let column = code.columns[column as usize];
        Some(Comparison { column, reference: reference as usize, compare, is_text })
    }

    /// Whether it is the same comparison of the same column, whatever it is compared with.
    pub fn is_like(&self, other: &Comparison) -> bool {
        let of = |it: &Comparison| (it.column, it.compare, it.is_text);
        of(self) == of(other)
    }

    /// Whether it is TRUE, if that can be told from the slots alone: of texts only whether short
    /// ones are equal.
    #[inline(always)]
    pub fn holds(&self, value: u64, of: u64) -> Option<bool> {
        if !self.is_text {
            return Some(self.compare.holds((value as i64).cmp(&(of as i64))));
        }
        match self.compare {
            _ if slot::is_heaped(value) || slot::is_heaped(of) => None,
            Compare::Eq => Some(value == of),
            Compare::Ne => Some(value != of),
            _ => None,
        }
    }
}

/// Code with its registers.
pub(crate) struct Machine {
    pub code: Code,
    registers: Box<[Cell<(u64, bool)>]>,
    /// Long texts of the registers that make them; taken out while an instruction writes.
    heaps: Box<[Cell<Vec<u8>>]>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.code.fmt(f)
    }
}

impl Clone for Machine {
    fn clone(&self) -> Machine {
        Machine::new(self.code.clone())
    }
}

impl Machine {
    pub fn new(code: Code) -> Machine {
        let texts = code.instructions.iter().rposition(|i| i.shape == Shape::Text);
        Machine {
            registers: code.instructions.iter().map(|_| Cell::new((0, true))).collect(),
            heaps: (0..texts.map_or(0, |last| last + 1)).map(|_| Cell::default()).collect(),
            code,
        }
    }

    fn run(&self, batch: &RecordBatch, row: usize, refs: &[Value<'_>]) -> (u64, bool) {
        let mut lane = Lane { machine: self, batch, row, refs, at: 0, args: &[] };
        for (at, Instruction { op, args, .. }) in self.code.instructions.iter().enumerate() {
            lane.at = at;
            lane.args = args;
            op.apply(&mut lane);
        }
        lane.operand(self.code.root)
    }

    /// The value of code that reads nothing: its word and heap, `None` for NULL.
    pub fn constant(&mut self) -> Option<(u64, &[u8])> {
        let nothing = RecordBatch::empty(0);
        let (word, null) = self.run(&nothing, 0, &[]);
        if null {
            return None;
        }
        let heap: &[u8] = match self.code.root {
            Operand::Register(r) if (r as usize) < self.heaps.len() => {
                self.heaps[r as usize].get_mut()
            }
            _ => &self.code.heap,
        };
        Some((word, heap))
    }

    #[cfg(test)]
    fn root_heap(&self, batch: &RecordBatch, refs: &[Value<'_>]) -> Vec<u8> {
        match self.code.root {
            Operand::Register(r) if (r as usize) < self.heaps.len() => {
                let heap = self.heaps[r as usize].take();
                self.heaps[r as usize].set(heap.clone());
                heap
            }
            Operand::Register(_) => Vec::new(),
            Operand::Column(_) => batch.heap().to_vec(),
            Operand::Constant(_) => self.code.heap.clone(),
            Operand::Ref(i) => refs[i as usize].heap.to_vec(),
        }
    }
}

/// The driver of one instruction on one row.
struct Lane<'a> {
    machine: &'a Machine,
    batch: &'a RecordBatch,
    row: usize,
    refs: &'a [Value<'a>],
    at: usize,
    args: &'a [Operand],
}

/// A register's heap, lent out of its cell and put back when dropped.
struct Lent<'a> {
    cell: Option<&'a Cell<Vec<u8>>>,
    bytes: Vec<u8>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell {
            cell.set(std::mem::take(&mut self.bytes));
        }
    }
}

impl<'a> Lane<'a> {
    #[inline(always)]
    fn operand(&self, operand: Operand) -> (u64, bool) {
        match operand {
            Operand::Register(r) => self.machine.registers[r as usize].get(),
            Operand::Column(place) => {
                let column = self.machine.code.columns[place as usize];
                let slot = self.batch.slots()[self.row * self.batch.width() + column];
                (slot, self.batch.is_null(self.row, column))
            }
            Operand::Ref(i) => {
                let value = &self.refs[i as usize];
                (value.slot, value.null)
            }
            Operand::Constant(place) => {
                let constant = self.machine.code.constants[place as usize];
                (constant.slot, constant.is_null)
            }
        }
    }

    #[inline(always)]
    fn arg(&self, i: usize) -> (u64, bool) {
        self.operand(self.args[i])
    }

    #[inline(always)]
    fn set(&self, word: u64, null: bool) {
        self.machine.registers[self.at].set((if null { 0 } else { word }, null));
    }

    fn lend(&self, operand: Operand) -> Lent<'a> {
        match operand {
            Operand::Register(r) if (r as usize) < self.machine.heaps.len() => {
                let cell = &self.machine.heaps[r as usize];
                Lent { cell: Some(cell), bytes: cell.take() }
            }
            _ => Lent { cell: None, bytes: Vec::new() },
        }
    }

    /// The heap of an operand, whose own bytes, if it is a register, were lent.
    fn heap<'b>(&self, operand: Operand, lent: &'b Lent<'a>) -> &'b [u8]
    where
        'a: 'b,
    {
        match operand {
            Operand::Register(_) => &lent.bytes,
            Operand::Column(_) => self.batch.heap(),
            Operand::Ref(i) => self.refs[i as usize].heap,
            Operand::Constant(_) => &self.machine.code.heap,
        }
    }

    /// Gives the kernel the row's arguments, unless one is NULL.
    fn with_args<R>(&self, kernel: impl FnOnce(&Args<'_>) -> Option<R>) -> Option<R> {
        let mut slots = [0; ARGS_MAX];
        for (slot, &operand) in slots.iter_mut().zip(self.args) {
            let (word, null) = self.operand(operand);
            if null {
                return None;
            }
            *slot = word;
        }
        // The same register may stand twice (`a || a`): its bytes are lent once, so look for the first.
        let first =
            |i: usize| self.args.iter().position(|other| *other == self.args[i]).unwrap_or(i);
        let lent: [Option<Lent<'a>>; ARGS_MAX] = std::array::from_fn(|i| {
            (i < self.args.len() && first(i) == i).then(|| self.lend(self.args[i]))
        });
        let mut heaps: [&[u8]; ARGS_MAX] = [&[]; ARGS_MAX];
        for i in 0..self.args.len() {
            if let Some(lent) = &lent[first(i)] {
                heaps[i] = self.heap(self.args[i], lent);
            }
        }
        kernel(&Args { slots, heaps, len: self.args.len() })
    }

    fn own_heap(&self) -> Lent<'a> {
        let mut lent = self.lend(Operand::Register(self.at as u32));
        lent.bytes.clear();
        lent
    }
}

impl Driver for Lane<'_> {
    fn map1(&mut self, kernel: impl Fn(u64) -> u64) {
        let (a, null) = self.arg(0);
        self.set(kernel(a), null);
    }

    fn try1(&mut self, kernel: impl Fn(u64) -> Option<u64>) {
        let (a, null) = self.arg(0);
        let value = kernel(a);
        self.set(value.unwrap_or(0), null || value.is_none());
    }

    fn map2(&mut self, kernel: impl Fn(u64, u64) -> u64) {
        let ((a, x), (b, y)) = (self.arg(0), self.arg(1));
        self.set(kernel(a, b), x || y);
    }

    fn try2(&mut self, kernel: impl Fn(u64, u64) -> Option<u64>) {
        let ((a, x), (b, y)) = (self.arg(0), self.arg(1));
        let value = kernel(a, b);
        self.set(value.unwrap_or(0), x || y || value.is_none());
    }

    fn test1(&mut self, kernel: impl Fn(u64) -> bool) {
        let (a, null) = self.arg(0);
        self.set(u64::from(kernel(a)), null);
    }

    fn test2(&mut self, kernel: impl Fn(u64, u64) -> bool) {
        let ((a, x), (b, y)) = (self.arg(0), self.arg(1));
        self.set(u64::from(kernel(a, b)), x || y);
    }

    fn test_texts(&mut self, kernel: impl Fn(u64, &[u8], u64, &[u8]) -> bool) {
        let ((a, x), (b, y)) = (self.arg(0), self.arg(1));
        if x || y {
            return self.set(0, true);
        }
        // Short texts need no heap.
        if !slot::is_heaped(a) && !slot::is_heaped(b) {
            return self.set(u64::from(kernel(a, &[], b, &[])), false);
        }
        let found = self.with_args(|args| {
            Some(kernel(args.slots[0], args.heaps[0], args.slots[1], args.heaps[1]))
        });
        self.set(u64::from(found == Some(true)), found.is_none());
    }

    fn each(&mut self, mut kernel: impl FnMut(&Args<'_>, &mut Vec<u8>) -> Option<u64>) {
        let mut own = self.own_heap();
        let value = self.with_args(|args| kernel(args, &mut own.bytes));
        self.set(value.unwrap_or(0), value.is_none());
    }

    fn each_test(&mut self, mut kernel: impl FnMut(&Args<'_>) -> Option<bool>) {
        let value = self.with_args(|args| kernel(args));
        self.set(u64::from(value == Some(true)), value.is_none());
    }

    fn and(&mut self) {
        let ((a, x), (b, y)) = (self.arg(0), self.arg(1));
        let (a_false, b_false) = (a == 0 && !x, b == 0 && !y);
        self.set(a & b, (x || y) && !a_false && !b_false);
    }

    fn or(&mut self) {
        let ((a, x), (b, y)) = (self.arg(0), self.arg(1));
        self.set(a | b, (x || y) && a | b == 0);
    }

    fn not(&mut self) {
        let (a, null) = self.arg(0);
        self.set(a ^ 1, null);
    }

    fn is_null(&mut self) {
        let (_, null) = self.arg(0);
        self.set(u64::from(null), false);
    }

    fn is_true(&mut self) {
        let (a, _) = self.arg(0);
        self.set(a, false);
    }

    fn widen(&mut self) {
        let (a, null) = self.arg(0);
        self.set(a, null);
    }

    fn select(&mut self) {
        let chosen = if self.arg(0).0 != 0 { 1 } else { 2 };
        let (word, null) = self.arg(chosen);
        if null || self.machine.code.instructions[self.at].shape != Shape::Text {
            return self.set(word, null);
        }
        let mut own = self.own_heap();
        let from = self.lend(self.args[chosen]);
        let word = slot::rehome(word, self.heap(self.args[chosen], &from), &mut own.bytes);
        self.set(word, false);
    }
}
