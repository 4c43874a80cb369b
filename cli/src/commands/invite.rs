//! `borgios invite`: lets servers join, for a while and a number of times.

use std::path::PathBuf;

use borgios_policy::{
    Invitation, InvitationFile, Lane, Member, Name, Object as _, PolicyPin, SecretText,
};
use borgios_types::{PublicKey, SecretKey, Seq};
use clap::Args;
use rand::RngCore as _;
use serde_json::json;
use zeroize::Zeroizing;

use crate::commands::bundle::chain_to;
use crate::commands::export::PRINCIPAL;
use crate::context::Context;
use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::known::{KnownNodes, address};
use crate::session::Session;
use crate::span;

/// Let servers join
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// How many servers may join with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// How long it is valid: 12h, 7d, 4w
    #[arg(long = "for", value_name = "TIME", default_value = "7d", value_parser = seconds)]
    valid: u64,
    /// The invitation file to write; it is a secret
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A server to join through, instead of those talked to before; again for each
    #[arg(long = "member", value_name = "HOST:PORT=KEY", value_parser = member)]
    members: Vec<Member>,
    /// For the first server of a network: there is nobody to join through
    #[arg(long, conflicts_with = "members")]
    first: bool,
    /// Where the bundle can be downloaded, http or https; again for each
    #[arg(long = "url", value_name = "URL", value_parser = url)]
    urls: Vec<String>,
    /// What the file calls the network [default: what this folder calls it]
    #[arg(long, value_name = "NET")]
    name: Option<Name>,
}

impl Invite {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut session = Session::open(context)?;
        let (board, _) = session.on_board()?;
        let members = self.members(context)?;
        let mut seed = Zeroizing::new([0; 32]);
        rand::rngs::OsRng.fill_bytes(seed.as_mut());
        let token = SecretKey::from_seed(*seed);
        let issued = context.now();
        let invitation = Invitation {
            network: session.network(),
            token: token.public(),
            uses: self.uses,
            issued,
            expires: issued.plus(self.valid),
        };
        invitation.check().or_fail(|| "this invitation cannot be made")?;
        if let (Some(policy), (_, me)) =
            (session.desk.archive().chain().policy(), session.on_board()?)
        {
            let what = || "the policy in force does not let you make this invitation";
            invitation.keeps_the_rules(policy, me).or_fail(what)?;
        }
        let envelope = invitation.to_envelope().sign(session.identity().ssh());
        let chain = session.desk.archive().chain();
        let policy = chain.head(Lane::Policy).ok_or_else(|| Failure::new("no policy is known"))?;
        let lanes = Lane::ALL.map(|lane| lane.namespace().as_str().to_owned());
        let lanes: Vec<&str> = lanes.iter().map(String::as_str).collect();
        let file = InvitationFile {
            invitation: envelope.clone(),
            token: SecretText::new(token.to_openssh("borgios invitation").to_string()),
            network: session.network(),
            name: self.name.clone().unwrap_or_else(|| session.desk.membership().name.clone()),
            members,
            allowed_signers: board.group().allowed_signer(PRINCIPAL, &lanes).trim_end().to_owned(),
            chain: chain_to(session.desk.archive(), Seq(u64::MAX)),
            policy: PolicyPin { seq: policy.statement().seq, id: policy.id() },
            urls: self.urls.clone(),
        };
        let text = Zeroizing::new(
            serde_json::to_string(&file).or_fail(|| "could not encode the invitation")?,
        );
        durable::write(&self.out, text.as_bytes())?;
        // The signed part is public. Newcomers bring it with them, so a place that does not take it
        // does no harm.
        if let Err(failure) = session.desk.send(&envelope) {
            context.printer.warn(&failure.summary());
        }

        let answer = json!({
            "file": self.out, "id": envelope.id(), "uses": self.uses,
            "expires": invitation.expires, "members": file.members, "first": self.first,
        });
        let through: Vec<&str> =
            file.members.iter().map(|member| member.address.as_str()).collect();
        let through = if self.first {
            "for the first server: there is nobody to join through".to_owned()
        } else {
            format!("joins through {}", through.join(", "))
        };
        let text = format!(
            "{}: {} servers until {}\n  {through}",
            self.out.display(),
            self.uses,
            invitation.expires
        );
        context.printer.answer(&answer, &text)?;
        context.printer.say(
            "\nWhoever holds this file can join servers: hand it over as you would a password.",
        );
        Ok(())
    }

    /// Whom servers join through; nobody only for the first of a network.
    fn members(&self, context: &Context) -> Result<Vec<Member>, Failure> {
        if self.first || !self.members.is_empty() {
            return Ok(self.members.clone());
        }
        let known = KnownNodes::load(&context.home)?;
        let named: Vec<String> =
            context.nodes.iter().map(|node| address(node)).collect::<Result<_, _>>()?;
        let wanted = known
            .nodes()
            .iter()
            .filter(|node| named.is_empty() || named.contains(&node.address))
            .map(|node| Member { address: node.address.clone(), key: node.key });
        let wanted: Vec<Member> = wanted.collect();
        // Who joins through nobody begins a tree of their own, and the two never meet.
        if wanted.is_empty() {
            return Err(Failure::usage("nobody is known to join through").hint(
                "`borgios connect HOST:7117` remembers a server to join through, `--member \
                 HOST:PORT=KEY` names one; `--first` is for the first server of a network",
            ));
        }
        Ok(wanted)
    }
}

/// `12h`, `7d`, `4w`.
fn seconds(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no time to join in: write 12h, 7d or 4w");
    let seconds = span::seconds(text).map_err(|_| bad())?;
    if (60..=366 * 86_400).contains(&seconds) { Ok(seconds) } else { Err(bad()) }
}

/// An address that `bootstrap.sh` can hand to curl as it is.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b));
    let web = text.starts_with("http://") || text.starts_with("https://");
    if plain && web && text.len() <= 2048 {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no address to download from: write http://… or https://…"))
}

/// `host:port=ssh-ed25519 AAAA…`.
pub(crate) fn member(text: &str) -> Result<Member, String> {
    let (place, key) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is no member: write HOST:PORT=ssh-ed25519 AAAA…"))?;
    let key: PublicKey =
        key.parse().map_err(|error: borgios_types::key::KeyError| error.to_string())?;
    let address = address(place).map_err(|failure| failure.summary())?;
    Ok(Member { address, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_a_bound() {
        assert_eq!(seconds("7d"), Ok(604_800));
        for bad in ["", "7", "d", "-1d", "999999w", "1s", "7ü"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_to_download_from_are_plain() {
        assert!(url("https://borg.example/bundle.tar").is_ok());
        for bad in ["", "file:///etc/passwd", "borg.example/b", "http://a b", "http://a\"b"] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn members_are_an_address_and_a_key() {
        let key = SecretKey::from_seed([1; 32]).public();
        assert_eq!(member(&format!("web-1:7117={key}")).unwrap().key, key);
        assert!(member("web-1:7117").is_err());
        assert!(member("web-1:7117=ssh-rsa AAAA").is_err());
    }
}
