//! A `borgios` channel: one JSON request per line, one JSON answer per line.

use std::time::Duration;

use crate::api::{Api, Caller, error};
use crate::channel::{FrameReader, FrameWriter};

/// Longest wait between two requests.
const IDLE: Duration = Duration::from_secs(300);

/// Answers requests until the caller is done.
pub async fn run(api: Api, caller: Caller, mut reader: FrameReader, writer: FrameWriter) {
    if !api.may_ask(&caller).await {
        // Said at once, so that whoever types `ssh -s host borgios` sees why.
        let refusal = error("not_a_governor", "this key is no governor's of the board in force");
        let _ = writer.send(refusal.to_string()).await;
        return writer.finish(1).await;
    }
    loop {
        let line = match tokio::time::timeout(IDLE, reader.next()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) | Err(_) => return writer.finish(0).await,
            Ok(Err(bad)) => {
                let _ = writer.send(error("too_large", &bad.to_string()).to_string()).await;
                return writer.finish(1).await;
            }
        };
        let answer = api.request(&caller, &line).await;
        if writer.send(answer.to_string()).await.is_err() {
            return;
        }
    }
}
