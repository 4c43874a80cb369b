//! A board of three with a dealer: the votes are tested elsewhere, here the signature is enough.

use borgios_policy::{
    Beacon, Board, Class, Classes, Governor, Invitation, InvitationFile, Lane, Member, Name, Note,
    Object as _, Objection, Pause, Policy, PolicyPin, Share, Statement, Veto, message,
};
use borgios_types::{
    Digest, Envelope, KeyEpoch, PublicKey, Round, SecretKey, Seq, Signature, SignedBy, Threshold,
    UnixSeconds, sshsig,
};
use frost_ed25519 as frost;
use frost_ed25519::keys::IdentifierList;
use rand::rngs::OsRng;
use serde_json::Value;

/// Names of the governors, in order.
const NAMES: [&str; 3] = ["ann", "bob", "cleo"];

/// A board whose whole group key the test holds.
pub(crate) struct TestBoard {
    group: frost::SigningKey,
    governors: Vec<SecretKey>,
    chain: Vec<Envelope>,
    policy: Policy,
    network: Digest,
    heads: [(Seq, Option<Digest>); 5],
}

pub(crate) fn now() -> UnixSeconds {
    borgios_agent::clock::unix_now()
}

impl TestBoard {
    pub(crate) fn new(fanout: u16) -> Self {
        let group = frost::SigningKey::new(&mut OsRng);
        let (_, public) =
            frost::keys::split(&group, 3, 2, IdentifierList::Default, &mut OsRng).unwrap();
        let governors: Vec<_> = (1..=3).map(|seed| SecretKey::from_seed([seed; 32])).collect();
        let shares = public.verifying_shares().values();
        let members = NAMES.iter().zip(&governors).zip(shares).map(|((name, key), share)| {
            let identity = age::x25519::Identity::generate();
            Governor {
                name: name.parse().unwrap(),
                key: key.public(),
                recipient: identity.to_public().to_string(),
                share: Share(share.serialize().unwrap().try_into().unwrap()),
                former: Vec::new(),
            }
        });
        let key: [u8; 32] = public.verifying_key().serialize().unwrap().try_into().unwrap();
        let board = Board::new(
            KeyEpoch(1),
            Threshold(2),
            PublicKey::from_bytes(key).unwrap(),
            members.collect(),
        )
        .unwrap();
        let class = Class::of(2);
        let classes = Classes::of(class, class);
        let policy = Policy::new(board, fanout, classes);
        let mut made = Self {
            group,
            governors,
            chain: Vec::new(),
            policy: policy.clone(),
            network: Digest([0; 32]),
            heads: [(Seq(0), None); 5],
        };
        let first = made.statement(Lane::Policy, policy.to_body());
        made.network = first.id();
        made
    }

    pub(crate) fn network(&self) -> Digest {
        self.network
    }

    pub(crate) fn group(&self) -> PublicKey {
        self.policy.board.group()
    }

    /// The same board under a later key epoch.
    pub(crate) fn of_epoch(&self, epoch: u32) -> Board {
        let board = &self.policy.board;
        let members = board.governors().to_vec();
        Board::new(KeyEpoch(epoch), board.threshold(), board.group(), members).unwrap()
    }

    pub(crate) fn classes(&self) -> Classes {
        self.policy.classes.clone()
    }

    /// The last statement of a lane.
    pub(crate) fn heads(&self, lane: Lane) -> Option<Digest> {
        self.heads[lane as usize].1
    }

    pub(crate) fn governor(&self, index: usize) -> &SecretKey {
        &self.governors[index]
    }

    /// The next policy: the same board, another fan-out.
    pub(crate) fn policy(&mut self, fanout: u16) -> Envelope {
        self.policy.fanout = fanout;
        self.statement(Lane::Policy, self.policy.to_body())
    }

    /// The next policy: the same board, other rules.
    pub(crate) fn rules(&mut self, change: impl FnOnce(&mut Policy)) -> Envelope {
        change(&mut self.policy);
        self.statement(Lane::Policy, self.policy.to_body())
    }

    /// The last statement of a lane was taken back: the next one has its place.
    pub(crate) fn again(&mut self, lane: Lane, prev: Option<Digest>) {
        let (seq, _) = self.heads[lane as usize];
        self.heads[lane as usize] = (Seq(seq.0 - 1), prev);
        self.chain.pop();
    }

    /// What a governor says against a statement.
    pub(crate) fn objection(&self, by: usize, against: &Envelope) -> Objection {
        let statement = Statement::parse(against).unwrap();
        Objection {
            network: self.network,
            group: self.policy.board.group(),
            governor: self.policy.board.governors()[by].name.clone(),
            statement: against.id(),
            lane: statement.lane,
            seq: statement.seq,
            reason: "it does harm".to_owned(),
            at: now(),
        }
    }

    /// A veto by a governor.
    pub(crate) fn veto(&self, by: usize, against: &Envelope) -> Envelope {
        Veto(self.objection(by, against)).to_envelope().sign(&self.governors[by])
    }

    /// A pause asked for by a governor.
    pub(crate) fn pause(&self, by: usize, against: &Envelope) -> Envelope {
        Pause(self.objection(by, against)).to_envelope().sign(&self.governors[by])
    }

    /// The same in other words.
    pub(crate) fn pause_because(&self, by: usize, against: &Envelope, reason: &str) -> Envelope {
        let said = Objection { reason: reason.to_owned(), ..self.objection(by, against) };
        Pause(said).to_envelope().sign(&self.governors[by])
    }

    /// A sign of life of a governor.
    pub(crate) fn beacon(&self, by: usize) -> Envelope {
        let beacon = Beacon {
            network: self.network,
            group: self.policy.board.group(),
            governor: self.policy.board.governors()[by].name.clone(),
            time: now(),
            heads: Default::default(),
            counter: 1,
        };
        beacon.to_envelope().sign(&self.governors[by])
    }

    /// Signs the next statement of a lane.
    pub(crate) fn statement(&mut self, lane: Lane, body: Value) -> Envelope {
        let (seq, prev) = self.heads[lane as usize];
        let first_policy = lane == Lane::Policy && seq.0 == 0;
        let statement = Statement {
            network: (!first_policy).then_some(self.network),
            lane,
            seq: seq.next(),
            round: Round(0),
            prev,
            policy: (!first_policy).then(|| match lane {
                Lane::Policy => seq,
                Lane::Release | Lane::Credential | Lane::Member | Lane::Access => {
                    self.heads[Lane::Policy as usize].0
                }
            }),
            issued: now(),
            expires: now().plus(3600),
            critical: Vec::new(),
            body,
        };
        let envelope = self.sign(statement.to_envelope());
        self.heads[lane as usize] = (seq.next(), Some(envelope.id()));
        self.chain.push(envelope.clone());
        envelope
    }

    pub(crate) fn sign(&self, mut envelope: Envelope) -> Envelope {
        let key = frost::VerifyingKey::from(&self.group).serialize().unwrap();
        let by = PublicKey::from_bytes(key.try_into().unwrap()).unwrap();
        let message = match envelope.kind.as_str().parse() {
            Ok(lane) => message::signed_bytes(lane, &envelope.payload, &by),
            Err(_) => sshsig::preimage(&envelope.kind.namespace(), envelope.payload.as_bytes()),
        };
        let signature = self.group.sign(OsRng, &message).serialize().unwrap();
        envelope.sigs.push(SignedBy { by, sig: Signature(signature.try_into().unwrap()) });
        envelope
    }

    /// An invitation file for one server more.
    pub(crate) fn invite(&self, members: Vec<Member>) -> InvitationFile {
        let mut seed = [0; 32];
        rand::RngCore::fill_bytes(&mut OsRng, &mut seed);
        let token = SecretKey::from_seed(seed);
        let invitation = Invitation {
            network: self.network,
            token: token.public(),
            uses: 1,
            issued: now(),
            expires: now().plus(3600),
        };
        let name: Name = "test".parse().unwrap();
        let text = serde_json::json!({
            "invitation": invitation.to_envelope().sign(&self.governors[0]),
            "token": token.to_openssh("token").as_str(),
            "network": self.network,
            "name": name,
            "members": members,
            "allowed_signers": "",
            "chain": self.chain,
            "policy": PolicyPin { seq: Seq(1), id: self.network },
        });
        serde_json::from_value(text).unwrap()
    }

    pub(crate) fn note(&self, text: &str) -> Envelope {
        let note = Note { network: self.network, text: text.to_owned(), at: now() };
        note.to_envelope().sign(&self.governors[1])
    }
}
