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
/// Messages of one ring that wait outside it since a barrier overtook them, beyond which a task
/// that sources feed lets no other barrier overtake more. On top of it comes what one barrier finds
/// on its way: a ring, and the blocks that are queued for the producer.
pub const FLIGHT_MESSAGES_MAX: usize = 4 * RING_MESSAGES;
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
/// Most rows that wait for their watermark in front of one key's operators on one shard. More
/// wait only where an input lags far behind another, and then the run stops and says so.
pub const WAITING_ROWS_MAX: usize = 1 << 27;
/// Deepest nesting of folders below the path of a file source (a link may lead back up).
pub const FOLDER_DEPTH_MAX: usize = 64;
/// Most files that the path of one source may stand for.
pub const FILES_MAX: usize = 1 << 20;
/// A mapped file keeps this much behind its reader in the process's memory, in bytes.
pub const MAPPED_BEHIND_BYTES: usize = 16 << 20;
/// What a sink collects before it asks the system to write, in bytes.
pub const SINK_BUFFER_BYTES: usize = 256 << 10;
/// Most sub-folders (`partition_by`) that one sink writes into on one shard in one epoch; one more
/// stops the run. Each is synced by itself, some ms a folder.
pub const SINK_FOLDERS_MAX: usize = 4096;
/// What a sink with sub-folders collects for all of them on one shard before it asks the system to
/// write, in bytes.
pub const SINK_FOLDERS_BYTES: usize = 16 << 20;
/// Longest name of a sub-folder, in bytes (systems take 255); a longer one is cut, and a hash put
/// in place of the rest.
pub const FOLDER_NAME_BYTES_MAX: usize = 200;
/// Longest wait for a peer to take a connection, in ms.
pub const CONNECT_MS_MAX: u64 = 10_000;
/// Most operators, keywords and parentheses of an expression (names, numbers and texts are free, so
/// lists of values may be long): chains nest in the tree, and a tree is dropped by recursion.
pub const EXPR_TOKENS_MAX: usize = 4096;
/// Most different conditions (`where`, `until`) of one pattern: one bit each.
pub const PATTERN_CONDITIONS_MAX: usize = 64;
/// Most repeats that `times` may ask for.
pub const PATTERN_TIMES_MAX: i64 = 10_000;
/// Most states and edges of one pattern's automaton.
pub const PATTERN_EDGES_MAX: usize = 1 << 20;
/// Longest time of a checkpoint that is told apart from longer ones, in ms.
pub const CHECKPOINT_MOST_MS: u64 = 3_600_000;
/// From so many bytes on a file of a checkpoint is written past the page cache.
pub const CHECKPOINT_DIRECT_BYTES: usize = 1 << 20;
/// What is sent to a remote at once, in bytes; a larger file goes in parts of this.
pub const REMOTE_PART_BYTES: usize = 8 << 20;
/// Most parts of a file that are under way to a remote at a time.
pub const REMOTE_PARTS_UNDER_WAY: usize = 4;
/// Longest wait for one request to a remote, in ms: a part at 0.3 MB/s.
pub const REMOTE_REQUEST_MS_MAX: u64 = 30_000;
/// Tries of one request to a remote after the first.
pub const REMOTE_RETRIES: usize = 3;
/// No request to a remote is tried again when so much time has gone since the first, in ms.
pub const REMOTE_RETRY_MS_MAX: u64 = 10_000;
/// First and longest pause between two tries to copy a checkpoint, in ms.
pub const REMOTE_PAUSE_MS: (u64, u64) = (250, 30_000);
/// Tries to copy the last checkpoint of a run.
pub const REMOTE_LAST_TRIES: u32 = 3;
/// Longest key of the store, in bytes: its length is 16 bits on disk.
pub const STORE_KEY_BYTES_MAX: usize = u16::MAX as usize;
/// Longest value of the store, in bytes; a tree with little memory takes less.
pub const STORE_VALUE_BYTES_MAX: usize = 16 << 20;
/// Most bytes of a block before it is compressed: the largest entry, or a table's filter.
pub const STORE_BLOCK_BYTES_MAX: usize = 32 << 20;
/// Most bytes of one request to the disk: larger ones were seen to hang on old kernels.
pub const STORE_REQUEST_BYTES: usize = 512 << 10;
/// Most bytes of a data block before it is compressed, but for a single large entry.
pub const STORE_BLOCK_RAW_BYTES: usize = 32 << 10;
/// What a scan reads at once, in bytes.
pub const STORE_READ_AHEAD_BYTES: usize = 256 << 10;
/// Least that a memtable asks of the allocator at once, in bytes.
pub const STORE_ARENA_CHUNK_BYTES: usize = 256 << 10;
/// Most that a memtable asks of the allocator at once, in bytes, but for a single large entry.
pub const STORE_ARENA_CHUNK_BYTES_MAX: usize = 32 << 20;
/// Bytes at which a memtable is frozen however much memory there is: its places are 32 bits.
pub const STORE_MEMTABLE_BYTES_MAX: usize = 4 << 30;
/// Least memory of a tree, in bytes: below it buffers alone would take more.
pub const STORE_MEMORY_BYTES_MIN: usize = 32 << 20;
/// Bytes at which a table is ended and another begun.
pub const STORE_TABLE_BYTES: u64 = 32 << 20;
/// Most memtables of a tree that wait to be flushed.
pub const STORE_FROZEN_MAX: usize = 64;
/// Flushed runs of a tree at which who writes waits for a merge (RocksDB slows down at 20 and stops
/// at 36).
pub const STORE_RUNS_MAX: usize = 24;
/// Most memtables that are kept for reading after they were flushed.
pub const STORE_KEPT_MAX: usize = 8;
/// Keys whose lines the processor is asked for together.
pub const STORE_PREFETCHED: usize = 32;
/// Most reads of one call that are under way at a time.
pub const STORE_READS_IN_FLIGHT: usize = 128;
/// Most writes of a table that are under way at a time.
pub const STORE_WRITES_IN_FLIGHT: usize = 4;
/// Bytes of entries that one step of a compaction handles.
pub const STORE_STEP_BYTES: usize = 1 << 20;
/// Bytes of rows of one epoch past which they are not kept: the next checkpoint has all keys then.
pub const LOG_EPOCH_BYTES: usize = 32 << 20;
/// As [`LOG_EPOCH_BYTES`]: so many times the bytes of all keys.
pub const LOG_EPOCH_TIMES: usize = 2;
/// Bytes at which a file of rows is ended: a smaller one is written again with the next epoch.
pub const LOG_SEGMENT_BYTES: usize = 128 << 10;
/// Most files of rows that a checkpoint has of one shard.
pub const LOG_FILES_MAX: usize = 128;
/// Bytes of rows since a checkpoint with all keys after which another one has them: that many
/// times its bytes, but within these bounds. They are worked through again at a restore, 200 to
/// 1,000 MB a second.
pub const LOG_BASE_TIMES: usize = 12;
/// See [`LOG_BASE_TIMES`].
pub const LOG_BYTES: (usize, usize) = (64 << 20, 512 << 20);
/// Epochs after one whose rows were too many until they are kept again.
pub const LOG_REST_EPOCHS: u32 = 8;
/// Keys of a shard up to which a base of them is made at once: about a millisecond.
pub const WHOLE_KEYS: usize = 4096;
/// Keys of a slice of a base: a power of two, and 64 at least.
pub const SLICE_KEYS: usize = 512;
/// No further slice is made between two blocks after so long, in ns.
pub const SLICE_STEP_NS: u64 = 500_000;
/// How long a key of a base is thought to take, with the rows that are worked off between slices,
/// in ns, before a base was made.
pub const SLICE_KEY_NS: u64 = 3_000;
/// Times [`LOG_EPOCH_BYTES`] that rows may have while a base of slices is made.
pub const SLICED_LOG_TIMES: usize = 8;
/// Values of one set, or waiting rows of one key, that are shown when somebody looks into state.
pub const SHOWN_MAX: usize = 100;
/// Blocks between two looks at whether the keys in memory are too many.
pub const COLD_CHECK_CALLS: u32 = 16;
/// Keys that leave memory together, at least.
pub const COLD_LOT_KEYS: usize = 1024;
/// Keys that come to memory together because something is due for them.
pub const COLD_DUE_KEYS: usize = 8192;
/// Timers of a stage that are kept in memory, those that are due first.
pub const COLD_NEAR_TIMERS: usize = 16384;
