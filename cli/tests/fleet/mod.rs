//! Servers for tests: the objects that a node and its keeper sign, laid into the exchange folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use borgios_policy::{
    Handover, Invitation, InvitationFile, Join, Object as _, RotationReport, Witness,
};
use borgios_types::{Digest, Envelope, Epoch, PublicKey, SecretKey, UnixSeconds};

use crate::board::Board;

/// One server.
pub(crate) struct Server {
    number: u8,
    name: String,
    network: Digest,
}

/// The system clock.
pub(crate) fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

impl Server {
    /// Keys of tests; a server's keeper has the key of its number and 100.
    pub(crate) fn key(number: u8) -> SecretKey {
        SecretKey::from_seed([number; 32])
    }

    /// A server that joins by an invitation of `governor`.
    pub(crate) fn join(board: &Board, governor: &str, number: u8, name: &str) -> Self {
        let path = board.path(&format!("invite-{number}.json"));
        board.ok(governor, &["invite", "--first", "--out", path.to_str().unwrap()]);
        let text = std::fs::read_to_string(path).unwrap();
        let file: InvitationFile = serde_json::from_str(&text).unwrap();
        let server = Self { number, name: name.to_owned(), network: file.network };
        let join = server.record(file.invitation.id());
        board.publish(&join.sign(&file.token_key().unwrap()));
        server
    }

    /// A server whose invitation nobody on the board signed.
    pub(crate) fn stranger(board: &Board, number: u8, name: &str) {
        let path = board.path("invite-stranger.json");
        board.ok("ann", &["invite", "--first", "--out", path.to_str().unwrap()]);
        let file: InvitationFile =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let server = Self { number, name: name.to_owned(), network: file.network };
        let token = Self::key(200);
        let invitation = Invitation {
            network: file.network,
            token: token.public(),
            uses: 1,
            issued: now(),
            expires: now().plus(3600),
        };
        let invitation = invitation.to_envelope().sign(&Self::key(201));
        board.publish(&server.record(invitation.id()).sign(&token));
        board.publish(&invitation);
    }

    /// Publishes that it saw a statement.
    pub(crate) fn witness(&self, board: &Board, statement: &str) {
        let witness = Witness {
            network: self.network,
            node: Self::key(self.number).public(),
            statement: serde_json::from_value(statement.into()).unwrap(),
            at: now(),
        };
        board.publish(&witness.to_envelope().sign(&Self::key(self.number)));
    }

    fn record(&self, invitation: Digest) -> Envelope {
        let join = Join {
            network: self.network,
            node: Self::key(self.number).public(),
            keeper: self.keeper().public(),
            name: self.name.parse().unwrap(),
            address: Some(format!("10.0.0.{}:7117", self.number)),
            owner: None,
            invitation,
            issued: now(),
            expires: now().plus(7 * 86_400),
        };
        join.to_envelope().sign(&Self::key(self.number))
    }

    /// The keeper's key.
    pub(crate) fn keeper(&self) -> SecretKey {
        Self::key(self.number + 100)
    }

    /// A receipt, by whoever.
    pub(crate) fn receipt(&self, keeper: &SecretKey, owner: Option<PublicKey>) -> Envelope {
        let handover = Handover {
            network: self.network,
            node: Self::key(self.number).public(),
            keeper: keeper.public(),
            name: self.name.parse().unwrap(),
            host_keys: vec![self.host_key()],
            taken: BTreeMap::new(),
            owner,
            at: now(),
        };
        handover.to_envelope().sign(keeper)
    }

    fn host_key(&self) -> PublicKey {
        Self::key(self.number + 50).public()
    }

    /// Publishes the receipt; its host key.
    pub(crate) fn hand_over(&self, board: &Board, owner: Option<PublicKey>) -> PublicKey {
        board.publish(&self.receipt(&self.keeper(), owner));
        self.host_key()
    }

    /// Publishes which epoch it carries.
    pub(crate) fn carries(&self, board: &Board, epoch: u64, problem: Option<&str>) {
        let report = RotationReport {
            network: self.network,
            node: Self::key(self.number).public(),
            keeper: self.keeper().public(),
            epoch: Epoch(epoch),
            due: now(),
            changed: now(),
            exhausted: false,
            problem: problem.map(str::to_owned),
            at: now(),
        };
        board.publish(&report.to_envelope().sign(&self.keeper()));
    }
}

/// An SSH key made by stock OpenSSH.
pub(crate) fn ssh_key(board: &Board, name: &str, comment: &str) -> PathBuf {
    let path = board.path(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    path
}
