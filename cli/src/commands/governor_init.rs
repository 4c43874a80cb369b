//! `borgios governor init`: makes this governor's identity.

use borgios_policy::Name;
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::identity::Identity;

/// Make this governor's identity
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// How the other governors call you: lower-case letters, digits and -
    #[arg(long)]
    name: Name,
}

impl Init {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let _lock = context.home.lock()?;
        let identity =
            Identity::create(&context.home, self.name, context.passphrase, &context.printer)?;
        let (name, key) = (identity.name(), identity.ssh().public());
        let folder = context.home.root().display().to_string();
        let recipient = identity.age().to_public().to_string();
        let answer = json!({
            "name": name, "key": key, "fingerprint": key.fingerprint(), "recipient": recipient,
            "home": folder,
        });
        context.printer.answer(
            &answer,
            &format!(
                "governor {name}\n  key         {}\n  recipient   {recipient}\n  kept in     \
                 {folder}",
                key.fingerprint()
            ),
        )?;
        context.printer.say(
            "\nThe passphrase is the only way to this identity: there is no recovery.\nNext, with a \
             folder shared by all governors: for a new network, or a recovery board, `borgios governor \
             found --exchange DIR`; to join a board, `borgios governor change --exchange DIR`; after a \
             loss, give another governor the output of `borgios governor card --json`.",
        );
        Ok(())
    }
}
