//! Comma-separated values. Under construction.
use super::*;
pub struct CsvDecoder;
impl CsvDecoder {
    pub fn new(_: &Schema, _: &DecodeOptions) -> Result<CsvDecoder, CodecError> {
        Err(CodecError::NotLines)
    }
}
impl Decoder for CsvDecoder {
    fn decode(
        &mut self,
        _: &[u8],
        _: usize,
        _: &mut usize,
        _: &str,
        _: u64,
        _: usize,
        _: &mut BatchBuilder,
        _: &mut BatchBuilder,
    ) -> DecodeCount {
        DecodeCount::default()
    }
}
pub struct CsvEncoder;
impl CsvEncoder {
    pub fn new(_: &Schema, _: &EncodeOptions) -> Result<CsvEncoder, CodecError> {
        Err(CodecError::NotLines)
    }
}
impl Encoder for CsvEncoder {
    fn encode(&mut self, _: &RecordBatch, _: &[u32], _: &mut Vec<u8>) {}
}
