//! The log's side of the core's jobs: a group of them, one sync.

use crate::io::Input;
use crate::log::{Log, LogAnswer, LogError, LogJob};
use crate::position::{Origin, Position};

/// What became of an append that waits for the sync.
struct Waiting {
    origin: Origin,
    first: Position,
    last: Position,
}

/// Does a group of jobs with one sync for all of them, and pushes the answers as inputs.
///
/// The shell's log thread takes every job that waits, calls this, and hands the inputs back: so the
/// more load, the larger the group. `jobs` is empty afterwards and keeps its capacity.
pub fn serve(log: &mut dyn Log, jobs: &mut Vec<LogJob>, inputs: &mut Vec<Input>) {
    let mut durable: Vec<Waiting> = Vec::new();
    for job in jobs.drain(..) {
        match job {
            LogJob::Append { origin, batch, id, own } => {
                let (first, last) = (batch.first(), batch.last());
                match log.append(&origin, &batch, id, own) {
                    Ok(()) if batch.durability() == crate::Durability::Durable => {
                        durable.push(Waiting { origin, first, last });
                    }
                    // A volatile batch behind a durable one is as stored as that one.
                    Ok(()) if durable.iter().any(|waiting| waiting.origin == origin) => {
                        durable.push(Waiting { origin, first, last });
                    }
                    Ok(()) => inputs.push(Input::Log(LogAnswer::Stored { origin, last })),
                    Err(error) => inputs.push(not_stored(origin, first, error)),
                }
            }
            LogJob::Read { origin, after, max_bytes, reader } => {
                let found = log.read_after(&origin, after, max_bytes);
                inputs.push(Input::Log(LogAnswer::Read { origin, after, reader, found }));
            }
            LogJob::Keep(evidence) => {
                let origin = evidence.origin();
                if let Err(error) = log.keep(&evidence) {
                    inputs.push(Input::Log(LogAnswer::NotKept { origin, error }));
                }
            }
        }
    }
    if durable.is_empty() {
        return;
    }
    let synced = log.sync();
    for Waiting { origin, first, last } in durable {
        inputs.push(match &synced {
            Ok(()) => Input::Log(LogAnswer::Stored { origin, last }),
            Err(error) => not_stored(origin, first, error.clone()),
        });
    }
}

fn not_stored(origin: Origin, first: Position, error: LogError) -> Input {
    Input::Log(LogAnswer::NotStored { origin, first, error })
}
