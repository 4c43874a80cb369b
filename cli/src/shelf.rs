//! Blobs of the lane `credential`: kept in the governor's folder by digest, fetched from whoever
//! has them. Their digest proves them; the bound on their size is the statement's.

use borgios_policy::{Blob, credential};
use borgios_types::Digest;

use crate::durable;
use crate::exchange::Exchange;
use crate::failure::Failure;
use crate::home::Home;

/// A blob that lies in the governor's folder.
pub(crate) fn held(home: &Home, blob: &Blob) -> Result<Option<Vec<u8>>, Failure> {
    let max = usize::try_from(blob.size.min(credential::ESCROW_MAX)).unwrap_or(usize::MAX);
    let bytes = durable::read(&home.blob(&blob.digest), max)?;
    Ok(bytes.filter(|bytes| is(blob, bytes)))
}

/// A blob from the governor's folder, else from the places this run talks to; it is kept.
pub(crate) fn fetched(
    home: &Home,
    exchange: &mut Exchange,
    blob: &Blob,
) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(bytes) = held(home, blob)? {
        return Ok(Some(bytes));
    }
    if blob.size > credential::ESCROW_MAX {
        return Ok(None);
    }
    let Some(bytes) = exchange.blob(blob, |bytes| is(blob, bytes)) else { return Ok(None) };
    keep(home, &bytes)?;
    Ok(Some(bytes))
}

/// Keeps a blob in the governor's folder.
pub(crate) fn keep(home: &Home, bytes: &[u8]) -> Result<Blob, Failure> {
    let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
    let path = home.blob(&blob.digest);
    if let Some(folder) = path.parent() {
        durable::folder(folder)?;
    }
    durable::write(&path, bytes)?;
    Ok(blob)
}

fn is(blob: &Blob, bytes: &[u8]) -> bool {
    bytes.len() as u64 == blob.size && Digest::of(bytes) == blob.digest
}
