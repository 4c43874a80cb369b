//! Every bound and every pace of the tree, with its reason.

use std::time::Duration;

/// Children of a node where no policy says otherwise: ten thousand nodes in seven levels.
pub const FANOUT_DEFAULT: u16 = 4;
/// Fewest children a policy may ask for: with one the tree would be a chain.
pub const FANOUT_MIN: u16 = 2;
/// Most children a policy may ask for: each costs a connection and a heartbeat.
pub const FANOUT_MAX: u16 = 256;

/// Longest address, in bytes: a DNS name is at most 253, and `:65535` follows.
pub const ADDRESS_MAX: usize = 260;
/// Longest name of an object's kind or of a lane, in bytes: what an envelope allows.
pub const KIND_MAX: usize = borgios_types::limits::NAME_MAX;
/// Longest path from the root: fan-out 2 reaches 2^64 nodes, so a longer one is a loop or a lie.
pub const PATH_MAX: usize = 64;
/// Siblings and uncles named in a heartbeat. Eight in a row that all died at once are rarer than
/// what eight keys cost in every heartbeat; who is not named still finds the tree by its memory.
pub const SIBLINGS_MAX: usize = 8;
/// Contacts in one redirect: some may be dead, more would let one answer cost many dials.
pub const REDIRECT_MAX: usize = 4;
/// Redirects followed from one candidate: a path is shorter unless someone sends us in circles.
pub const HOPS_MAX: u32 = 32;
/// Questions asked in one round of seeking, redirects included: ends a round among liars.
pub const ASKS_PER_ROUND: u32 = 64;
/// Times one node is asked in one round: once, and once more when it names itself in a redirect.
pub const ASKS_PER_NODE: u32 = 2;
/// Ancestors and uncles tried in one round; each may cost a whole [`ATTEMPT`].
pub const RELATIVES_PER_ROUND: usize = 4;
/// Nodes a joiner may call unreachable in one question.
pub const UNREACHABLE_MAX: usize = 8;
/// Contacts kept for the day when every relative is dead; about 64 KiB.
pub const REMEMBERED_MAX: usize = 512;
/// Remembered contacts, and as many seeds, tried in one round of seeking.
pub const STRANGERS_PER_ROUND: usize = 6;
/// Seeds kept; an invitation names a few members.
pub const SEEDS_MAX: usize = 64;
/// Links that are neither parent nor child (being asked, asking, comparing).
pub const LOOSE_LINKS_MAX: usize = 64;
/// Peers refused for a while after they misbehaved.
pub const SHUNNED_MAX: usize = 256;

/// Ids of objects held in memory, 32 bytes each. Beyond it the oldest are forgotten: such an object
/// that comes again is offered again, and the shell, whose store knows it, says `Known`.
pub const KNOWN_MAX: usize = 131_072;
/// Ids in one inventory page: 512 are about 37 KiB of JSON.
pub const PAGE_IDS_MAX: usize = 512;
/// Ids in one `Want`: what one page can lack.
pub const WANT_IDS_MAX: usize = PAGE_IDS_MAX;
/// Ids asked for and not yet received, over all links.
pub const WANTED_MAX: usize = 4_096;
/// Objects offered to the shell and not yet judged; each holds its body, so this bounds memory.
pub const PENDING_MAX: usize = 1_024;
/// Lanes in one summary: five are planned.
pub const LANES_MAX: usize = 16;
/// Statements of a lane the shell sends for one [`Follow`](crate::Message::Follow).
pub const LANE_PAGE: u64 = 64;
/// Pages asked of one neighbour in a row: all the ids it can hold, and not one more.
pub const PAGES_MAX: usize = KNOWN_MAX / PAGE_IDS_MAX;
/// Pages, wants and follows answered for one neighbour between two [`ANTI_ENTROPY`] ticks.
pub const SERVED_MAX: u32 = 4 * PAGES_MAX as u32;
/// Other links that offered an object while it was being judged.
pub const OTHERS_MAX: usize = 8;
/// Refused ids remembered for one link.
pub const REFUSED_MAX: usize = 64;
/// Penalties after which a link is closed: one is a race, many are a flood.
pub const PENALTY_MAX: u32 = 16;

/// Pace of heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Heartbeats missed before a neighbour counts as dead.
pub const SILENT_BEATS: u32 = 3;
/// Longest wait for one candidate: to connect and to answer.
pub const ATTEMPT: Duration = Duration::from_secs(3);
/// Longest pause before a node that lost its parent looks for another: spreads the siblings.
pub const ORPHAN_JITTER: Duration = Duration::from_millis(300);
/// Longest pause before a node that found itself in a loop tries again: breaks the symmetry.
pub const LOOP_JITTER: Duration = Duration::from_secs(2);
/// First pause between two rounds of seeking; it doubles.
pub const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause between two rounds.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Rounds without success after which a former member makes itself a root.
pub const ROUNDS_BEFORE_ROOT: u32 = 4;
/// A new root looks for other trees this soon: it may have been made by a partition that is over.
pub const FIRST_PROBE: Duration = Duration::from_secs(4);
/// Pace at which a root dials remembered outsiders.
pub const PROBE: Duration = Duration::from_secs(20);
/// A root whose attempt to join another tree failed ignores rivals for this long; it doubles.
pub const RIVAL_PAUSE_MIN: Duration = Duration::from_secs(10);
/// Longest time for which rivals are ignored.
pub const RIVAL_PAUSE_MAX: Duration = Duration::from_secs(600);
/// Pace of comparing inventories with each neighbour, so that a lost message heals.
pub const ANTI_ENTROPY: Duration = Duration::from_secs(60);
/// An id asked for and not received may be asked for again after this.
pub const WANT_TIMEOUT: Duration = Duration::from_secs(20);
/// A link that is neither parent nor child is closed after this.
pub const LOOSE_TIMEOUT: Duration = Duration::from_secs(15);
/// One message about a rival root is passed up per neighbour in this time.
pub const RIVAL_PACE: Duration = Duration::from_secs(2);
/// Levels a node must gain before it moves up: one would make nodes wander for little.
pub const CLIMB_LEVELS: usize = 2;
/// Least time between two attempts to move up: the news of the last one's outcome is back by then.
pub const CLIMB_PACE: Duration = Duration::from_secs(5);
/// How long a peer that misbehaved is refused.
pub const SHUN: Duration = Duration::from_secs(600);
