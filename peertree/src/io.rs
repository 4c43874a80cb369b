//! What the shell tells a node, and what a node asks of its shell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use borgios_types::{Digest, NodeId};

use crate::contact::{Address, Contact};
use crate::evidence::Evidence;
use crate::message::{Body, Head, Message};
use crate::state::State;

/// What can happen to a node.
///
/// The shell keeps at most one link to a peer. Should two nodes dial each other at once, the link
/// that the smaller id dialled stays; a second link dialled by the same side replaces the first.
#[derive(Clone, Debug)]
pub enum Input {
    /// The first input after [`Node::new`](crate::Node::new): go and find the tree.
    Start {
        /// Members named by the invitation; none makes a newcomer the root.
        seeds: Vec<Contact>,
        /// What [`Output::Remember`] said in earlier lives; some makes this node a former member.
        remembered: Vec<Contact>,
        /// Ids of the live objects in the shell's store: no statements of lanes, but those that wait.
        live: Vec<Digest>,
        /// Newest statement of each lane in the shell's store.
        heads: BTreeMap<String, Head>,
    },
    /// A link to an authenticated, admitted peer is up.
    LinkUp {
        /// Who it is.
        peer: NodeId,
        /// Whether this side dialled.
        dialled: bool,
        /// Where the peer can be dialled, by its signed join record; `None` for a leaf.
        address: Option<Address>,
    },
    /// The link to this peer closed, for whatever reason. None follows [`Output::Close`]; one that
    /// does is ignored.
    LinkDown(NodeId),
    /// What [`Output::Dial`] asked for did not work out.
    DialFailed(NodeId),
    /// A message from a linked peer.
    Received(NodeId, Message),
    /// A sign of life of a linked peer that is no message: part of a long one, or a window opened.
    Heard(NodeId),
    /// A timer asked for with [`Output::SetTimer`] is due.
    TimerFired(Timer),
    /// Broadcast this object, which the shell has verified and stored: a governor or this node's own
    /// keeper handed it in.
    Publish {
        /// The SHA-256 of its payload.
        id: Digest,
        /// Its kind.
        kind: String,
        /// The envelope.
        body: Body,
    },
    /// The shell's answer to [`Output::Offer`]; exactly one for each.
    Judged {
        /// The object.
        id: Digest,
        /// The link it came from.
        from: NodeId,
        /// What the shell made of it.
        verdict: Verdict,
    },
    /// The newest statement of a lane changed; follows the `Publish` or the `Judged` that did it.
    Head {
        /// The lane.
        lane: String,
        /// Its newest statement.
        head: Head,
    },
    /// These objects lapsed: they are no longer listed for neighbours that catch up.
    Forget(Vec<Digest>),
    /// Objects that the shell had no use for, or made worthless, and may take now: a neighbour that has one
    /// is asked for it like for any other. Before the `Head` that lets them follow.
    Reopen(BTreeSet<Digest>),
    /// The statements of lanes that are signed and wait at the shell, as in a lock; replaces those named
    /// before. While they wait they are listed for neighbours that catch up, as live objects are: no
    /// lane's head leads there. Before or after their `Publish` or `Judged`; at most
    /// [`bounds::WAITING_MAX`](crate::bounds::WAITING_MAX) are listed.
    Waiting(BTreeSet<Digest>),
    /// More contacts, from join records.
    Contacts(Vec<Contact>),
    /// Members to keep cross links to, best first, in an order that no neighbour can steer; replaces
    /// those handed over before. At most
    /// [`bounds::CROSS_CANDIDATES_MAX`](crate::bounds::CROSS_CANDIDATES_MAX) are used.
    Cross(Vec<Contact>),
    /// Members that may have chosen this node for a cross link, the likeliest first, by the hash that gives
    /// each of them its candidates; replaces those handed over before. Where more say `cross` than are
    /// let in, these come first, in this order. At most
    /// [`bounds::CROSS_CHOOSERS_MAX`](crate::bounds::CROSS_CHOOSERS_MAX) are used.
    Choosers(Vec<NodeId>),
    /// This node is no member any more: its link is closed, whatever it meant, and it is not
    /// remembered. The shell lets it in no more, and dials it for no redirect.
    Expel(NodeId),
    /// The policy in force asks for this many children at most.
    SetFanout(u16),
    /// The program is about to end in good order: say goodbye.
    Stop,
}

/// What the shell made of an offered object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Verified and stored (synced): relay it.
    Admitted,
    /// Was in the store already: relay nothing, blame nobody.
    Known,
    /// A statement whose predecessors are missing: fetch them first, blame nobody.
    Deferred,
    /// Does not verify: the link pays.
    Refused,
    /// Not looked at, for too much waits to be judged, or the disk took nothing: it comes again when the two
    /// compare what they hold, and whoever sent it has no part in it.
    Later,
}

/// What a node asks of its shell, to be done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to this contact; answered by `LinkUp` or `DialFailed`. [`Output::Close`] cancels it.
    Dial(Contact),
    /// Send this over the link to this peer, in the order given for each peer.
    Send(NodeId, Message),
    /// Close the link to this peer once what was sent is out, or give up dialling it.
    Close(NodeId),
    /// (Re)start this timer.
    SetTimer(Timer, Duration),
    /// Stop this timer.
    CancelTimer(Timer),
    /// Verify and store this object, then answer with [`Input::Judged`]; those of one link are judged in
    /// the order they are made, for a statement may follow its predecessor at once. Of several links one
    /// of each is judged in turn, so that none holds the others up.
    Offer {
        /// The link it came from.
        from: NodeId,
        /// The id its sender gave it; to be recomputed.
        id: Digest,
        /// The kind its sender gave it.
        kind: String,
        /// The envelope.
        body: Body,
    },
    /// Send a [`Message::Object`] for each of these that the store has.
    Provide {
        /// The peer that asked.
        to: NodeId,
        /// What it asked for.
        ids: Vec<Digest>,
    },
    /// Send a [`Message::Object`] for the statements of this lane after number `after`, in order, at
    /// most [`bounds::LANE_PAGE`](crate::bounds::LANE_PAGE) of them.
    ProvideLane {
        /// The peer that asked.
        to: NodeId,
        /// The lane.
        lane: String,
        /// The first one sent is `after + 1`.
        after: u64,
        /// Where the peer is in each lane, as it said last: number and id, for after a ruling it may
        /// have the number of another branch.
        has: BTreeMap<String, Head>,
    },
    /// A neighbour should have brought an object and did not; for logs. [`Node::evidence`] keeps it.
    ///
    /// [`Node::evidence`]: crate::Node::evidence
    Withheld(Evidence),
    /// The node's place in the tree changed; for status and logs.
    Changed(State),
    /// Store these contacts in place of those stored before, and pass them to the next `Start`.
    Remember(Vec<Contact>),
}

/// A node's timers; each runs at most once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Something is due that hangs on how long nothing was said: beats, silent links, news that
    /// waited, gaps. Fire it after what arrived before it has been handed over.
    Heartbeat,
    /// A candidate that was asked for a place has not answered.
    Attempt,
    /// Time for the next round of seeking.
    Retry,
    /// Time for a root to look for other trees.
    Probe,
    /// Time to compare inventories.
    AntiEntropy,
}
