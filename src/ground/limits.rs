//! Every bound of the engine in one place. Reaching one is an ordinary, tested case: back-pressure,
//! a rejected row, or an error that names the limit.

/// Most rows in a batch (`engine.batch_rows`).
pub const BATCH_ROWS_MAX: usize = 65_536;
/// Default of `engine.batch_rows`.
pub const BATCH_ROWS_DEFAULT: usize = 1024;
/// Most columns in a schema.
pub const COLUMNS_MAX: usize = 1024;
/// A batch is ended when its heap has grown to this, in bytes, whatever its rows.
pub const BATCH_HEAP_BYTES: usize = 8 << 20;
/// Longest line of a text format, in bytes; a longer one is rejected.
pub const LINE_BYTES_MAX: usize = 64 << 20;
/// What a source hands to a decoder at once, in bytes of text, where the source may choose.
pub const BLOCK_BYTES: usize = 256 << 10;
/// Rows of a block that a source makes or maps rather than reads.
pub const BLOCK_ROWS: usize = 4096;
/// Blocks of one source waiting for their shard; a full queue stops the reader.
pub const BLOCKS_QUEUED: usize = 4;
/// Messages a ring between two shards holds; a full one stops the sender.
pub const RING_MESSAGES: usize = 16;
/// Key groups: the grain in which keys move between shards when their number changes.
pub const KEY_GROUPS: usize = 128;
/// Most shards of one process.
pub const SHARDS_MAX: usize = KEY_GROUPS;
/// Most keys an operator keeps on one shard.
pub const KEYS_MAX: usize = (u32::MAX - 1) as usize;
/// Columns of the `rejected` output are cut to this many bytes of the raw line.
pub const REJECTED_RAW_BYTES: usize = 64 << 10;
/// Deepest nesting of a value inside a JSON line that is skipped or read.
pub const JSON_DEPTH_MAX: usize = 128;
/// Deepest nesting of an expression.
pub const EXPR_DEPTH_MAX: usize = 200;
/// Most operators, keywords and parentheses of an expression (names, numbers and texts are free, so lists of
/// values may be long): chains of them nest in the tree, and a tree is dropped by recursion.
pub const EXPR_TOKENS_MAX: usize = 4096;
