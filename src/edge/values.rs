//! Rows that stand in the pipeline file itself: JSON lines that are there from the start.

use crate::edge::lines::{LineLimits, Lines};
use crate::port::{Next, PortError, Source, Text};

/// What a `values` source is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuesOptions {
    /// What rejected rows give as their origin: `pipeline.toml, sources.x`, say.
    pub origin: String,
    /// The rows, one JSON object a line.
    pub text: String,
}

/// The source; usually one block.
pub struct ValuesSource {
    lines: Lines,
    text: Vec<u8>,
    taken: usize,
    /// Blocks given.
    given: u64,
}

impl ValuesSource {
    /// Cannot fail: everything is there.
    pub fn new(options: &ValuesOptions) -> ValuesSource {
        ValuesSource {
            lines: Lines::new(options.origin.as_str().into(), LineLimits::default()),
            text: options.text.clone().into_bytes(),
            taken: 0,
            given: 0,
        }
    }
}

impl Source for ValuesSource {
    fn next(&mut self, _wait_ms: u64) -> Result<Next, PortError> {
        let mut left = &self.text[self.taken..];
        let block = self.lines.next(&mut left);
        self.taken = self.text.len() - left.len();
        match block {
            Ok(Some(block)) => {
                self.given += 1;
                Ok(Next::Block(block))
            }
            Ok(None) => Ok(Next::End),
            Err(source) => Err(PortError::Io { what: "cannot read the values".into(), source }),
        }
    }

    fn recycle(&mut self, text: Text) {
        self.lines.recycle(text);
    }

    fn position(&self) -> Option<u64> {
        Some(self.given)
    }

    fn is_bounded(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Block;

    #[test]
    fn a_few_rows_are_one_block_and_none_are_none() {
        let options = |text: &str| ValuesOptions { origin: "p.toml".into(), text: text.into() };
        let mut source = ValuesSource::new(&options("{\"a\":1}\n{\"a\":2}"));
        let Next::Block(Block::Text { text, origin, at, .. }) = source.next(0).unwrap() else {
            panic!("a block of lines comes first");
        };
        assert_eq!((&*origin, at), ("p.toml", 0));
        assert_eq!(text.text(), b"{\"a\":1}\n{\"a\":2}");
        assert!(matches!(source.next(0), Ok(Next::End)));
        let mut source = ValuesSource::new(&options(""));
        assert!(matches!(source.next(0), Ok(Next::End)));
    }
}
