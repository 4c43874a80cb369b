//! Objects in one file, for a machine without a network: `--out` writes one, `--in` reads one.
//!
//! A JSON array of envelopes. Whoever reads one trusts nothing in it: every object is verified as if a
//! node had sent it.

use std::path::Path;

use borgios_types::Envelope;
use borgios_types::limits::ENVELOPE_MAX;

use crate::durable;
use crate::failure::{Failure, OrFail as _};

/// Largest file, in bytes: the open votes of a large board.
const FILE_MAX: usize = durable::READ_MAX;

/// The well-formed envelopes of a carrier's file, and how many were left out.
pub(crate) fn read(path: &Path) -> Result<(Vec<Envelope>, usize), Failure> {
    let what = || format!("{} is no file of objects", path.display());
    let Some(bytes) = durable::read(path, FILE_MAX)? else {
        return Err(Failure::new(format!("{} does not exist", path.display())));
    };
    let all: Vec<&serde_json::value::RawValue> = serde_json::from_slice(&bytes).or_fail(what)?;
    let found = all.len();
    let fits = all.into_iter().filter(|text| text.get().len() <= ENVELOPE_MAX);
    let envelopes: Vec<Envelope> =
        fits.filter_map(|text| Envelope::parse(text.get().as_bytes()).ok()).collect();
    let left_out = found - envelopes.len();
    Ok((envelopes, left_out))
}

/// Writes a carrier's file for others to read; how many bytes it has.
///
/// # Errors
/// Also where [`read`] would refuse it: a carrier who went the way for nothing learns it too late.
pub(crate) fn write<'a>(
    path: &Path,
    envelopes: impl IntoIterator<Item = &'a Envelope>,
) -> Result<usize, Failure> {
    let all: Vec<String> = envelopes.into_iter().map(Envelope::to_json).collect();
    let text = format!("[{}]\n", all.join(",\n"));
    if text.len() > FILE_MAX {
        return Err(Failure::new(format!("{} was not written", path.display()))
            .because(format!("it would have {} bytes, at most {FILE_MAX} are read", text.len()))
            .hint("carry what is open more often, or take fewer votes at once"));
    }
    durable::write_public(path, text.as_bytes())?;
    Ok(text.len())
}
