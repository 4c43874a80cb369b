//! A `borgios` channel: one JSON request per line, one JSON answer per line.

use std::time::Duration;

use serde_json::Value;
use tracing::warn;

use crate::api::{Api, Caller, error};
use crate::channel::{FrameReader, FrameWriter};

/// Longest wait between two requests.
const IDLE: Duration = Duration::from_secs(300);
/// Longest wait for a refused caller to read why and close.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The caller was done; its connection may serve for more.
    Done,
    /// It has no business here: nothing more of it is wanted.
    Refused,
}

/// Answers requests until the caller is done.
pub async fn run(api: Api, caller: Caller, mut reader: FrameReader, writer: FrameWriter) -> Ended {
    if !api.may_ask(&caller).await {
        // A board that is gone sends nobody; what a recovery key signed may come from anyone.
        if api.may_be_recovered().await
            && let Ok(Ok(Some(line))) = tokio::time::timeout(CLOSE_GRACE, reader.next()).await
            && let Some(answer) = api.recover(&caller, &line).await
        {
            return refuse(&answer, reader, writer).await;
        }
        // Said at once, so that whoever types `ssh -s host borgios` sees why.
        let refusal = error("not_a_governor", "this key is no governor's of the board in force");
        return refuse(&refusal, reader, writer).await;
    }
    loop {
        let line = match tokio::time::timeout(IDLE, reader.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) | Err(_) => {
                let finished = tokio::time::timeout(CLOSE_GRACE, writer.finish(0)).await;
                return if finished.is_ok() { Ended::Done } else { Ended::Refused };
            }
            Ok(Err(bad)) => {
                warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = bad.code(),
                    BORGIOS_FROM = caller.to_string(),
                    "refused a request from {caller}: {bad}"
                );
                return refuse(&error(bad.code(), &bad.to_string()), reader, writer).await;
            }
        };
        let answer = api.request(&caller, &line).await.to_string();
        drop(line);
        match tokio::time::timeout(IDLE, writer.send(answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ended::Done,
            // Who asks and does not read keeps answers here for as long as that.
            Err(_) => return Ended::Refused,
        }
    }
}

/// Says the last word, ends the channel and lets the other side read why. Who does not read it keeps
/// nothing here for longer than that.
async fn refuse(last: &Value, mut reader: FrameReader, writer: FrameWriter) -> Ended {
    let farewell = async {
        let _ = writer.send(last.to_string()).await;
        writer.finish(1).await;
        reader.drain().await;
    };
    let _ = tokio::time::timeout(CLOSE_GRACE, farewell).await;
    Ended::Refused
}
