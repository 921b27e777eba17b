//! Clusters: which of them are worth a look.
//!
//! An account may have thousands of clusters with nothing in them, one for each branch that was ever tried.
//! ECS counts what is in a cluster, for a hundred of them in one call, so the empty ones are passed over.
//!
//! What must never happen here: a cluster that is passed over and is not empty. The counts are of what runs or
//! is on its way there, and not of what is ending; so a cluster in which the last look found something is
//! looked at again whatever they say, and at first all are. Where the counts cannot be had all are, too.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use aws_sdk_ecs::types::Cluster;

use super::{Ecs, TASK};
use crate::cloud::aws::services::pages;
use crate::domain::fleet::asset::{Asset, Kind};
use crate::ports::CloudError;

/// ECS describes so many clusters in one call.
const CLUSTERS: usize = 100;

impl Ecs {
    /// The ARNs of the clusters that may have something of a kind.
    pub(super) async fn clusters_to_look_at(&self, kind: &Kind) -> Result<Vec<String>, CloudError> {
        let clusters = self.clusters().await?;
        let known = self
            .in_use
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(kind)
            .cloned();
        let Some(in_use) = known else { return Ok(clusters) };
        let doubtful: Vec<String> = clusters.iter().filter(|arn| !in_use.contains(*arn)).cloned().collect();
        let counts = doubtful.chunks(CLUSTERS).map(|some| self.counted(some.to_vec()));
        let empty: BTreeSet<String> = match self.some_at_once(counts).await {
            Ok(counted) => {
                let counted = counted.into_iter().flatten();
                let empty = counted.filter(|cluster| is_empty(cluster, kind));
                empty.filter_map(|cluster| cluster.cluster_arn).collect()
            }
            Err(error) => {
                tracing::warn!(
                    region = %self.place.region, %error,
                    "which clusters are empty is unknown, so all are looked at; allow ecs:DescribeClusters"
                );
                BTreeSet::new()
            }
        };
        Ok(clusters.into_iter().filter(|arn| !empty.contains(arn)).collect())
    }

    /// Notes where a whole look found something.
    pub(super) fn note_in_use(&self, kind: &Kind, lists: &[(String, Vec<Asset>)]) {
        let used = lists.iter().filter(|(_, found)| !found.is_empty());
        let used = used.map(|(cluster, _)| cluster.clone()).collect();
        let mut known = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(kind.clone(), used);
    }

    /// The clusters' ARNs.
    async fn clusters(&self) -> Result<Vec<String>, CloudError> {
        let call = self.place.read("ecs:ListClusters");
        let size = self.place.page(100);
        let clusters = pages(&call, |token| async {
            let _permit = self.place.look().await;
            let request = self.looks.list_clusters().max_results(size);
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.cluster_arns.unwrap_or_default(), page.next_token))
        });
        clusters.await
    }

    async fn counted(&self, clusters: Vec<String>) -> Result<Vec<Cluster>, CloudError> {
        let call = self.place.read("ecs:DescribeClusters");
        let _permit = self.place.look().await;
        let request = self.looks.describe_clusters().set_clusters(Some(clusters));
        let answer = request.send().await.map_err(|e| call.failed(e))?;
        // Of one that is not told of nothing is known.
        Ok(answer.clusters.unwrap_or_default())
    }
}

fn is_empty(cluster: &Cluster, kind: &Kind) -> bool {
    let tasks = cluster.running_tasks_count == 0 && cluster.pending_tasks_count == 0;
    // A service without tasks may start some; tasks without a service run on their own.
    cluster.active_services_count == 0 && (*kind != TASK || tasks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::aws::services::ecs::SERVICE;

    #[test]
    fn only_what_has_nothing_is_empty() {
        let of = |services: i32, running: i32, pending: i32| {
            let cluster = Cluster::builder().active_services_count(services);
            let cluster = cluster
                .running_tasks_count(running)
                .pending_tasks_count(pending)
                .build();
            (is_empty(&cluster, &SERVICE), is_empty(&cluster, &TASK))
        };
        assert_eq!(of(0, 0, 0), (true, true));
        assert_eq!(of(1, 0, 0), (false, false));
        assert_eq!(of(0, 1, 0), (true, false));
        assert_eq!(of(0, 0, 1), (true, false));
    }
}
