//! The log's side of the core's jobs: a group of them, one sync.

use crate::io::Input;
use crate::jobs::JobId;
use crate::log::{Log, LogAnswer, LogError, LogJob};
use crate::position::Origin;

/// What became of an append that waits for the sync.
struct Waiting {
    job: JobId,
    origin: Origin,
}

/// Does a group of jobs with one sync for all of them, and pushes the answers as inputs.
///
/// The shell's log thread takes every job that waits, calls this, and hands the inputs back: so the
/// more load, the larger the group. `jobs` is empty afterwards and keeps its capacity.
pub fn serve(log: &mut dyn Log, jobs: &mut Vec<LogJob>, inputs: &mut Vec<Input>) {
    let mut durable: Vec<Waiting> = Vec::new();
    for job in jobs.drain(..) {
        match job {
            LogJob::Append { job, origin, batch, id, after, own } => {
                match log.append(&origin, &batch, id, after, own) {
                    Ok(()) if batch.durability() == crate::Durability::Durable => {
                        durable.push(Waiting { job, origin });
                    }
                    // A volatile batch behind a durable one is as stored as that one.
                    Ok(()) if durable.iter().any(|waiting| waiting.origin == origin) => {
                        durable.push(Waiting { job, origin });
                    }
                    Ok(()) => inputs.push(Input::Log(LogAnswer::Stored { job, origin })),
                    Err(error) => inputs.push(not_stored(job, origin, error)),
                }
            }
            LogJob::Read { origin, after, max_bytes, reader } => {
                let found = log.read_after(&origin, after, max_bytes);
                inputs.push(Input::Log(LogAnswer::Read { origin, after, reader, found }));
            }
            LogJob::Forget { origin } => {
                // What is left of it is removed when the log is opened again, at the latest.
                let _ = log.forget(&origin);
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
    for Waiting { job, origin } in durable {
        inputs.push(match &synced {
            Ok(()) => Input::Log(LogAnswer::Stored { job, origin }),
            Err(error) => not_stored(job, origin, error.clone()),
        });
    }
}

fn not_stored(job: JobId, origin: Origin, error: LogError) -> Input {
    Input::Log(LogAnswer::NotStored { job, origin, error })
}
