//! Every bound and pace of the data plane, with its reason.

use core::time::Duration;

/// Most messages of one batch: at 64 a signature's 48 us cost 0.75 us per message, about as much
/// as the SHA-256 of 1 KiB; more would only add latency.
pub const BATCH_MESSAGES_MAX: usize = 64;

/// Most bytes of all messages of one batch, and so of one message; what is larger travels as a
/// blob and is named in a message. A slow link (10 Mbit/s) sends it in a fifth of a second.
pub const BATCH_BODY_MAX: usize = 256 * 1024;

/// Longest kind, in bytes.
pub const KIND_MAX: usize = 32;

/// Longest whole batch, in bytes: header, kind, manifest, signature, messages.
pub const BATCH_MAX: usize = crate::batch::HEADER_LEN
    + KIND_MAX
    + BATCH_MESSAGES_MAX * crate::batch::ENTRY_LEN
    + 2
    + crate::signature::BLOB_LEN
    + BATCH_BODY_MAX;

/// How far an epoch may lie ahead of this node's clock, in seconds: clocks that are wrong by a day
/// are wrong; a key that was stolen for a minute must not own the stream for a century.
pub const EPOCH_AHEAD_MAX_S: u64 = 86_400;

/// Most heads of one frame: 1,024 of 80 bytes are 80 KiB, no longer on the wire than a batch.
pub const HEADS_PAGE_MAX: usize = 1_024;

/// Longest frame that is no batch: a page of heads, or two signed manifests as evidence.
pub const CONTROL_MAX: usize = 128 * 1024;

/// How often the shell says [`Input::Tick`](crate::Input::Tick).
pub const TICK: Duration = Duration::from_millis(250);

/// Most bytes of one stream that a log keeps: at 1 KiB a message, its last quarter of a day at one
/// a second.
pub const STREAM_BYTES: u64 = 16 * 1024 * 1024;

/// Most messages of one stream that a log keeps: a reader that lags by more is told so.
pub const STREAM_MESSAGES: u64 = 65_536;

/// Most bytes of all streams that a log keeps: what the smallest server can spare.
pub const NODE_BYTES: u64 = 512 * 1024 * 1024;

/// Most streams that a node follows: 10,000 servers that all publish, and room. What more origins
/// say is not followed; each costs some hundred bytes of memory.
pub const STREAMS_MAX: usize = 16_384;
