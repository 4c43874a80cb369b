//! What the shell tells the core, and what the core asks of its shell.

use borgios_types::{NodeId, Time, UnixSeconds};
use bytes::Bytes;
use thiserror::Error;

use crate::batch::{Batch, Durability, Kind};
use crate::evidence::Evidence;
use crate::frame::{Frame, FrameError};
use crate::jobs::{Forgery, JobId, SignJob, Signed, Verdict, VerifyJob};
use crate::log::{LogAnswer, LogJob, Recovered};
use crate::position::{BatchId, Origin, Position};

/// Both clocks: one for timeouts, one for epochs and dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic.
    pub time: Time,
    /// The wall clock's.
    pub unix: UnixSeconds,
}

/// Names one connection to a neighbour. Never reused in one life of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Parent or child in the tree: carries the flood.
    Tree,
    /// A cross link: compares and fetches, carries no flood.
    Cross,
}

/// Names one published message in the answer to it; chosen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Whether an origin may speak to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A member: its stream is relayed, stored and delivered.
    Yes,
    /// No member: what claims to be its stream is dropped, the neighbour that sent it is not
    /// blamed (it may know more, or less).
    No,
    /// Not known yet, or no member just now: what came is dropped, and asked for again within
    /// seconds, or by the next comparison of heads; what is stored of it stays. Nothing more is
    /// taken until [`Self::Yes`].
    Later,
}

/// What can happen to a core.
#[derive(Clone, Debug)]
pub enum Input {
    /// A pipe to an authenticated neighbour is up.
    LinkUp {
        /// Its name from now on.
        link: LinkId,
        /// Who is at the other end.
        peer: NodeId,
        /// What it is for.
        role: Role,
    },
    /// A cross link became a tree link, or the other way round.
    RoleChanged {
        /// The link.
        link: LinkId,
        /// Its new role.
        role: Role,
    },
    /// The pipe closed. None follows [`Output::Cut`]; one that does is ignored.
    LinkDown(LinkId),
    /// The pipe's queue is full: until [`Input::LinkDrained`] the core sends nothing there. What the
    /// shell could not queue it may drop: the comparison afterwards brings it.
    LinkFull(LinkId),
    /// The pipe's queue is empty enough again.
    LinkDrained(LinkId),
    /// A frame came, parsed by [`Frame::parse`].
    Frame {
        /// Over this link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// What came was no frame.
    Garbage {
        /// Over this link.
        link: LinkId,
        /// Why it is none.
        error: FrameError,
    },
    /// The answer to [`Output::Admit`]; or the membership changed, unasked.
    Admitted {
        /// The origin.
        origin: Origin,
        /// May it speak?
        admission: Admission,
    },
    /// The answer to [`Output::Verify`].
    Verified {
        /// Which.
        job: JobId,
        /// What was found.
        verdict: Verdict,
    },
    /// The answer to [`Output::Sign`].
    Signed(Signed),
    /// The answer to [`Output::Log`].
    Log(LogAnswer),
    /// The log was opened again after it had failed, and holds this. What it was given before was
    /// answered before.
    LogReopened(Recovered),
    /// The application publishes one message.
    Publish {
        /// Named in the answer, [`Output::Published`] or [`Output::Refused`].
        ticket: Ticket,
        /// What the application calls it.
        kind: Kind,
        /// Whether it must be synced before it is acknowledged.
        durability: Durability,
        /// The bytes, at most [`BATCH_BODY_MAX`](crate::bounds::BATCH_BODY_MAX).
        body: Bytes,
    },
    /// More messages to be published follow at once, and only full batches are signed; or no more do,
    /// and what waits is signed. Without it, each batch takes what waits when it is its turn, so that
    /// the first of many messages that come together would go alone.
    PublishMore(bool),
    /// The application has taken everything of this origin up to this position, and stored what it
    /// did with it (the shell gives it to [`Log::taken`](crate::Log::taken) too).
    Taken {
        /// The origin.
        origin: Origin,
        /// The last message taken.
        upto: Position,
    },
    /// [`TICK`](crate::bounds::TICK) has passed, or the core's [rest](crate::Core::rests_until) is over.
    Tick,
}

/// Why a neighbour is cut off.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misdeed {
    /// Sent what is no frame.
    #[error("sent garbage")]
    Garbage(#[source] FrameError),
    /// Handed on a batch that its origin never signed.
    #[error("handed on a forgery")]
    Forgery(#[source] Forgery),
    /// Handed on a batch of another network.
    #[error("handed on a batch of another network")]
    Network,
    /// Sent more control frames than any honest neighbour does.
    #[error("flooded the link with requests")]
    Flood,
}

/// Why a message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Longer than a batch may be; send a blob and name it in a message.
    #[error("the message is longer than a batch may be")]
    TooLong,
    /// More is waiting than may wait; try again when what waits has left.
    #[error("too many messages wait to be published")]
    Full,
    /// The log could not store it; nothing of it was sent.
    #[error("the log could not store it")]
    NotStored,
    /// This node's own stream was stopped, because someone else signs with its key.
    #[error("this node's stream is stopped: its key has signed two histories")]
    Stopped,
    /// This node's own stream was begun by a clock that was further ahead than others take.
    #[error(
        "this node's stream was begun by a clock over a day ahead of this one, and no other node takes \
         it: set the clock right, or, if it is, move the log of streams away and start anew"
    )]
    Ahead,
}

/// What the shell must do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send these bytes, one frame, over this link.
    Send {
        /// The link.
        link: LinkId,
        /// The frame.
        frame: Bytes,
    },
    /// Close this link now and shun its peer.
    Cut {
        /// The link.
        link: LinkId,
        /// Why.
        why: Misdeed,
    },
    /// Is this origin a member? Answer with [`Input::Admitted`].
    Admit(Origin),
    /// Run this on a worker; answer with [`Input::Verified`].
    Verify(VerifyJob),
    /// Run this on a worker; answer with [`Input::Signed`].
    Sign(SignJob),
    /// Give this to the log, in order ([`log::serve`](crate::log::serve)); answer with
    /// [`Input::Log`].
    Log(LogJob),
    /// Give the application the messages of this batch after position `after`: verified, stored, in
    /// order, each once; this node's own too. It answers with [`Input::Taken`].
    Deliver {
        /// Whose.
        origin: Origin,
        /// The batch.
        batch: Batch,
        /// Its name.
        id: BatchId,
        /// Messages up to here were delivered before.
        after: Position,
    },
    /// The application missed the messages between: retention was faster than it.
    Missed {
        /// Whose.
        origin: Origin,
        /// The last message it got.
        after: Position,
        /// The next one it will get.
        next: Position,
    },
    /// This message is stored here and on its way.
    Published {
        /// The message.
        ticket: Ticket,
        /// Its position in this node's stream.
        position: Position,
    },
    /// This message was not published.
    Refused {
        /// The message.
        ticket: Ticket,
        /// Why.
        why: Refusal,
    },
    /// This node's own stream goes on in an epoch that lies more than
    /// [`EPOCH_AHEAD_MAX_S`](crate::bounds::EPOCH_AHEAD_MAX_S) ahead of the clock: others drop it, so
    /// nothing is published. Said once, until something is.
    Ahead {
        /// The epoch.
        epoch: u64,
    },
    /// An origin equivocated: its stream stops here. Stored by a [`LogJob`] of its own.
    Equivocated(Evidence),
    /// A cross link knew of messages that no tree link brought within its grace.
    Withheld {
        /// Whose messages.
        origin: Origin,
        /// Up to here.
        upto: Position,
        /// The cross link that knew.
        told_by: LinkId,
    },
}
