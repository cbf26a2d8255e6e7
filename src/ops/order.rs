//! stub
use super::*;
pub struct Order {
    pub operators: Vec<Box<dyn Ordered>>,
}
impl Order {
    pub fn rows(
        &mut self,
        _input: usize,
        _rows: &KeyedRows<'_>,
        _outs: &mut [Outputs],
    ) -> Result<(), OpError> {
        Ok(())
    }
    pub fn watermark(
        &mut self,
        _w: Time,
        _keys: &KeyTable,
        _outs: &mut [Outputs],
    ) -> Result<(), OpError> {
        Ok(())
    }
    pub fn ledger(&self, _operator: usize) -> Ledger {
        Ledger::default()
    }
}
