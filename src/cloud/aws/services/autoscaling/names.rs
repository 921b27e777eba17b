//! Instance profiles that are given by their name alone.
//!
//! A name is unique in its account, and its ARN has a path that only IAM knows. It is asked for once; a
//! profile that is made anew under the same name is the same to a launch template, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use aws_sdk_iam::Client;
use futures_util::{StreamExt as _, stream};

use crate::cloud::aws::error::Call;
use crate::cloud::aws::services::Place;
use crate::ports::CloudError;

/// Names that are remembered; beyond that the memory starts anew.
const REMEMBERED: usize = 10_000;

#[derive(Debug)]
pub(super) struct Names {
    client: Client,
    known: Mutex<BTreeMap<String, String>>,
}

impl Names {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            client: Client::new(&place.sdk),
            known: Mutex::default(),
        }
    }

    /// The ARNs of these profiles, as far as IAM tells them; of one that is not there it is nothing, of one that
    /// could not be asked for why.
    pub(super) async fn arns(
        &self,
        place: &Place,
        names: BTreeSet<&str>,
    ) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let (mut arns, new) = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let (old, new): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| known.contains_key(*name));
            let old = old.into_iter().filter_map(|name| known.get_key_value(name));
            let old: BTreeMap<_, _> = old.map(|(name, arn)| (name.clone(), arn.clone())).collect();
            (old, new)
        };
        let asked: Vec<_> = new.into_iter().map(|name| self.arn(place, name)).collect();
        let learnt: Vec<_> = stream::iter(asked).buffer_unordered(place.parallel).collect().await;
        let mut unread = BTreeMap::new();
        let mut found = BTreeMap::new();
        for (name, answer) in learnt {
            match answer {
                Ok(arn) => found.extend(arn.map(|arn| (name, arn))),
                Err(error) => {
                    tracing::warn!(profile = name, %error, "the path of an instance profile is unknown");
                    unread.insert(name, error.to_string());
                }
            }
        }
        let learnt = found;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + learnt.len() > REMEMBERED {
            known.clear();
        }
        known.extend(learnt.clone());
        arns.extend(learnt);
        (arns, unread)
    }

    async fn arn(&self, place: &Place, name: &str) -> (String, Result<Option<String>, CloudError>) {
        let call = Call::read("iam:GetInstanceProfile");
        let _permit = place.look().await;
        let answer = self
            .client
            .get_instance_profile()
            .instance_profile_name(name)
            .send()
            .await;
        let arn = match answer.map_err(|e| call.failed(e)) {
            Ok(answer) => Ok(answer.instance_profile.map(|profile| profile.arn)),
            // Nothing can be launched with it.
            Err(error) if error.code.as_deref() == Some("NoSuchEntity") => Ok(None),
            Err(error) => Err(error),
        };
        (name.to_owned(), arn)
    }
}
