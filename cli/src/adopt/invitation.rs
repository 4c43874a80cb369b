//! The invitation that hosts are adopted with: checked here before any host is dialled, and as a
//! copy without its secret, which is all that a plan needs.

use std::path::Path;

use borgios_policy::{Invitation, InvitationFile, SecretText};
use borgios_types::{Digest, UnixSeconds};
use zeroize::Zeroizing;

use crate::durable;
use crate::failure::{Failure, OrFail as _};

/// Largest invitation file: what bootstrap.sh takes.
const FILE_MAX: usize = 8 * 1024 * 1024;

/// An invitation whose every part was verified.
pub(crate) struct Checked {
    /// The file as it is; a secret.
    pub(crate) whole: Zeroizing<Vec<u8>>,
    /// The same without the token's secret half: public.
    pub(crate) public: Vec<u8>,
    /// The file's values, of which the token is blank.
    pub(crate) file: InvitationFile,
    /// The signed part.
    pub(crate) invitation: Invitation,
    /// The board's key, as bootstrap.sh shows it.
    pub(crate) board: String,
}

impl Checked {
    /// Reads and verifies the file at `path`, for `hosts` machines.
    pub(crate) fn read(path: &Path, now: UnixSeconds, hosts: usize) -> Result<Self, Failure> {
        let what = || format!("{} cannot be used", path.display());
        let bytes = durable::read(path, FILE_MAX)?.ok_or_else(|| {
            Failure::new(format!("{} does not exist", path.display()))
                .hint("a governor makes one: `borgios invite --uses N --for 12h --out FILE`")
        })?;
        let whole = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&whole).or_fail(what)?;
        let mut file = InvitationFile::parse(text).or_fail(what)?;
        let (chain, invitation) = file.verify(now).or_fail(what)?;
        if hosts > 1 && file.members.is_empty() {
            return Err(Failure::new(what())
                .because(format!("it is for the first server of a network, {hosts} are named"))
                .hint("adopt one, then invite the others through it"));
        }
        let board = chain.policy().map(|policy| policy.board.group().fingerprint());
        file.token = SecretText::new(String::new());
        let public = serde_json::to_vec(&file).or_fail(|| "could not encode the invitation")?;
        Ok(Self { whole, public, file, invitation, board: board.unwrap_or_default() })
    }

    /// The network.
    pub(crate) fn network(&self) -> Digest {
        self.invitation.network
    }
}
