//! A `borgios` channel: one JSON request per line, one JSON answer per line.

use std::time::Duration;

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
            let _ = writer.send(answer.to_string()).await;
            return refuse(reader, writer).await;
        }
        // Said at once, so that whoever types `ssh -s host borgios` sees why.
        let refusal = error("not_a_governor", "this key is no governor's of the board in force");
        let _ = writer.send(refusal.to_string()).await;
        return refuse(reader, writer).await;
    }
    loop {
        let line = match tokio::time::timeout(IDLE, reader.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) | Err(_) => {
                writer.finish(0).await;
                return Ended::Done;
            }
            Ok(Err(bad)) => {
                warn!(
                    BORGIOS_EVENT = "refused",
                    BORGIOS_REFUSAL = bad.code(),
                    BORGIOS_FROM = caller.to_string(),
                    "refused a request from {caller}: {bad}"
                );
                let _ = writer.send(error(bad.code(), &bad.to_string()).to_string()).await;
                return refuse(reader, writer).await;
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

/// Ends the channel and lets the other side read why.
async fn refuse(mut reader: FrameReader, writer: FrameWriter) -> Ended {
    writer.finish(1).await;
    let _ = tokio::time::timeout(CLOSE_GRACE, reader.drain()).await;
    Ended::Refused
}
