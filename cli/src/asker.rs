//! What opens the reveals that this governor asked for: one age identity each, encrypted to the
//! governor, made before the proposal and erased once the password was printed.

use age::secrecy::ExposeSecret as _;
use age::x25519;
use zeroize::Zeroizing;

use crate::durable;
use crate::failure::{Failure, OrFail as _};
use crate::home::Home;
use crate::identity::Identity;

/// Largest stored identity, in bytes.
const FILE_MAX: usize = 16 * 1024;

/// Makes an identity for one reveal, and stores it before anybody hears of its recipient.
pub(crate) fn create(home: &Home, identity: &Identity) -> Result<x25519::Recipient, Failure> {
    let asker = x25519::Identity::generate();
    let recipient = asker.to_public();
    durable::folder(&home.reveals())?;
    let secret = asker.to_string();
    let cipher = identity.seal(secret.expose_secret().as_bytes())?;
    durable::write(&path(home, &recipient.to_string()), &cipher)?;
    Ok(recipient)
}

/// The identity behind a recipient, if it was made here and is still needed.
pub(crate) fn find(
    home: &Home,
    identity: &Identity,
    recipient: &str,
) -> Result<Option<x25519::Identity>, Failure> {
    if !is_recipient(recipient) {
        return Ok(None);
    }
    let path = path(home, recipient);
    let Some(cipher) = durable::read(&path, FILE_MAX)? else { return Ok(None) };
    let what = || format!("{} opens no reveal", path.display());
    let plain = identity.unseal(&cipher, &path.display().to_string())?;
    let text = Zeroizing::new(String::from_utf8(plain.to_vec()).or_fail(what)?);
    text.parse().map(Some).map_err(|why: &str| Failure::new(what()).because(why))
}

/// Erases an identity: what was sealed to it opens to nobody from then on.
pub(crate) fn forget(home: &Home, recipient: &str) -> Result<(), Failure> {
    if !is_recipient(recipient) {
        return Ok(());
    }
    durable::erase(&path(home, recipient))
}

/// The recipients whose identities are stored.
pub(crate) fn stored(home: &Home) -> Result<Vec<String>, Failure> {
    let files = durable::list(&home.reveals())?;
    let names = files.iter().filter_map(|path| path.file_stem()?.to_str());
    Ok(names.filter(|name| is_recipient(name)).map(str::to_owned).collect())
}

/// Such a text is safe in a path.
fn is_recipient(text: &str) -> bool {
    text.len() <= 100 && text.starts_with("age1") && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn path(home: &Home, recipient: &str) -> std::path::PathBuf {
    home.reveals().join(format!("{recipient}.age"))
}
