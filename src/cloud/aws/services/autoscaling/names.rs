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

    /// The ARNs of these profiles, as far as IAM tells them.
    pub(super) async fn arns(&self, place: &Place, names: BTreeSet<&str>) -> BTreeMap<String, String> {
        let (mut arns, new) = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let (old, new): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| known.contains_key(*name));
            let old = old.into_iter().filter_map(|name| known.get_key_value(name));
            let old: BTreeMap<_, _> = old.map(|(name, arn)| (name.clone(), arn.clone())).collect();
            (old, new)
        };
        let asked: Vec<_> = new.into_iter().map(|name| self.arn(place, name)).collect();
        let learnt: Vec<_> = stream::iter(asked).buffer_unordered(place.parallel).collect().await;
        let learnt: BTreeMap<String, String> = learnt.into_iter().flatten().collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + learnt.len() > REMEMBERED {
            known.clear();
        }
        known.extend(learnt.clone());
        arns.extend(learnt);
        arns
    }

    async fn arn(&self, place: &Place, name: &str) -> Option<(String, String)> {
        let call = Call::read("iam:GetInstanceProfile");
        let _permit = place.look().await;
        let answer = self
            .client
            .get_instance_profile()
            .instance_profile_name(name)
            .send()
            .await;
        match answer {
            Ok(answer) => Some((name.to_owned(), answer.instance_profile?.arn)),
            Err(error) => {
                let error = call.failed(error);
                tracing::warn!(profile = name, %error, "the path of an instance profile is unknown");
                None
            }
        }
    }
}
