//! The signed receipt in the text that bootstrap.sh shows: taken out, checked, and kept as the object
//! that `borgios depart --receipt` reads.

use borgios_policy::{Handover, Object as _};
use borgios_types::{Digest, Envelope, Kind, SignedBy, sshsig};

use crate::failure::{Failure, OrFail as _};

/// First line of a signature.
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
/// Its last line.
const END: &str = "-----END SSH SIGNATURE-----";

/// What the keeper signed, from a receipt as it is printed and lies on the server; whose network it is,
/// the receipt says itself.
///
/// # Errors
/// As [`signed`].
pub(crate) fn printed(text: &str) -> Result<Envelope, Failure> {
    let what = || "it is no receipt of a hand-over";
    let payload = text.lines().find(|line| line.starts_with('{'));
    let payload = payload.ok_or_else(|| Failure::new(what()))?;
    let kind = Kind::new(Handover::KIND).or_fail(what)?;
    let named = Handover::parse(&Envelope::unsigned(kind, payload.to_owned())).or_fail(what)?;
    signed(text, named.network)
}

/// What the keeper signed: one line of JSON, then its signature.
///
/// # Errors
/// A receipt that is not all there, or that its keeper did not sign for `network`.
pub(crate) fn signed(text: &str, network: Digest) -> Result<Envelope, Failure> {
    let what = || "the receipt is not all there, or is not signed by its keeper";
    let missing = || Failure::new(what());
    let lines: Vec<&str> = text.lines().collect();
    let payload = lines.iter().find(|line| line.starts_with('{')).ok_or_else(missing)?;
    let begin = lines.iter().position(|line| *line == BEGIN).ok_or_else(missing)?;
    let length = lines[begin..].iter().position(|line| *line == END).ok_or_else(missing)?;
    let armour = lines[begin..=begin + length].join("\n") + "\n";
    let kind = Kind::new(Handover::KIND).or_fail(what)?;
    let (by, sig) = sshsig::read_armour(&armour, &kind.namespace()).or_fail(what)?;
    let mut envelope = Envelope::unsigned(kind, (*payload).to_owned());
    envelope.sigs.push(SignedBy { by, sig });
    Handover::verify(network, &envelope).or_fail(what)?;
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use borgios_types::SecretKey;
    use serde_json::json;

    use super::*;

    fn network() -> Digest {
        Digest::of(b"network")
    }

    /// As bootstrap.sh writes it.
    fn text(keeper: &SecretKey, names: &SecretKey) -> (Envelope, String) {
        let node = SecretKey::from_seed([2; 32]).public();
        let payload = json!({
            "network": network(), "node": node, "keeper": names.public(), "name": "web-1",
            "host_keys": [], "taken": {"account": 2}, "at": 1_795_000_000,
        });
        let kind = Kind::new("handover").unwrap();
        let envelope = Envelope::unsigned(kind.clone(), payload.to_string()).sign(keeper);
        let armour = sshsig::armour(&keeper.public(), &kind.namespace(), &envelope.sigs[0].sig);
        let text = format!(
            "RECEIPT of x: root on web-1 was handed over\n\nWhat the keeper took over:\n{payload}\n\
             {armour}handover.signers: keeper namespaces=\"borgios-handover@v1\" …\n"
        );
        (envelope, text)
    }

    #[test]
    fn the_signed_object_is_taken_out_of_the_text() {
        let keeper = SecretKey::from_seed([1; 32]);
        let (envelope, text) = text(&keeper, &keeper);
        assert_eq!(signed(&text, network()).unwrap().to_json(), envelope.to_json());
        assert_eq!(printed(&text).unwrap().to_json(), envelope.to_json());
    }

    #[test]
    fn what_was_cut_changed_or_signed_by_another_is_no_receipt() {
        let keeper = SecretKey::from_seed([1; 32]);
        let (_, good) = text(&keeper, &keeper);
        for at in (0..=good.find(END).unwrap()).filter(|at| good.is_char_boundary(*at)) {
            assert!(signed(&good[..at], network()).is_err(), "{at}");
        }
        assert!(signed(&good.replace("web-1", "web-2"), network()).is_err());
        assert!(printed(&good.replace("web-1", "web-2")).is_err());
        assert!(printed("RECEIPT\n{}\n").is_err() && printed("").is_err());
        assert!(signed(&good, Digest::of(b"other")).is_err());
        let (_, forged) = text(&SecretKey::from_seed([3; 32]), &keeper);
        assert!(signed(&forged, network()).is_err());
    }
}
