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

/// How often the shell says [`Input::Tick`](crate::Input::Tick), unless the core
/// [rests](crate::Core::rests_until).
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

/// Most bytes of one stream between arrival and storage: some group syncs of a fast stream.
pub const STREAM_PENDING_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of all streams between arrival and storage: what a small server can spare.
pub const PENDING_MAX: usize = 32 * 1024 * 1024;

/// Most of these bytes that one neighbour may have brought: no neighbour uses up all of them.
pub const LINK_PENDING_MAX: usize = 8 * 1024 * 1024;

/// Most bytes of one stream that are kept because they came too early, while what is missing is
/// fetched: without them a node that joins a running stream would never catch up with it.
pub const AHEAD_MAX: usize = 1024 * 1024;

/// Most bytes of all streams that one neighbour may have brought too early: what is never judged costs
/// it nothing, and every member has a stream.
pub const LINK_AHEAD_MAX: usize = 8 * 1024 * 1024;

/// Most bytes of all streams that came too early: what a small server can spare, beside
/// [`PENDING_MAX`]. Beyond it, whoever brought most gives way: four neighbours can use up all of it.
pub const NODE_AHEAD_MAX: usize = 32 * 1024 * 1024;

/// Most bytes of one answer to a fetch; at 1 KiB a message some thousand messages per round trip.
pub const FETCH_WINDOW: usize = 1024 * 1024;

/// Most bytes of each further answer that is under way over the same link: seven of them and a whole
/// window fit the queue of whoever answers, and leave room there for its flood.
pub const FETCH_SHARE: usize = 256 * 1024;

/// Least bytes that are asked for, over a link that is slow: what 256 kbit/s carry in the time there is.
pub const FETCH_WINDOW_MIN: usize = 64 * 1024;

/// Most batches of one answer: the window's worth of single messages.
pub const SERVED_MAX: u32 = 8 * 1024;

/// Most fetches under way over one link: enough to fill it, few enough that its flood is not late.
pub const FETCHES_PER_LINK: usize = 8;

/// Most fetches of one neighbour that are read from the log at a time; an honest one has no more
/// than [`FETCHES_PER_LINK`] under way.
pub const SERVING_PER_LINK: usize = 2 * FETCHES_PER_LINK;

/// Most bytes of these answers: what the queue of a link holds. An honest neighbour asks for no more
/// than a window and seven shares.
pub const SERVING_BYTES_PER_LINK: usize = 4 * 1024 * 1024;

/// Fetches sent over one link per tick: half of what [`TOKENS_PER_TICK`] lets in.
pub const FETCHES_PER_TICK: u32 = 64;

/// Control frames that a neighbour may send per tick, on the average.
pub const TOKENS_PER_TICK: u32 = 128;

/// Control frames that a neighbour may send at once: what a catch-up after an absence takes.
pub const TOKENS_MAX: u32 = 1_024;

/// What a page of heads costs in control frames: it makes the node look up 1,024 streams.
pub const HEADS_TOKENS: u32 = 16;

/// Pieces of evidence sent over one link per tick: a quarter of what [`TOKENS_PER_TICK`] lets in. Whoever
/// holds many keys must not make honest nodes flood each other with what these have done.
pub const WARNINGS_PER_TICK: u32 = 2;

/// Frames beyond its tokens, which are dropped, after which a neighbour is cut off for flooding.
pub const FLOOD_MAX: u32 = 4_096;

/// How long an answer to a fetch may take until another neighbour is asked.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after an answer that brought nothing: the neighbour stores it right now, mostly.
pub const FETCH_RETRY: Duration = Duration::from_millis(250);

/// How often in a row a neighbour may not have what it said to have, before it is distrusted: what it
/// forwards before it has stored it looks like this for a moment.
pub const BOASTS_MAX: u32 = 4;

/// How long a neighbour that did not keep its word is asked last; it doubles each time.
pub const DISTRUST_MIN: Duration = Duration::from_secs(10);

/// Longest such time: it may have been ill, and be well again.
pub const DISTRUST_MAX: Duration = Duration::from_secs(320);

/// How long one neighbour alone must say that messages are gone, while all others are asked again,
/// until it is believed: the tree, and cross links, have brought by then what they can.
pub const GONE_ALONE: Duration = Duration::from_secs(3);

/// Neighbours whose word is enough for the end of an epoch, where there are more: asking each of a
/// root's would cost a round trip each.
pub const EPOCH_WITNESSES: usize = 4;

/// Pause after the log could not store: a full disk does not get empty within milliseconds. It
/// doubles while the log stores nothing.
pub const STORE_RETRY: Duration = Duration::from_secs(2);

/// Longest such pause: whoever made room waits this long for streams to go on.
pub const STORE_RETRY_MAX: Duration = Duration::from_secs(32);

/// How often digests of heads are compared: what got lost on the way is noticed this soon. 44 bytes.
pub const COMPARE_INTERVAL: Duration = Duration::from_secs(10);

/// The same where both ends know that they hold the same, and nothing has changed since: nothing can
/// have got lost then but by a mistake. A digest costs 250 bytes of SSH and TCP with its acknowledgement,
/// and a node has six such ends; a minute each would cost it 25 bytes a second.
pub const COMPARE_IDLE_INTERVAL: Duration = Duration::from_secs(300);

/// Pause between answers to heads that are behind ours, so that two busy nodes do not answer each
/// other's answers.
pub const REPLY_INTERVAL: Duration = Duration::from_secs(1);

/// Whole seconds after it was issued beyond which a flooded batch is late, and told over cross links at
/// once instead of at the next comparison: the tree was cut, or somebody withholds. Floods take fractions
/// of a second, a slow disk of the origin's a second, and clocks of servers differ by as much.
pub const LATE_AFTER_S: u64 = 2;

/// Pause between two tellings of what came late.
pub const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Most streams of one telling, 5 KiB: of what came late beyond that, cross links hear a second later, or by
/// the comparison. A node whose own clock is ahead takes everything for late.
pub const TELL_MAX: usize = 64;

/// How long the tree may take to bring what a cross link already has: it may be quicker by some
/// hops, not by seconds.
pub const CROSS_GRACE: Duration = Duration::from_secs(1);

/// How long a neighbour that forwarded a forgery has to say so itself, before it is cut off.
pub const DISOWN_GRACE: Duration = Duration::from_secs(1);

/// Most batches that are forwarded and not judged yet, where a node forwards first. Once one of them is
/// a forgery, it verifies first for [`DISOWN_INTERVAL`]: this is all that forgers can send through a node
/// in such a time, whatever links they have, and it is disowned within [`TOKENS_MAX`]. Two verifiers need
/// 6 ms for so many; where they are further behind, to forward first gains nothing.
pub const UNJUDGED_MAX: usize = 256;

/// Most forgeries that a neighbour may have forwarded and not yet disowned; and most of them that
/// it is absolved of per [`DISOWN_INTERVAL`]: more than an honest one forwards then, which is
/// [`UNJUDGED_MAX`] in each of the two such times that one of ours meets.
pub const DISOWNED_MAX: usize = 2 * UNJUDGED_MAX;

/// Most names that a neighbour has disowned and was not blamed for: it disowns all that it had
/// forwarded behind a forgery, most of which nobody judges any more.
pub const DISOWNED_KEPT: usize = 256;

/// How long after a forgery a node verifies before it forwards; see [`DISOWNED_MAX`].
pub const DISOWN_INTERVAL: Duration = Duration::from_secs(60);

/// Most origins whose admission is asked for at a time.
pub const ASKED_MAX: usize = 4_096;

/// Most bytes of first batches that wait for such an answer.
pub const HELD_MAX: usize = 4 * 1024 * 1024;

/// How long an unanswered question about an origin is remembered.
pub const ASKED_TIMEOUT: Duration = Duration::from_secs(10);

/// Most origins that are asked about again because their records may be on their way, or were, until
/// [`NEWCOMER_REST`] ago: a handful of servers join at a time. Whoever makes up origins fills these places,
/// and no others; then what a newcomer said first waits for the next comparison.
pub const NEWCOMERS_MAX: usize = 64;

/// Pause before such an origin is asked about again, for as long as [`ASKED_TIMEOUT`]: records travel
/// in fractions of a second.
pub const ADMIT_RETRY: Duration = Duration::from_secs(1);

/// How long an origin that did not become a member in that time is left alone: who has lapsed here may still
/// be in the heads of neighbours whose clocks are behind, and must keep nobody awake.
pub const NEWCOMER_REST: Duration = Duration::from_secs(300);

/// Most refused origins that are remembered, so that they are not asked about again.
pub const REFUSED_MAX: usize = 4_096;

/// Most pieces of evidence in memory; those of further origins stay in the log.
pub const EVIDENCE_MAX: usize = 1_024;

/// Most bytes that wait to be published: some seconds of a busy application.
pub const WAITING_MAX: usize = 4 * 1024 * 1024;

/// Most messages that wait to be published.
pub const WAITING_MESSAGES_MAX: usize = 65_536;

/// Most batches of this node's own that are signed and not yet stored.
pub const OWN_PENDING_MAX: usize = 16;

/// Most bytes that the application was given and has not taken yet; after that it is served from
/// the log, at its own pace.
pub const DELIVERY_WINDOW: usize = 8 * 1024 * 1024;

/// Longest segment of a log, in bytes, but for one that holds a single larger batch: retention
/// removes a sixteenth of a stream at a time, and a start reads the last one whole.
pub const SEGMENT_BYTES: u64 = 1024 * 1024;

/// Bytes of a segment between two entries of its index: a reader skips less than that.
pub const INDEX_BYTES: u64 = 64 * 1024;

/// Most files that a log holds open.
pub const OPEN_FILES_MAX: usize = 64;

/// Files to sync above which the whole file system is synced at once.
pub const SYNC_FILES_MAX: usize = 8;
