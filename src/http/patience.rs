//! A connection whose other end must take what it is sent.
//!
//! hyper bounds the time for a request's head, and we that for its body. Nothing there bounds how long an
//! answer may lie in the socket: a client that asks and never reads would hold its connection, and the
//! answer with it, for as long as it likes; and so would one that takes a byte now and then. So while there
//! is something for it to take, a client must take so much within each limit.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The least that a client takes in a second of what it is sent, in bytes.
const LEAST_RATE: u64 = 16 * 1024;

pub(super) struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Since a write found no room.
    stuck: Option<Pin<Box<Sleep>>>,
    /// What was taken since then.
    taken: u64,
}

impl<S> Patient<S> {
    /// A write fails that finds too little room within this time.
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            stuck: None,
            taken: 0,
        }
    }

    fn least(&self) -> u64 {
        let millis = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
        (LEAST_RATE.saturating_mul(millis) / 1000).max(1)
    }

    fn caught_up(&mut self) {
        self.stuck = None;
        self.taken = 0;
    }

    fn watch(&mut self, written: Poll<Result<usize>>, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.taken = self.taken.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
                if self.taken >= self.least() {
                    self.caught_up();
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => self.stuck(cx).map(Err),
        }
    }

    /// Ready when it has been stuck for too long.
    fn stuck(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if self.stuck.is_none() {
            self.taken = 0;
        }
        let limit = self.limit;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stuck.as_mut().poll(cx).map(|()| {
            Error::new(
                ErrorKind::TimedOut,
                "the client does not take its answer, or takes too little of it",
            )
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when all that there is has been written, and not before.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.caught_up();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Pending => self.stuck(cx).map(Err),
            shut => shut,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_write_that_nobody_takes_fails() {
        let (ours, theirs) = tokio::io::duplex(16);
        let mut ours = Patient::new(ours, Duration::from_millis(20));
        let failed = ours.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        drop(theirs);
    }

    /// While there is more, it must be so much within the limit.
    #[tokio::test]
    async fn nor_is_a_drop_now_and_then_a_taking() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Patient::new(ours, Duration::from_millis(50));
        let taking = async {
            while theirs.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let all = vec![0; 1 << 20];
        let failed = tokio::select! {
            written = ours.write_all(&all) => written.expect_err("too little was taken"),
            () = taking => panic!("it is not shut"),
        };
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_takes_enough_or_has_caught_up_has_all_the_time_again() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Patient::new(ours, Duration::from_secs(1));
        let mut got = [0; 40];
        let (written, read) = tokio::join!(ours.write_all(&[7; 40]), theirs.read_exact(&mut got));
        assert!(written.is_ok() && read.is_ok());
        assert!(ours.stuck.is_some() && ours.taken < ours.least());
        ours.flush().await.expect("it was written");
        assert!(ours.stuck.is_none(), "a pause that follows is not the client's");
        let mut got = vec![0; 20_000];
        let all = got.clone();
        let (written, read) = tokio::join!(ours.write_all(&all), theirs.read_exact(&mut got));
        assert!(written.is_ok() && read.is_ok());
        assert!(ours.taken < 4_000, "it is counted from new");
    }

    #[tokio::test]
    async fn one_that_is_taken_in_the_end_does_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Patient::new(ours, Duration::from_secs(3600));
        let mut got = [0; 64];
        let (written, read) = tokio::join!(ours.write_all(&[7; 64]), theirs.read_exact(&mut got));
        written.expect("it was taken");
        read.expect("it was sent");
        assert_eq!(got, [7; 64]);
    }
}
