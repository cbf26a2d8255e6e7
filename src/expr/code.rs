//! The flat form of an expression: instructions over registers, each written once.
//!
//! 1. An instruction reads columns, constants and registers of instructions before it.
//! 2. Equal instructions on equal operands are one (value numbering), so `a + b` written twice is
//!    computed once.
//! 3. Logic reads masks and writes masks; other operations read words.
//! 4. Vector code: arithmetic reads registers and constants only (columns are put side by side by
//!    [`Op::Load`] first, once); tests, texts and selections read columns in place.

use super::node::{Kind, Literal, Node, put_literal};
use super::op::{ARGS_MAX, Op, Shape};
use crate::ground::schema::DataType;

/// Where an instruction finds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    /// Place in [`Code::columns`].
    Column(u32),
    /// Place in [`super::scalar::Scalar::refs`].
    Ref(u32),
    /// Place in [`Code::constants`].
    Constant(u32),
    /// The result of the instruction of this number.
    Register(u32),
}

/// A constant: its slot (a long text lies in [`Code::heap`]), or NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Constant {
    pub slot: u64,
    pub is_null: bool,
}

/// One operation; its result is the register of its number.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub op: Op,
    pub args: Box<[Operand]>,
    pub shape: Shape,
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub instructions: Vec<Instruction>,
    pub constants: Vec<Constant>,
    /// Long texts of the constants.
    pub heap: Vec<u8>,
    /// Columns of the batch that are read, each once.
    pub columns: Vec<usize>,
    /// The value; a mask if the type is BOOLEAN.
    pub root: Operand,
    pub data_type: DataType,
    pub nullable: bool,
    /// Whether arithmetic wants columns side by side (invariant 4).
    loads: bool,
}

impl Code {
    /// Code that runs over batches.
    pub fn for_batches(node: &Node) -> Code {
        Code::new(node, true)
    }

    /// Code that runs on one row at a time.
    pub fn for_rows(node: &Node) -> Code {
        Code::new(node, false)
    }

    fn new(node: &Node, loads: bool) -> Code {
        let mut code = Code {
            instructions: Vec::new(),
            constants: Vec::new(),
            heap: Vec::new(),
            columns: Vec::new(),
            root: Operand::Constant(0),
            data_type: node.data_type.clone().expect("roots are typed"),
            nullable: node.nullable,
            loads,
        };
        code.root = if node.is_boolean() { code.mask(node) } else { code.value(node) };
        code
    }

    /// Reads column c at `place(c)`.
    pub fn remap(&mut self, place: impl Fn(usize) -> usize) {
        self.columns.iter_mut().for_each(|column| *column = place(*column));
    }

    /// The operand of a node that is no mask.
    fn value(&mut self, node: &Node) -> Operand {
        match &node.kind {
            Kind::Column(column) => {
                let known = self.columns.iter().position(|c| c == column);
                let place = known.unwrap_or_else(|| {
                    self.columns.push(*column);
                    self.columns.len() - 1
                });
                Operand::Column(place as u32)
            }
            Kind::Ref(index) => Operand::Ref(*index as u32),
            Kind::Literal(literal) => self.constant(literal),
            Kind::Call(op, args) if node.is_boolean() => {
                let mask = self.call(op, args, Shape::Mask);
                self.push(Op::Widen, vec![mask], Shape::Word)
            }
            Kind::Call(op, args) => {
                let is_heaped = node.data_type.as_ref().is_some_and(DataType::is_heaped);
                let shape = if is_heaped { Shape::Text } else { Shape::Word };
                self.call(op, args, shape)
            }
        }
    }

    /// The operand of a BOOLEAN node, as a mask in a register.
    fn mask(&mut self, node: &Node) -> Operand {
        match &node.kind {
            Kind::Call(op, args) => self.call(op, args, Shape::Mask),
            _ => {
                let word = self.value(node);
                self.push(Op::Mask, vec![word], Shape::Mask)
            }
        }
    }

    fn call(&mut self, op: &Op, args: &[Node], shape: Shape) -> Operand {
        match op {
            Op::And | Op::Or => {
                let mut whole = self.mask(&args[0]);
                for part in &args[1..] {
                    let part = self.mask(part);
                    whole = self.push(op.clone(), vec![whole, part], shape);
                }
                whole
            }
            Op::Not | Op::IsTrue | Op::Widen => {
                let mask = self.mask(&args[0]);
                self.push(op.clone(), vec![mask], shape)
            }
            Op::IsNull => {
                let value = match &args[0].kind {
                    Kind::Call(..) if args[0].is_boolean() => self.mask(&args[0]),
                    _ => self.value(&args[0]),
                };
                self.push(Op::IsNull, vec![value], shape)
            }
            Op::Case => self.case(args, shape),
            Op::Concat if args.len() > ARGS_MAX => {
                let (first, rest) = args.split_at(ARGS_MAX);
                let mut whole = self.call(op, first, shape);
                for part in rest.chunks(ARGS_MAX - 1) {
                    let mut operands = vec![whole];
                    operands.extend(part.iter().map(|arg| self.value(arg)));
                    whole = self.push(Op::Concat, operands, shape);
                }
                whole
            }
            _ => {
                let operands = args.iter().map(|arg| self.value(arg)).collect();
                self.push(op.clone(), operands, shape)
            }
        }
    }

    /// Selects from the last branch to the first, so that the first that is true wins.
    fn case(&mut self, args: &[Node], shape: Shape) -> Operand {
        let (last, branches) = args.split_last().expect("CASE has an ELSE");
        let one = |code: &mut Code, node: &Node| match shape {
            Shape::Mask => code.mask(node),
            _ => code.value(node),
        };
        let mut whole = one(self, last);
        for branch in branches.chunks_exact(2).rev() {
            let condition = self.mask(&branch[0]);
            let value = one(self, &branch[1]);
            whole = self.push(Op::Select, vec![condition, value, whole], shape);
        }
        whole
    }

    fn constant(&mut self, literal: &Literal) -> Operand {
        let put = put_literal(literal, &mut self.heap);
        let constant = Constant { slot: put.unwrap_or(0), is_null: put.is_none() };
        self.constants.push(constant);
        Operand::Constant(self.constants.len() as u32 - 1)
    }

    fn push(&mut self, op: Op, args: Vec<Operand>, shape: Shape) -> Operand {
        let args: Box<[Operand]> = if self.loads && wants_registers(&op) {
            args.into_iter().map(|arg| self.loaded(arg)).collect()
        } else {
            args.into()
        };
        let same = |a: &Operand, b: &Operand| match (a, b) {
            (Operand::Constant(a), Operand::Constant(b)) => {
                self.constants[*a as usize] == self.constants[*b as usize]
            }
            _ => a == b,
        };
        let known = self.instructions.iter().position(|other| {
            other.op == op
                && other.shape == shape
                && other.args.len() == args.len()
                && other.args.iter().zip(&args).all(|(a, b)| same(a, b))
        });
        let place = known.unwrap_or_else(|| {
            self.instructions.push(Instruction { op, args, shape });
            self.instructions.len() - 1
        });
        Operand::Register(place as u32)
    }

    fn loaded(&mut self, operand: Operand) -> Operand {
        match operand {
            Operand::Column(_) => self.push(Op::Load, vec![operand], Shape::Word),
            other => other,
        }
    }
}

/// Whether an operation is arithmetic on words, whose loops read arrays (invariant 4).
fn wants_registers(op: &Op) -> bool {
    use Op::*;
    matches!(
        op,
        AddInt
            | SubInt
            | MulInt
            | DivInt
            | ModInt
            | NegInt
            | AbsInt
            | SignInt { .. }
            | MinInt
            | MaxInt
            | AddDecimal { .. }
            | MulDecimal { .. }
            | DivDecimal { .. }
            | ModDecimal { .. }
            | Rescale { .. }
            | FloorDecimal { .. }
            | CeilDecimal { .. }
            | TruncateDecimal { .. }
            | RoundDecimal { .. }
            | AddDouble
            | SubDouble
            | MulDouble
            | DivDouble
            | ModDouble
            | NegDouble
            | AbsDouble
            | SignDouble
            | MinDouble
            | MaxDouble
            | FloorDouble
            | CeilDouble
            | RoundDouble { .. }
            | Power
            | Sqrt
            | Ln
            | Log10
            | Exp
            | IntToDouble
            | DecimalToDouble { .. }
            | DoubleToInt
            | DoubleToDecimal { .. }
            | Truncate(_)
            | RoundUp(_)
            | Field(_)
            | AddMonths
            | MonthsBetween
    )
}
