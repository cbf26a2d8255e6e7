//! stub
use super::*;
pub struct NativeEncoder;
impl NativeEncoder {
    pub fn new(_: &Schema) -> NativeEncoder {
        todo!()
    }
}
impl Encoder for NativeEncoder {
    fn encode(&mut self, _: &RecordBatch, _: &[u32], _: &mut Vec<u8>) {
        todo!()
    }
}
