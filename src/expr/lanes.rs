//! The driver of one instruction over the selected rows of a batch: loops over whole columns, one
//! copy for each way in which operands lie. Invariants are those of [`super::vector`].

use super::code::Operand;
use super::op::{ARGS_MAX, Args, Driver, Shape};
use super::vector::{Program, Register};
use crate::ground::batch::RecordBatch;
use crate::ground::bits;
use crate::ground::slot;

/// Where a loop finds an operand's words.
#[derive(Clone, Copy)]
enum Words<'a> {
    Dense(&'a [u64]),
    Rows { slots: &'a [u64], select: &'a [u32], width: usize, column: usize },
    Same(u64),
}

impl Words<'_> {
    #[inline(always)]
    fn get(&self, i: usize) -> u64 {
        match *self {
            Words::Dense(words) => words[i],
            Words::Rows { slots, select, width, column } => {
                slots[select[i] as usize * width + column]
            }
            Words::Same(word) => word,
        }
    }
}

/// One copy of a loop for each way its operand may lie, so that the choice is outside the loop.
macro_rules! with_words {
    ($words:expr, |$get:ident| $body:expr) => {
        match $words {
            Words::Dense(words) => {
                let $get = |i: usize| words[i];
                $body
            }
            Words::Rows { slots, select, width, column } => {
                let $get = |i: usize| slots[select[i] as usize * width + column];
                $body
            }
            Words::Same(word) => {
                let $get = |_: usize| word;
                $body
            }
        }
    };
}

/// The driver of one instruction.
pub(super) struct Lanes<'a> {
    pub program: &'a Program,
    pub batch: &'a RecordBatch,
    pub select: &'a [u32],
    pub args: &'a [Operand],
    pub shape: Shape,
    pub out: &'a mut Register,
}

impl<'a> Lanes<'a> {
    fn words(&self, arg: usize) -> Words<'a> {
        match self.args[arg] {
            Operand::Column(place) => Words::Rows {
                slots: self.batch.slots(),
                select: self.select,
                width: self.batch.width(),
                column: self.program.code.columns[place as usize],
            },
            Operand::Constant(place) => {
                Words::Same(self.program.code.constants[place as usize].slot)
            }
            Operand::Register(r) => Words::Dense(&self.program.registers[r as usize].words),
            Operand::Ref(_) => unreachable!("a batch has no partial match"),
        }
    }

    fn heap(&self, arg: usize) -> &'a [u8] {
        match self.args[arg] {
            Operand::Column(_) => self.batch.heap(),
            Operand::Constant(_) => &self.program.code.heap,
            Operand::Register(r) => &self.program.registers[r as usize].heap,
            Operand::Ref(_) => unreachable!("a batch has no partial match"),
        }
    }

    fn nulls(&self, arg: usize) -> Option<&'a [u64]> {
        match self.args[arg] {
            Operand::Column(place) => self.program.nulls[place as usize].get(),
            Operand::Register(r) => self.program.registers[r as usize].nulls.get(),
            _ => None,
        }
    }

    fn is_null_constant(&self, arg: usize) -> bool {
        match self.args[arg] {
            Operand::Constant(place) => self.program.code.constants[place as usize].is_null,
            _ => false,
        }
    }

    /// Sets the result's null bits to those of all arguments (invariant 2 of op.rs).
    fn strict_nulls(&mut self) {
        let len = self.select.len();
        self.out.nulls.any = false;
        for arg in 0..self.args.len() {
            if self.is_null_constant(arg) {
                self.clear_nulls();
                let nulls = &mut self.out.nulls;
                nulls.any = len > 0;
                nulls.bits.fill(!0);
                if let Some(last) = nulls.bits.last_mut() {
                    *last = bits::tail(len);
                }
            } else if let Some(theirs) = self.nulls(arg) {
                let nulls = &mut self.out.nulls;
                if nulls.any {
                    nulls.bits.iter_mut().zip(theirs).for_each(|(ours, bits)| *ours |= bits);
                } else {
                    nulls.bits.clear();
                    nulls.bits.extend_from_slice(theirs);
                    nulls.any = true;
                }
            }
        }
    }

    /// No NULL, but bits to set them in.
    fn clear_nulls(&mut self) {
        self.out.nulls.bits.clear();
        self.out.nulls.bits.resize(bits::words(self.select.len()), 0);
    }

    /// Takes bits off a mask where it is NULL (invariant 3 of op.rs).
    fn clear_null_bits(&mut self) {
        if self.out.nulls.any {
            let nulls = &self.out.nulls.bits;
            self.out.words.iter_mut().zip(nulls).for_each(|(word, null)| *word &= !null);
        }
    }

    fn fill(&mut self, word: impl Fn(usize) -> u64) {
        self.out.words.clear();
        self.out.words.extend((0..self.select.len()).map(word));
    }

    fn fill_or_null(&mut self, word: impl Fn(usize) -> Option<u64>) {
        let len = self.select.len();
        let out = &mut *self.out;
        out.words.clear();
        out.words.resize(len, 0);
        let had_nulls = out.nulls.any;
        if !had_nulls {
            out.nulls.bits.clear();
            out.nulls.bits.resize(bits::words(len), 0);
        }
        for (block, (words, nulls)) in out.words.chunks_mut(64).zip(&mut out.nulls.bits).enumerate()
        {
            let mut failed = 0u64;
            for (i, slot) in words.iter_mut().enumerate() {
                let value = word(block * 64 + i);
                *slot = value.unwrap_or(0);
                failed |= u64::from(value.is_none()) << i;
            }
            *nulls |= failed;
            out.nulls.any |= failed != 0;
        }
    }

    fn args_of(&self, words: &[Words<'a>; ARGS_MAX], args: &mut Args<'a>, i: usize) {
        for (slot, words) in args.slots[..args.len].iter_mut().zip(words) {
            *slot = words.get(i);
        }
    }

    fn sources(&self) -> ([Words<'a>; ARGS_MAX], Args<'a>) {
        let mut words = [Words::Same(0); ARGS_MAX];
        let mut args = Args { slots: [0; ARGS_MAX], heaps: [&[]; ARGS_MAX], len: self.args.len() };
        let places = words.iter_mut().zip(&mut args.heaps).take(args.len);
        for (arg, (words, heap)) in places.enumerate() {
            *words = self.words(arg);
            *heap = self.heap(arg);
        }
        (words, args)
    }

    /// A mask operand's bits and null bits.
    fn mask_of(&self, arg: usize) -> (&'a [u64], Option<&'a [u64]>) {
        let Operand::Register(r) = self.args[arg] else {
            unreachable!("code.rs puts masks into registers");
        };
        let register = &self.program.registers[r as usize];
        (&register.words, register.nulls.get())
    }

    /// AND is OR of the negations: both are NULL where neither side decides.
    fn connect(&mut self, join: impl Fn(u64, u64, u64, u64) -> (u64, u64)) {
        let ((a, a_nulls), (b, b_nulls)) = (self.mask_of(0), self.mask_of(1));
        let out = &mut *self.out;
        out.words.clear();
        out.nulls.any = false;
        if a_nulls.is_none() && b_nulls.is_none() {
            out.words.extend(a.iter().zip(b).map(|(&a, &b)| join(a, 0, b, 0).0));
            return;
        }
        out.nulls.bits.clear();
        for i in 0..a.len() {
            let null = |nulls: Option<&[u64]>| nulls.map_or(0, |nulls| nulls[i]);
            let (word, nulls) = join(a[i], null(a_nulls), b[i], null(b_nulls));
            out.words.push(word);
            out.nulls.bits.push(nulls);
            out.nulls.any |= nulls != 0;
        }
    }

    fn select_masks(&mut self) {
        let (condition, _) = self.mask_of(0);
        let ((a, a_nulls), (b, b_nulls)) = (self.mask_of(1), self.mask_of(2));
        let out = &mut *self.out;
        let choose = |i: usize, a: u64, b: u64| a & condition[i] | b & !condition[i];
        out.words.clear();
        out.words.extend((0..condition.len()).map(|i| choose(i, a[i], b[i])));
        out.nulls.any = a_nulls.is_some() || b_nulls.is_some();
        if out.nulls.any {
            let null = |nulls: Option<&[u64]>, i: usize| nulls.map_or(0, |nulls| nulls[i]);
            let both = |i| choose(i, null(a_nulls, i), null(b_nulls, i));
            out.nulls.bits.clear();
            out.nulls.bits.extend((0..condition.len()).map(both));
        }
    }

    fn select_nulls(&mut self, condition: &[u64]) {
        let sides = [1, 2].map(|arg| (self.nulls(arg), self.is_null_constant(arg)));
        let len = self.select.len();
        let out = &mut self.out.nulls;
        out.any = sides.iter().any(|(nulls, is_null)| nulls.is_some() || *is_null);
        if !out.any {
            return;
        }
        let null = |side: usize, i: usize| match sides[side] {
            (_, true) => !0,
            (Some(nulls), _) => nulls[i],
            (None, _) => 0,
        };
        out.bits.clear();
        let both = |i: usize| null(0, i) & condition[i] | null(1, i) & !condition[i];
        out.bits.extend((0..condition.len()).map(both));
        if let Some(last) = out.bits.last_mut() {
            *last &= bits::tail(len);
        }
    }
}

impl Driver for Lanes<'_> {
    fn map1(&mut self, kernel: impl Fn(u64) -> u64) {
        self.strict_nulls();
        with_words!(self.words(0), |a| self.fill(|i| kernel(a(i))));
    }

    fn try1(&mut self, kernel: impl Fn(u64) -> Option<u64>) {
        self.strict_nulls();
        with_words!(self.words(0), |a| self.fill_or_null(|i| kernel(a(i))));
    }

    fn map2(&mut self, kernel: impl Fn(u64, u64) -> u64) {
        self.strict_nulls();
        match (self.words(0), self.words(1)) {
            (Words::Dense(a), Words::Dense(b)) => {
                let b = &b[..a.len()];
                self.fill(|i| kernel(a[i], b[i]));
            }
            (Words::Dense(a), Words::Same(b)) => self.fill(|i| kernel(a[i], b)),
            (a, b) => self.fill(|i| kernel(a.get(i), b.get(i))),
        }
    }

    fn try2(&mut self, kernel: impl Fn(u64, u64) -> Option<u64>) {
        self.strict_nulls();
        match (self.words(0), self.words(1)) {
            (Words::Dense(a), Words::Dense(b)) => {
                let b = &b[..a.len()];
                self.fill_or_null(|i| kernel(a[i], b[i]));
            }
            (Words::Dense(a), Words::Same(b)) => self.fill_or_null(|i| kernel(a[i], b)),
            (a, b) => self.fill_or_null(|i| kernel(a.get(i), b.get(i))),
        }
    }

    fn test1(&mut self, kernel: impl Fn(u64) -> bool) {
        self.strict_nulls();
        let len = self.select.len();
        with_words!(self.words(0), |a| bits::pack(len, &mut self.out.words, |i| { kernel(a(i)) }));
        self.clear_null_bits();
    }

    fn test2(&mut self, kernel: impl Fn(u64, u64) -> bool) {
        self.strict_nulls();
        let len = self.select.len();
        let b = self.words(1);
        with_words!(self.words(0), |a| match b {
            Words::Same(b) => bits::pack(len, &mut self.out.words, |i| kernel(a(i), b)),
            Words::Dense(b) => bits::pack(len, &mut self.out.words, |i| kernel(a(i), b[i])),
            b => bits::pack(len, &mut self.out.words, |i| kernel(a(i), b.get(i))),
        });
        self.clear_null_bits();
    }

    fn test_texts(&mut self, kernel: impl Fn(u64, &[u8], u64, &[u8]) -> bool) {
        self.strict_nulls();
        let (x, y) = (self.heap(0), self.heap(1));
        let (a, b) = (self.words(0), self.words(1));
        let (len, out) = (self.select.len(), &mut self.out.words);
        match b {
            Words::Same(b) => {
                with_words!(a, |a| bits::pack(len, out, |i| kernel(a(i), x, b, y)));
            }
            b => bits::pack(len, out, |i| kernel(a.get(i), x, b.get(i), y)),
        }
        self.clear_null_bits();
    }

    fn each(&mut self, mut kernel: impl FnMut(&Args<'_>, &mut Vec<u8>) -> Option<u64>) {
        self.strict_nulls();
        let (words, mut args) = self.sources();
        let len = self.select.len();
        self.out.words.clear();
        self.out.heap.clear();
        if !self.out.nulls.any {
            self.clear_nulls();
        }
        for i in 0..len {
            if bits::get(&self.out.nulls.bits, i) {
                self.out.words.push(0);
                continue;
            }
            self.args_of(&words, &mut args, i);
            let value = kernel(&args, &mut self.out.heap);
            if value.is_none() {
                bits::set(&mut self.out.nulls.bits, i);
                self.out.nulls.any = true;
            }
            self.out.words.push(value.unwrap_or(0));
        }
    }

    fn each_test(&mut self, mut kernel: impl FnMut(&Args<'_>) -> Option<bool>) {
        self.strict_nulls();
        let (words, mut args) = self.sources();
        let len = self.select.len();
        self.out.words.clear();
        self.out.words.resize(bits::words(len), 0);
        if !self.out.nulls.any {
            self.clear_nulls();
        }
        for i in 0..len {
            if bits::get(&self.out.nulls.bits, i) {
                continue;
            }
            self.args_of(&words, &mut args, i);
            match kernel(&args) {
                Some(true) => bits::set(&mut self.out.words, i),
                Some(false) => {}
                None => {
                    bits::set(&mut self.out.nulls.bits, i);
                    self.out.nulls.any = true;
                }
            }
        }
    }

    fn and(&mut self) {
        // NULL unless a side is false: false is neither true nor NULL.
        self.connect(|a, an, b, bn| (a & b, (an | bn) & (a | an) & (b | bn)));
    }

    fn or(&mut self) {
        self.connect(|a, an, b, bn| (a | b, (an | bn) & !(a | b)));
    }

    fn not(&mut self) {
        let (mask, nulls) = self.mask_of(0);
        self.out.words.clear();
        self.out.words.extend(mask.iter().map(|word| !word));
        if let Some(last) = self.out.words.last_mut() {
            *last &= bits::tail(self.select.len());
        }
        self.out.nulls.any = nulls.is_some();
        if let Some(nulls) = nulls {
            self.out.nulls.bits.clear();
            self.out.nulls.bits.extend_from_slice(nulls);
        }
        self.clear_null_bits();
    }

    fn is_null(&mut self) {
        self.strict_nulls();
        if !self.out.nulls.any {
            self.clear_nulls();
        }
        self.out.words.clear();
        self.out.words.extend_from_slice(&self.out.nulls.bits);
        self.out.nulls.any = false;
    }

    fn is_true(&mut self) {
        let (mask, _) = self.mask_of(0);
        self.out.words.clear();
        self.out.words.extend_from_slice(mask);
        self.out.nulls.any = false;
    }

    fn widen(&mut self) {
        let (mask, nulls) = self.mask_of(0);
        self.fill(|i| mask[i / 64] >> (i % 64) & 1);
        self.out.nulls.any = nulls.is_some();
        if let Some(nulls) = nulls {
            self.out.nulls.bits.clear();
            self.out.nulls.bits.extend_from_slice(nulls);
        }
    }

    fn select(&mut self) {
        if self.shape == Shape::Mask {
            return self.select_masks();
        }
        let (condition, _) = self.mask_of(0);
        self.select_nulls(condition);
        let (a, b) = (self.words(1), self.words(2));
        let chosen = |i: usize| bits::get(condition, i);
        if self.shape == Shape::Word {
            return self.fill(|i| if chosen(i) { a.get(i) } else { b.get(i) });
        }
        let (x, y) = (self.heap(1), self.heap(2));
        self.out.words.clear();
        self.out.heap.clear();
        for i in 0..self.select.len() {
            let is_null = self.out.nulls.any && bits::get(&self.out.nulls.bits, i);
            let (word, heap) = if chosen(i) { (a.get(i), x) } else { (b.get(i), y) };
            let word = if is_null { 0 } else { slot::rehome(word, heap, &mut self.out.heap) };
            self.out.words.push(word);
        }
    }
}
