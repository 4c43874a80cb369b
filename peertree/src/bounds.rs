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
/// Joiners that must have found a child unreachable before it makes room for one of them: a child
/// whose advertised address is wrong blocks the tree, and one liar must not drive children out.
pub const UNREACHABLE_CLAIMS: usize = 3;
/// Contacts kept for the day when every relative is dead; about 64 KiB.
pub const REMEMBERED_MAX: usize = 512;
/// Remembered contacts, and as many seeds, tried in one round of seeking.
pub const STRANGERS_PER_ROUND: usize = 6;
/// Seeds kept; an invitation names a few members.
pub const SEEDS_MAX: usize = 64;
/// Links that are neither parent, child nor cross link (being asked, asking, comparing): when a
/// root with a hundred children dies, all of them ask the first heir at once.
pub const LOOSE_LINKS_MAX: usize = 128;
/// Peers refused for a while after they misbehaved.
pub const SHUNNED_MAX: usize = 256;

/// Cross links a node keeps up itself: two, so that one dead or lying peer leaves another.
pub const CROSS_LINKS: usize = 2;
/// Members handed over to choose them from: six may be dead or be neighbours.
pub const CROSS_CANDIDATES_MAX: usize = 8;
/// Cross links accepted from others. Two are expected; a hash spreads so well that one node in 10^9
/// is chosen by more than sixteen.
pub const CROSS_ACCEPTED_MAX: usize = 16;
/// Members handed over that may have chosen this node, in the order in which they come before others. The
/// hash leaves out one in 10^12 of those that have it among their [`CROSS_CANDIDATES_MAX`].
pub const CROSS_CHOOSERS_MAX: usize = 64;
/// Objects being asked after at a time: what one comparison finds missing when something is wrong.
pub const GAPS_OPEN_MAX: usize = 64;
/// The same of one neighbour's or cross peer's telling: who tells of much leaves room for the others.
pub const GAPS_TOLD_MAX: usize = 16;
/// Pieces of evidence kept to be shown, some 200 bytes each.
pub const EVIDENCE_MAX: usize = 64;
/// Pairs of a neighbour and a kind that anything is held against.
pub const BLAME_MAX: usize = 256;
/// Gaps in different intervals, without an excuse, after which a neighbour is left: one may be a
/// message lost with the link that carried it.
pub const GAPS_MAX: u32 = 2;
/// The same where all of them are hearsay of one neighbour: an honest neighbour's answer to it is an
/// object, which a full queue may drop.
pub const GAPS_HEARSAY_MAX: u32 = 3;
/// The same with an excuse, which an honest neighbour has and a liar may invent: so often has each
/// of several honest ones above had its chance to move first.
pub const GAPS_EXCUSED_MAX: u32 = 5;

/// Live objects listed for neighbours, about 50 bytes of memory each: five of each of a hundred thousand
/// servers. Of more the smallest ids are listed, at every node the same; the others are flooded, and
/// nobody who missed one catches up with it.
pub const LIVE_MAX: usize = 524_288;
/// Ids of other objects held in memory: statements of lanes, and what lapsed. Beyond it the oldest are
/// forgotten: such an object that comes again is offered again, and the shell, whose store knows it,
/// says `Known`.
pub const KNOWN_MAX: usize = 131_072;
/// Statements of lanes that wait at the shell, as in a lock, and are listed beside the live objects: as
/// many as the shell keeps. Of more the smallest ids are listed.
pub const WAITING_MAX: usize = 256;
/// Ids in one inventory page: 512 are about 37 KiB of JSON.
pub const PAGE_IDS_MAX: usize = 512;
/// Ids in one `Want`: what one page can lack.
pub const WANT_IDS_MAX: usize = PAGE_IDS_MAX;
/// Ids that one neighbour was asked for and has not brought: half a page under way fills a line, and
/// one that lists what it never sends holds up nothing else.
pub const FETCH_SHARE: usize = 256;
/// How long a neighbour may bring nothing of what it was asked for before another one that lists it
/// is asked beside it: a trip, the stall of a busy machine, and some queue.
pub const FETCH_PATIENCE: Duration = Duration::from_secs(3);
/// The same for one that brings other things meanwhile, object by object.
pub const FETCH_MAX: Duration = Duration::from_secs(8);
/// Times in a row that a neighbour may bring nothing at all of what it was asked for; each more costs
/// a quarter of [`PENALTY_MAX`]. A queue that was full drops one answer, not four in half a minute.
pub const FETCH_STRIKES: u32 = 3;
/// Objects offered to the shell and not yet judged. The shell puts off what is too much of one
/// neighbour's, or too many bytes, so one that floods leaves most of these places to the others.
pub const PENDING_MAX: usize = 4_096;
/// Lanes in one summary: there are five.
pub const LANES_MAX: usize = 16;
/// Statements of a lane the shell sends for one [`Follow`](crate::Message::Follow).
pub const LANE_PAGE: u64 = 64;
/// Statements of any lanes with which a neighbour may answer one [`Follow`](crate::Message::Follow) without
/// any of them being useless: what lies between two of one lane is sent along, and may be here.
pub const FOLLOW_BRINGS: u32 = 1_024;
/// Pages asked of one neighbour in a row: all the ids it can hold, and not one more.
pub const PAGES_MAX: usize = LIVE_MAX / PAGE_IDS_MAX;
/// Pages of one walk that let the next walk along that link wait a second: listing a large store for
/// one missing id every [`COMPARE`] would cost more than all broadcasts.
pub const PAGES_PER_SECOND: usize = 2;
/// Walks between two stores that do not change by them: what one brought may have been lost, after so
/// many it is refused.
pub const WALKS_IN_VAIN: u32 = 3;
/// Then the next one is made after this: the reason for which it is refused may pass.
pub const WALK_AGAIN: Duration = Duration::from_secs(60);
/// Pages, wants, follows and notices of gaps answered for one neighbour between two [`FORGIVE`]
/// ticks; of a store of more than 256 pages four times as many as it has pages: what a neighbour with an
/// empty store needs for the whole of it, twice over.
pub const SERVED_MAX: u32 = 1_024;
/// Other links that offered an object while it was being judged.
pub const OTHERS_MAX: usize = 8;
/// Refused ids remembered for one link.
pub const REFUSED_MAX: usize = 64;
/// Messages of one peer between two [`FORGIVE`] ticks that are neither objects nor requests for them;
/// each more costs a point and is not handled. Twice what [`URGENT`] lets an honest neighbour say.
pub const CHATTER_MAX: u32 = 6_000;
/// Objects of one neighbour between two [`FORGIVE`] ticks that were known or could not be decided on;
/// each more costs a point. Honest stores differ by what lapsed since the other one looked.
pub const USELESS_MAX: u32 = 1_024;
/// Objects admitted last, of which each neighbour may bring a copy of its own for [`WANT_TIMEOUT`] without
/// any of them being useless: two neighbours that get one object at the same time, from whoever sends it
/// to both, relay it to each other.
pub const FRESH_MAX: usize = 8_192;
/// Penalties after which a link is closed: one is a race, many are a flood.
pub const PENALTY_MAX: u32 = 16;

/// Silence towards a child, or of a child, after which its parent says "alive" and the child
/// answers. With the answer and its acknowledgement a link costs 270 bytes a beat (36 bytes of SSH
/// and 66 of Ethernet, IP and TCP each way, 66 for the last acknowledgement): 169 bytes a second, of
/// the 200 that an idle node may send; cross links without news take 17 more.
pub const HEARTBEAT: Duration = Duration::from_millis(1_600);
/// Silence after which a neighbour is dead. Survivors must be one tree within 3 s of a death that
/// nobody hears; finding a place takes up to half a second. It leaves [`HEARTBEAT`] 0.8 s for a lost
/// packet (sent again after 0.2 to 0.4 s) and for a neighbour that is busy.
pub const SILENCE: Duration = Duration::from_millis(2_400);
/// A timer this late means that this machine was busy, not that its neighbours were silent.
pub const STALL: Duration = Duration::from_millis(250);
/// Least time between two reports of what changes slowly (sizes, free places, relatives of
/// relatives): it bounds what a crowd of joiners costs each level.
pub const FACTS: Duration = Duration::from_secs(5);
/// Least time between two reports of what cannot wait. The first goes at once, so a change costs no
/// time; a neighbour that makes changes all the time costs each level twenty reports a second.
pub const URGENT: Duration = Duration::from_millis(50);
/// Longest wait for one candidate: to connect and to answer. An SSH handshake over a slow link with
/// losses takes a second or two.
pub const ATTEMPT: Duration = Duration::from_secs(3);
/// A candidate that has not answered for this long is not waited for alone: the next one is asked
/// beside it (RFC 8305 calls it happy eyeballs, and takes 250 ms). Longer than a handshake takes
/// within a continent.
pub const STAGGER: Duration = Duration::from_millis(300);
/// The same among the heirs of a root, of whom each knows its turn.
pub const HEIR_STAGGER: Duration = Duration::from_millis(100);
/// Candidates asked at a time: one that is dead, one that is slow, and two that answer.
pub const ASKING_MAX: usize = 4;
/// How long an heir waits for the lost root to take a new link: a root that was only restarted, or
/// lost one link, answers by then. One that is slower finds its heir as a rival and they merge.
pub const ROOT_PATIENCE: Duration = Duration::from_millis(200);
/// How long an heir waits for a link to one that comes before it: as dead as the root, then.
pub const HEIR_PATIENCE: Duration = Duration::from_millis(400);
/// Longest pause before a node that lost its parent looks for another: spreads the siblings over
/// more time than a machine needs for one of them, and costs a tenth of the time to heal.
pub const ORPHAN_JITTER: Duration = Duration::from_millis(100);
/// Longest pause before a node that found itself in a loop tries again. Breaks the symmetry: the
/// others of the loop must hear in between that it left.
pub const LOOP_JITTER: Duration = Duration::from_millis(600);
/// First pause between two rounds of seeking; it doubles. One trip round the world: whoever was
/// itself looking for a place then has one.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two rounds.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Rounds without success after which a former member makes itself a root: some three seconds in
/// which every candidate was asked six times. Sooner, each short outage would leave many roots.
pub const ROUNDS_BEFORE_ROOT: u32 = 6;
/// A new root looks for other trees this soon, first of all for the root it followed and that one's
/// heirs: two of them may have taken its place.
pub const FIRST_PROBE: Duration = Duration::from_secs(1);
/// For so long after a root's death only itself is believed to say that it lives: orphaned subtrees
/// name it until they have found a place.
pub const BURIED: Duration = Duration::from_secs(10);
/// Pace at which a root dials remembered outsiders; it doubles with each answer that names the root
/// itself. A dial costs 10 KB of SSH both ways, as much as two minutes of a link's beats.
pub const PROBE: Duration = Duration::from_secs(20);
/// Longest pause between two such dials. Whatever parts a tree shows at once, at one of its ends or
/// both, and brings back [`PROBE`]; this is for what nobody saw.
pub const PROBE_MAX: Duration = Duration::from_secs(320);
/// After a hint of another tree so many answers must name the root itself before its pace slows down:
/// of what a root remembers, half may lie in the other tree and half in its own.
pub const PROBES_WARY: u8 = 8;
/// A rival that could not be joined, or that nobody found, is not believed in for this long; it doubles.
pub const RIVAL_PAUSE_MIN: Duration = Duration::from_secs(10);
/// Longest time for which a rival is not believed in.
pub const RIVAL_PAUSE_MAX: Duration = Duration::from_secs(600);
/// A tree that a root joined and lost again within this time counts as one it could not join.
pub const RIVAL_STAY: Duration = Duration::from_secs(60);
/// Rivals remembered because nothing came of them; the one that is over soonest makes room.
pub const RIVALS_MAX: usize = 64;
/// Longest time between two comparisons of the two ends of a link, tree or cross: what was lost or
/// withheld is missing no longer. Equal stores compare in one line of 30 bytes; along a cross link where
/// nothing changed at either end they do not even that.
pub const COMPARE: Duration = Duration::from_secs(10);
/// Shortest time between two comparisons: the jitter that keeps nodes from falling into step.
pub const COMPARE_MIN: Duration = Duration::from_secs(9);
/// Pace of halving penalties, of granting new requests, and of looking for a shallower place.
pub const FORGIVE: Duration = Duration::from_secs(60);
/// A cross link whose two ends hold the same is silent, but for one comparison after this long, which
/// is answered: each end must know that the other one lives. With its answer that costs 302 bytes.
pub const CROSS_IDLE: Duration = Duration::from_secs(30);
/// A comparison that found nothing is answered along a cross link over which nothing was said for this
/// long: sooner than [`CROSS_IDLE`], later than two comparisons between stores that change.
pub const CROSS_ANSWER: Duration = Duration::from_secs(25);
/// Silence after which a cross link is dead: [`CROSS_IDLE`], the next [`COMPARE`], and some. Nothing is
/// lost by it but a second look.
pub const CROSS_SILENCE: Duration = Duration::from_secs(65);
/// How long a neighbour has to bring what it was asked after, or to say that it lacks it: one trip,
/// and the stall of a busy machine.
pub const GAP_GRACE: Duration = Duration::from_secs(3);
/// After a neighbour was left for its gaps, the next one is left after this at the earliest; it
/// doubles, so that a node whose own links are at fault does not wander through the tree.
pub const LEAVE_PAUSE_MIN: Duration = Duration::from_secs(60);
/// Longest such pause.
pub const LEAVE_PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// What a neighbour was asked for is on its account for so long, whoever else was asked since.
pub const WANT_TIMEOUT: Duration = Duration::from_secs(20);
/// A link that is neither parent nor child is closed after this.
pub const LOOSE_TIMEOUT: Duration = Duration::from_secs(15);
/// One message about a rival root is passed up per neighbour in this time.
pub const RIVAL_PACE: Duration = Duration::from_secs(2);
/// Levels a node must gain before it moves up: one would make nodes wander for little.
pub const CLIMB_LEVELS: usize = 2;
/// Least time between two attempts to move up: the news of the last one's outcome is back by then.
pub const CLIMB_PACE: Duration = Duration::from_secs(5);
/// Attempts in a row to move up, all in vain, that double [`CLIMB_PACE`], up to [`FORGIVE`]: a crowd
/// that moves to the few places there are fails two or three times before it finds one.
pub const CLIMB_FAILURES: u32 = 4;
/// Claims of a free place remembered because they led to none: one tree has one best place at a time.
pub const CLIMB_CLAIMS_MAX: usize = 16;
/// Longest time for which such a claim is not followed; it begins with [`CLIMB_PACE`] and doubles.
pub const CLIMB_PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long a peer that misbehaved is refused.
pub const SHUN: Duration = Duration::from_secs(600);
