//! Asking another region when the home region does not answer.
//!
//! Who we are (STS) and which regions there are (`DescribeRegions`) is the same wherever it is asked, so
//! a home region that is down need not keep either from us. The home region is asked first and is
//! believed when it refuses; another is asked when it fails, or says nothing for a while, and the first
//! answer counts. What others refuse means nothing: an account may well be fenced into its own region.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::domain::containment::target::Region;
use crate::ports::{CloudError, Retry};

/// How long a region may say nothing before the next one is asked as well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Regions besides the home region that are asked at most.
const OTHERS: usize = 2;

/// Regions that every account of a partition has, far from each other.
const COMMERCIAL: &[&str] = &["us-east-1", "eu-west-1", "us-west-2"];
const CHINA: &[&str] = &["cn-north-1", "cn-northwest-1"];
const GOVERNMENT: &[&str] = &["us-gov-west-1", "us-gov-east-1"];

/// The home region, and those to ask in its place, in order. Of a partition that is not known here only
/// the home region is.
pub(super) fn candidates(home: &Region) -> Vec<Region> {
    let all = match home.0.split('-').collect::<Vec<_>>().as_slice() {
        ["cn", ..] => CHINA,
        ["us", "gov", ..] => GOVERNMENT,
        // us-iso, us-isob, eu-isoe: closed worlds; and their like.
        [_, name, _, ..] if name.starts_with("iso") => &[],
        ["eusc", ..] => &[],
        _ => COMMERCIAL,
    };
    let others = all.iter().filter(|name| **name != home.0).take(OTHERS);
    let others = others.map(|name| Region((*name).to_owned()));
    std::iter::once(home.clone()).chain(others).collect()
}

/// Asks the first of `regions`, and the others as it takes too long.
pub(super) async fn first_answer<T, F>(regions: Vec<Region>, ask: impl Fn(Region) -> F) -> Result<T, CloudError>
where
    F: Future<Output = Result<T, CloudError>>,
{
    race(regions, || tokio::time::sleep(PATIENCE), ask).await
}

async fn race<T, S, F>(
    regions: Vec<Region>,
    patience: impl Fn() -> S,
    ask: impl Fn(Region) -> F,
) -> Result<T, CloudError>
where
    S: Future<Output = ()>,
    F: Future<Output = Result<T, CloudError>>,
{
    let mut waiting = regions.into_iter().enumerate();
    let mut asked = FuturesUnordered::new();
    let mut home_error = None;
    loop {
        if let Some((place, region)) = waiting.next() {
            let answer = ask(region);
            asked.push(async move { (place, answer.await) });
        }
        let mut over = pin!(patience());
        // Until an answer, or until it is the next one's turn.
        loop {
            let answered = tokio::select! {
                biased;
                answered = asked.next() => answered,
                () = &mut over, if waiting.len() > 0 => break,
            };
            match answered {
                Some((_, Ok(answer))) => return Ok(answer),
                Some((0, Err(error))) if error.retry == Retry::Never => return Err(error),
                Some((place, Err(error))) => {
                    tracing::debug!(%error, "asked elsewhere");
                    if place == 0 || home_error.is_none() {
                        home_error = Some(error);
                    }
                }
                None => {}
            }
            if waiting.len() > 0 {
                break;
            }
            if asked.is_empty() {
                // The home region was asked first, so there is an error to tell.
                return Err(home_error.unwrap_or_else(nobody));
            }
        }
    }
}

fn nobody() -> CloudError {
    CloudError {
        operation: "the call",
        region: None,
        code: None,
        message: "there is no region to ask".to_owned(),
        retry: Retry::Transient,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn names(home: &str) -> Vec<String> {
        let regions = candidates(&Region(home.to_owned()));
        regions.into_iter().map(|region| region.0).collect()
    }

    fn failed(region: &Region, retry: Retry) -> CloudError {
        CloudError {
            region: Some(region.clone()),
            retry,
            ..nobody()
        }
    }

    /// Asks from Frankfurt; each region answers when its turn has come so many times, or never. What came
    /// of it, and which were asked. `patient` waits for an answer, whoever else could be asked.
    async fn asked(
        patient: bool,
        answers: &[(&str, u32, Result<(), Retry>)],
    ) -> (Result<String, CloudError>, Vec<String>) {
        let log = Mutex::new(Vec::new());
        let patience = || async move {
            if patient {
                std::future::pending::<()>().await;
            }
        };
        let answer = race(candidates(&Region("eu-central-1".to_owned())), patience, |region| {
            log.lock().unwrap().push(region.0.clone());
            let answer = answers.iter().find(|(name, _, _)| *name == region.0).copied();
            async move {
                let Some((_, turns, answer)) = answer else {
                    return std::future::pending().await;
                };
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                answer
                    .map(|()| region.0.clone())
                    .map_err(|retry| failed(&region, retry))
            }
        });
        let answer = answer.await;
        (answer, log.into_inner().unwrap())
    }

    #[test]
    fn others_are_of_the_same_partition() {
        assert_eq!(names("eu-central-1"), ["eu-central-1", "us-east-1", "eu-west-1"]);
        assert_eq!(names("us-east-1"), ["us-east-1", "eu-west-1", "us-west-2"]);
        assert_eq!(names("cn-north-1"), ["cn-north-1", "cn-northwest-1"]);
        assert_eq!(names("us-gov-east-1"), ["us-gov-east-1", "us-gov-west-1"]);
        assert_eq!(names("us-iso-east-1"), ["us-iso-east-1"]);
        assert_eq!(names("us-isob-east-1"), ["us-isob-east-1"]);
        assert_eq!(names("eusc-de-east-1"), ["eusc-de-east-1"]);
        assert_eq!(names(""), ["", "us-east-1", "eu-west-1"]);
    }

    #[tokio::test]
    async fn the_home_region_alone_is_asked_while_it_answers() {
        let (answer, log) = asked(true, &[("eu-central-1", 1, Ok(()))]).await;
        assert_eq!((answer.unwrap().as_str(), log.len()), ("eu-central-1", 1));
    }

    #[tokio::test]
    async fn another_answers_for_one_that_fails_or_hangs() {
        let down = Err(Retry::Transient);
        let (answer, log) = asked(true, &[("eu-central-1", 0, down), ("us-east-1", 1, Ok(()))]).await;
        assert_eq!((answer.unwrap().as_str(), log.len()), ("us-east-1", 2));
        let (answer, log) = asked(false, &[("us-east-1", 0, down), ("eu-west-1", 0, Ok(()))]).await;
        assert_eq!((answer.unwrap().as_str(), log.len()), ("eu-west-1", 3));
        // Slow is not down: the first answer counts, whoever gives it.
        let (answer, _) = asked(false, &[("eu-central-1", 9, Ok(())), ("us-east-1", 30, Ok(()))]).await;
        assert_eq!(answer.unwrap(), "eu-central-1");
    }

    #[tokio::test]
    async fn the_home_region_is_believed_when_it_refuses_and_others_are_not() {
        let no = Err(Retry::Never);
        let (answer, log) = asked(true, &[("eu-central-1", 0, no)]).await;
        assert_eq!((answer.unwrap_err().retry, log.len()), (Retry::Never, 1));
        let (answer, _) = asked(
            false,
            &[("eu-central-1", 5, Ok(())), ("us-east-1", 0, no), ("eu-west-1", 0, no)],
        )
        .await;
        assert_eq!(answer.unwrap(), "eu-central-1");
    }

    #[tokio::test]
    async fn when_nobody_answers_the_home_regions_error_is_told() {
        let down = Err(Retry::Transient);
        let (answer, log) = asked(
            false,
            &[
                ("eu-central-1", 5, down),
                ("us-east-1", 0, Err(Retry::Never)),
                ("eu-west-1", 0, down),
            ],
        )
        .await;
        let error = answer.unwrap_err();
        assert_eq!(error.region, Some(Region("eu-central-1".to_owned())));
        assert_eq!(log.len(), 3);
    }
}
