//! Notices into the log and the metrics.

use metrics::counter;

use crate::ports::{Notice, NoticeKind, Notifier};

/// Writes each notice as one log line, warnings for what needs a person, and counts it by kind.
#[derive(Debug, Default)]
pub struct LogNotifier;

impl Notifier for LogNotifier {
    fn notify(&self, notice: Notice) {
        let kind = name(notice.kind);
        counter!("backstop_notices_total", "kind" => kind).increment(1);
        let agent = notice.agent.as_ref().map_or("-", |agent| agent.as_str());
        match notice.kind {
            NoticeKind::Resumed | NoticeKind::Restoring | NoticeKind::Reset => {
                tracing::info!(notice = kind, agent, "{}", notice.text);
            }
            NoticeKind::Alert
            | NoticeKind::Breach
            | NoticeKind::Paused
            | NoticeKind::Containing
            | NoticeKind::Contained
            | NoticeKind::StillBurning
            | NoticeKind::Review
            | NoticeKind::StoreDown
            | NoticeKind::ClockJump => tracing::warn!(notice = kind, agent, "{}", notice.text),
        }
    }
}

fn name(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Alert => "alert",
        NoticeKind::Breach => "breach",
        NoticeKind::Paused => "paused",
        NoticeKind::Resumed => "resumed",
        NoticeKind::Containing => "containing",
        NoticeKind::Contained => "contained",
        NoticeKind::StillBurning => "still_burning",
        NoticeKind::Restoring => "restoring",
        NoticeKind::Reset => "reset",
        NoticeKind::Review => "review",
        NoticeKind::StoreDown => "store_down",
        NoticeKind::ClockJump => "clock_jump",
    }
}
