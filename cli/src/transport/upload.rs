//! A blob sent to a node in pieces over an open door.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use borgios_types::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Door;
use crate::failure::{Failure, OrFail as _};

/// Bytes in one piece: base64 makes a third more of it, and a line holds at most 1 MiB.
const PIECE: usize = 256 * 1024;

/// Where an upload stands.
#[derive(Deserialize)]
struct Progress {
    /// Bytes the node has; all of them when it is whole.
    have: u64,
    #[serde(default)]
    whole: bool,
}

/// Sends a blob from where the node wants it; one that it has is not sent.
pub(crate) fn send(door: &mut dyn Door, digest: Digest, bytes: &[u8]) -> Result<(), Failure> {
    let mut offset = 0;
    // Each piece moves forward, but for one jump to where an earlier upload was cut off.
    let mut backwards = 1;
    loop {
        let piece = &bytes[offset..bytes.len().min(offset + PIECE)];
        let request: Value = json!({
            "put": "blob", "digest": digest, "size": bytes.len(), "offset": offset,
            "bytes": BASE64.encode(piece),
        });
        let progress = door.ask(&request)?;
        let progress: Progress = serde_json::from_value(progress)
            .or_fail(|| format!("{} did not say how far it is", door.name()))?;
        if progress.whole {
            return Ok(());
        }
        let next = usize::try_from(progress.have).unwrap_or(usize::MAX);
        if next > bytes.len() || (next <= offset && backwards == 0) {
            return Err(Failure::new(format!("{} asks for byte {next} again", door.name())));
        }
        if next <= offset {
            backwards -= 1;
        }
        offset = next;
    }
}
