//! One call to the cloud: a time limit, and retries by the error's class.
//!
//! A call that may have happened is never repeated here. It is left to the next observation, which
//! sees what became of it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::domain::containment::target::Region;
use crate::ports::{Clock, CloudError, Entropy, Retry};

/// The first wait before a repetition; it doubles, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// For a person.
    pub why: String,
    /// The cloud's own code, if it answered with one.
    pub code: Option<String>,
    pub kind: FailureKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// Refused: a repetition is refused as well, until somebody changes something.
    Refused,
    /// It did not happen, and may work later.
    NotNow,
    /// It may have happened.
    Unknown,
}

/// Time and randomness for calls, and how long they may take.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub clock: &'a dyn Clock,
    pub entropy: &'a dyn Entropy,
    /// One attempt.
    pub limit: Duration,
    /// No attempt begins after this (monotonic).
    pub until: Duration,
}

impl Caller<'_> {
    /// Makes a call until it succeeds, is refused, may have happened, or the time is over.
    pub async fn reach<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, CloudError>> + Send,
    {
        let mut wait = FIRST_WAIT;
        loop {
            let error = match self.once(call()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let why = describe(&error);
            let pause = match error.retry {
                Retry::Never => {
                    return Err(Failure {
                        why,
                        code: error.code,
                        kind: FailureKind::Refused,
                    });
                }
                Retry::UnknownOutcome => {
                    return Err(Failure {
                        why,
                        code: error.code,
                        kind: FailureKind::Unknown,
                    });
                }
                Retry::Transient => self.jittered(wait),
                // "At once" is no pause: a call that is refused again and again would never rest.
                Retry::After(pause) => pause.max(wait),
            };
            if self.clock.monotonic().saturating_add(pause) >= self.until {
                return Err(Failure {
                    why,
                    code: error.code,
                    kind: FailureKind::NotNow,
                });
            }
            self.clock.sleep(pause).await;
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
    }

    async fn once<T>(&self, call: impl Future<Output = Result<T, CloudError>> + Send) -> Result<T, CloudError> {
        match select(pin!(call), self.clock.sleep(self.limit)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(CloudError {
                operation: "the call",
                region: None::<Region>,
                code: None,
                message: format!("no answer within {} s", self.limit.as_secs()),
                retry: Retry::UnknownOutcome,
                source: None,
            }),
        }
    }

    /// Half to all of a wait, so that many callers do not come back at once.
    fn jittered(&self, wait: Duration) -> Duration {
        let mut random = [0_u8; 1];
        self.entropy.fill(&mut random);
        wait / 2 + wait.mul_f64(f64::from(random[0]) / 512.0)
    }
}

fn describe(error: &CloudError) -> String {
    match &error.code {
        Some(code) => format!("{error} ({code})"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use futures_util::FutureExt as _;
    use jiff::Timestamp;

    use super::*;

    /// Time that passes only by sleeping.
    struct Sleeper(Mutex<Duration>);

    #[async_trait]
    impl Clock for Sleeper {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        async fn sleep(&self, duration: Duration) {
            *self.0.lock().unwrap() += duration;
        }
    }

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    fn run(retries: Vec<Retry>, until: u64) -> (Result<(), Failure>, usize, Duration) {
        let clock = Sleeper(Mutex::new(Duration::ZERO));
        let caller = Caller {
            clock: &clock,
            entropy: &Zeros,
            limit: Duration::from_secs(10),
            until: Duration::from_secs(until),
        };
        let mut answers = retries.into_iter();
        let mut made = 0;
        let result = caller
            .reach(|| {
                made += 1;
                let answer = answers.next();
                async move {
                    match answer {
                        None => Ok(()),
                        Some(retry) => Err(CloudError {
                            operation: "ec2:StopInstances",
                            region: None,
                            code: Some("Code".to_owned()),
                            message: "text".to_owned(),
                            retry,
                            source: None,
                        }),
                    }
                }
            })
            .now_or_never()
            .unwrap();
        (result, made, clock.monotonic())
    }

    #[test]
    fn retries_follow_the_class_of_the_error() {
        let kind = |retries: Vec<Retry>| run(retries, 10).0.map_err(|failure| failure.kind);
        assert_eq!(kind(vec![]), Ok(()));
        assert_eq!(kind(vec![Retry::Transient; 3]), Ok(()));
        assert_eq!(kind(vec![Retry::Never]), Err(FailureKind::Refused));
        assert_eq!(kind(vec![Retry::UnknownOutcome]), Err(FailureKind::Unknown));
        assert_eq!(kind(vec![Retry::Transient; 100]), Err(FailureKind::NotNow));
        let (result, made, time) = run(vec![Retry::After(Duration::from_secs(3)); 2], 10);
        assert_eq!((result, made, time), (Ok(()), 3, Duration::from_secs(6)));
        let (result, made, _) = run(vec![Retry::After(Duration::from_secs(30))], 10);
        assert_eq!((result.unwrap_err().kind, made), (FailureKind::NotNow, 1));
        let (result, made, time) = run(vec![Retry::After(Duration::ZERO); 10_000], 10);
        assert_eq!(result.unwrap_err().kind, FailureKind::NotNow);
        assert!(made < 20 && time > Duration::from_secs(5), "{made} in {time:?}");
    }

    #[test]
    fn a_call_that_never_answers_has_an_unknown_outcome() {
        let clock = Sleeper(Mutex::new(Duration::ZERO));
        let caller = Caller {
            clock: &clock,
            entropy: &Zeros,
            limit: Duration::from_secs(10),
            until: Duration::from_secs(20),
        };
        let result = caller
            .reach(std::future::pending::<Result<(), CloudError>>)
            .now_or_never();
        let failure = result.unwrap().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unknown);
        assert!(failure.why.contains("no answer within 10 s"));
    }
}
