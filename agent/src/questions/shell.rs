//! The task that owns the cores of questions and of directed messages. It decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use borgios_peertree::direct::{self, Direct, Returned, Switch, Undelivered};
use borgios_peertree::question::bounds::OPEN_MAX;
use borgios_peertree::question::{self, Answer, Ask, Desk, Findings, Own, Question};
use borgios_types::{NodeId, Time};
use rand::RngCore as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::observe::Observer;
use crate::clock::{Clock, unix_now};
use crate::wire::Frame;

/// Events that may wait, of all links together: more than their lanes hold in any tree there is.
const INBOX: usize = 16 * 1024;
/// Events of one link that may wait, so that a neighbour that floods crowds out only itself: twice
/// the answers that it may owe. What it says beyond is dropped; its own deadlines end that.
const LANE: usize = 2 * OPEN_MAX;
/// Messages for this node that its service may leave waiting; more are `busy`.
const DELIVERED: usize = 64;
/// Answers longer than this go behind the objects that wait: a heartbeat must not wait for them.
const URGENT_MAX: usize = 16 * 1024;
/// How often the number of members is looked up while questions come.
const MEMBERS_PACE: Duration = Duration::from_secs(10);

enum Event {
    /// What a neighbour said, and its place in the lane.
    Said(NodeId, Said, OwnedSemaphorePermit),
    Observed {
        inquiry: u64,
        own: Option<Own>,
    },
    Members(u64),
    Open {
        question: Question,
        within: Duration,
        reply: oneshot::Sender<Option<Findings>>,
    },
    Send {
        to: NodeId,
        body: String,
        reply: oneshot::Sender<Result<u8, Undelivered>>,
    },
    Service(mpsc::Sender<String>),
}

/// What a neighbour may say about questions and directed messages.
#[derive(Clone, Debug)]
pub enum Said {
    /// It asks.
    Ask(Ask),
    /// It answers.
    Answer(Answer),
    /// A message to be carried.
    Direct(Direct),
    /// What became of a message that it was given.
    Returned(Returned),
}

/// One link's way to the task.
pub struct Lane {
    peer: NodeId,
    inbox: mpsc::Sender<Event>,
    room: Arc<Semaphore>,
}

impl Lane {
    /// Hands over what the neighbour said, or drops it where the lane is full.
    pub fn say(&self, said: Said) {
        if let Ok(permit) = self.room.clone().try_acquire_owned() {
            // Full, or at its end: see `INBOX`.
            let _ = self.inbox.try_send(Event::Said(self.peer, said, permit));
        }
    }
}

/// The way to the task. Clones lead to the same one; after its end they lead nowhere.
#[derive(Clone)]
pub struct QuestionHandle {
    inbox: mpsc::Sender<Event>,
}

impl QuestionHandle {
    /// The way, and the end that [`QuestionShell::new`] takes.
    #[must_use]
    pub fn new() -> (Self, QuestionInbox) {
        let (inbox, events) = mpsc::channel(INBOX);
        (Self { inbox }, QuestionInbox(events))
    }

    /// A way for one link.
    #[must_use]
    pub fn lane(&self, peer: NodeId) -> Lane {
        Lane { peer, inbox: self.inbox.clone(), room: Arc::new(Semaphore::new(LANE)) }
    }

    /// Asks the fleet. `None`: too many questions are open here, or the agent ends.
    pub async fn ask(&self, question: Question, within: Duration) -> Option<Findings> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Event::Open { question, within, reply }).await.ok()?;
        answer.await.ok()?
    }

    /// Sends a message to one node; the links it crossed, or why it was not delivered. `unknown`
    /// and `unreachable` are worth a lookup ([`Question::Find`]) and one more try.
    ///
    /// # Errors
    /// See [`Undelivered`]. After any of them but `unreachable` the message was not delivered.
    pub async fn send(&self, to: NodeId, body: String) -> Result<u8, Undelivered> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inbox.send(Event::Send { to, body, reply }).await;
        sent.map_err(|_| Undelivered::Busy)?;
        answer.await.unwrap_or(Err(Undelivered::Unreachable))
    }

    /// As [`QuestionHandle::send`], and looks for the node first where nobody on the way knows it:
    /// such a message was not delivered, so sending it again delivers it once.
    ///
    /// # Errors
    /// As there.
    pub async fn deliver(
        &self,
        to: NodeId,
        body: String,
        within: Duration,
    ) -> Result<u8, Undelivered> {
        match self.send(to, body.clone()).await {
            Err(Undelivered::Unknown) => {
                let found = self.ask(Question::Find { node: to }, within).await;
                if found.is_none_or(|found| found.places.nodes.is_empty()) {
                    return Err(Undelivered::Unknown);
                }
                self.send(to, body).await
            }
            sent => sent,
        }
    }

    /// The messages for this node, from now on. They have no authority; see [`direct`].
    pub async fn serve(&self) -> mpsc::Receiver<String> {
        let (service, messages) = mpsc::channel(DELIVERED);
        // The task ends only with the agent; then no message comes.
        let _ = self.inbox.send(Event::Service(service)).await;
        messages
    }
}

/// What waits for the task.
pub struct QuestionInbox(mpsc::Receiver<Event>);

/// The task.
pub struct QuestionShell {
    desk: Desk,
    switch: Switch,
    observer: Observer,
    handle: QuestionHandle,
    inbox: QuestionInbox,
    clock: Clock,
    attached: Instant,
    members_at: Option<Instant>,
    questions: BTreeMap<u64, oneshot::Sender<Option<Findings>>>,
    messages: BTreeMap<u64, oneshot::Sender<Result<u8, Undelivered>>>,
    next_key: u64,
    service: Option<mpsc::Sender<String>>,
}

impl QuestionShell {
    /// A shell for the node that `observer` looks at.
    #[must_use]
    pub fn new(observer: Observer, handle: QuestionHandle, inbox: QuestionInbox) -> Self {
        Self {
            desk: Desk::new(observer.me),
            switch: Switch::new(observer.me),
            observer,
            handle,
            inbox,
            clock: Clock::start(),
            attached: Instant::now(),
            members_at: None,
            questions: BTreeMap::new(),
            messages: BTreeMap::new(),
            next_key: 1,
            service: None,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut view = self.observer.tree.view();
        let mut place = None;
        loop {
            let seen = {
                let view = view.borrow_and_update();
                (view.attached(), view.parent, view.children.clone())
            };
            if place.as_ref() != Some(&seen) {
                // A place is another one when its parent is.
                if place.as_ref().map(|(attached, up, _)| (*attached, *up))
                    != Some((seen.0, seen.1))
                {
                    self.attached = Instant::now();
                }
                let (up, down) = (seen.1, seen.2.clone());
                place = Some(seen);
                self.desk(question::Input::Place { up, down: down.clone() }).await;
                self.switch(direct::Input::Place { up, down }).await;
            }
            let due = self.desk.due().into_iter().chain(self.switch.due()).min();
            let wait = self.until(due);
            tokio::select! {
                () = stop.cancelled() => return,
                // The view ends with the tree's shell, and that with the agent.
                changed = view.changed() => if changed.is_err() { return },
                () = wait => {
                    self.desk(question::Input::Tick).await;
                    self.switch(direct::Input::Tick).await;
                }
                event = self.inbox.0.recv() => match event {
                    Some(event) => self.on_event(event).await,
                    None => return,
                },
            }
        }
    }

    fn until(&self, due: Option<Time>) -> impl Future<Output = ()> + use<> {
        let wait = due.map(|due| due.since(self.clock.now()));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Said(peer, said, _permit) => self.on_said(peer, said).await,
            Event::Observed { inquiry, own } => {
                self.desk(question::Input::Observed { inquiry, own }).await;
            }
            Event::Members(members) => self.desk(question::Input::Members(members)).await,
            Event::Open { question, within, reply } => {
                self.look_up_members();
                let key = self.next_key();
                self.questions.insert(key, reply);
                let nonce = rand::rngs::OsRng.next_u64().max(1);
                self.desk(question::Input::Open { key, nonce, question, within }).await;
            }
            Event::Send { to, body, reply } => {
                let key = self.next_key();
                self.messages.insert(key, reply);
                self.switch(direct::Input::Send { key, to, body }).await;
            }
            Event::Service(service) => self.service = Some(service),
        }
    }

    async fn on_said(&mut self, peer: NodeId, said: Said) {
        match said {
            Said::Ask(ask) => {
                self.look_up_members();
                self.desk(question::Input::Asked(peer, ask)).await;
            }
            Said::Answer(answer) => self.desk(question::Input::Answered(peer, answer)).await,
            Said::Direct(direct) => self.switch(direct::Input::Arrived(peer, direct)).await,
            Said::Returned(returned) => {
                self.switch(direct::Input::Returned(peer, returned)).await;
            }
        }
    }

    fn next_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// Counting members reads every join record: now and then, and beside this task.
    fn look_up_members(&mut self) {
        if self.members_at.is_some_and(|at| at.elapsed() < MEMBERS_PACE) {
            return;
        }
        self.members_at = Some(Instant::now());
        let (ledger, inbox) = (self.observer.ledger.clone(), self.handle.inbox.clone());
        tokio::spawn(async move {
            let members = ledger.run(|ledger| ledger.members(unix_now()).len() as u64).await;
            // The shell ends only with the agent.
            let _ = inbox.send(Event::Members(members)).await;
        });
    }

    async fn desk(&mut self, input: question::Input) {
        for output in self.desk.handle(self.clock.now(), input) {
            match output {
                question::Output::Ask(to, ask) => self.push(to, &Frame::Ask(ask)).await,
                question::Output::Answer(to, answer) => self.push(to, &Frame::Answer(answer)).await,
                question::Output::Observe { inquiry, question } => self.observe(inquiry, question),
                question::Output::Done { key, findings } => {
                    if let Some(reply) = self.questions.remove(&key) {
                        // Whoever asked may have given up.
                        let _ = reply.send(findings);
                    }
                }
                question::Output::Learned { node, via } => {
                    let learned = direct::Input::Learned { node, via };
                    // Nothing has to be done when a way is learned.
                    self.switch.handle(self.clock.now(), learned);
                }
            }
        }
    }

    async fn switch(&mut self, input: direct::Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.switch.handle(self.clock.now(), input) {
                match output {
                    direct::Output::Forward(to, direct) => {
                        self.push(to, &Frame::Direct(direct)).await;
                    }
                    direct::Output::Return(to, returned) => {
                        self.push(to, &Frame::Returned(returned)).await;
                    }
                    direct::Output::Deliver { ticket, body } => {
                        let taken = self.service.as_ref().map(|service| service.try_send(body));
                        let refused = match taken {
                            Some(Ok(())) => None,
                            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                                Some(Undelivered::Busy)
                            }
                            // Nobody here waits for messages.
                            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                                Some(Undelivered::Unreachable)
                            }
                        };
                        inputs.push(direct::Input::Taken { ticket, refused });
                    }
                    direct::Output::Done { key, result } => {
                        if let Some(reply) = self.messages.remove(&key) {
                            let _ = reply.send(result);
                        }
                    }
                }
            }
        }
    }

    fn observe(&self, inquiry: u64, question: Question) {
        let (observer, inbox) = (self.observer.clone(), self.handle.inbox.clone());
        let attached = self.attached;
        tokio::spawn(async move {
            let own = observer.observe(&question, attached).await;
            let _ = inbox.send(Event::Observed { inquiry, own }).await;
        });
    }

    async fn push(&self, to: NodeId, frame: &Frame) {
        let line = frame.to_line();
        let urgent = line.len() <= URGENT_MAX;
        self.observer.tree.line(to, line, urgent).await;
    }
}
