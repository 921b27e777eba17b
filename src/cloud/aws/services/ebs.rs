//! EBS volumes: charged for by their size, whoever runs or does not.
//!
//! Only deletion ends a volume's cost, and with it what is on it; so the kill switch never does. Beyond
//! its size a volume is charged for provisioned operations (io1, io2; gp3 above 3,000) and throughput
//! (gp3 above 125 MiB/s): EBS pricing, read 2026-11-20.

use std::borrow::Cow;

use async_trait::async_trait;
use aws_sdk_ec2::types::{Volume, VolumeState};

use super::{Offered, Place, Service, pages, tags, thousandths, timestamp};
use crate::domain::fleet::asset::{Asset, Brake, Kind};
use crate::domain::fleet::rate::Meter;
use crate::ports::CloudError;

const VOLUME: Kind = Kind::named("volume");

const HOW: &str = "delete it once nobody needs what is on it; a snapshot keeps that for less";

/// What a gp3 volume has without a charge.
const GP3_FREE_IOPS: u64 = 3_000;
const GP3_FREE_THROUGHPUT: u64 = 125;

#[derive(Debug)]
pub(super) struct Volumes {
    place: Place,
}

impl Offered for Volumes {
    const KINDS: &'static [Kind] = &[VOLUME];

    fn new(place: Place) -> Self {
        Self { place }
    }
}

#[async_trait]
impl Service for Volumes {
    async fn list(&self, _kind: &Kind) -> Result<Vec<Asset>, CloudError> {
        let call = self.place.read("ec2:DescribeVolumes");
        // EC2 gives no more than 1,000 and no fewer than 5 in a page.
        let size = self.place.page(1_000).max(5);
        let volumes = pages(&call, |token| async {
            let _permit = self.place.look().await;
            let request = self.place.ec2.looks().describe_volumes().max_results(size);
            let page = request.set_next_token(token).send().await;
            let page = page.map_err(|e| call.failed(e))?;
            Ok((page.volumes.unwrap_or_default(), page.next_token))
        });
        let volumes = volumes.await?.into_iter();
        Ok(volumes.filter_map(|volume| asset(&self.place, volume)).collect())
    }
}

/// `None` for one that is gone.
fn asset(place: &Place, volume: Volume) -> Option<Asset> {
    if matches!(volume.state, Some(VolumeState::Deleted | VolumeState::Deleting)) {
        return None;
    }
    let meters = meters(&volume);
    // One that is attached to several goes by the first.
    let attachments = volume.attachments.unwrap_or_default();
    let holder = attachments.into_iter().find_map(|one| one.instance_id);
    Some(Asset {
        what: place.asset(&VOLUME, volume.volume_id?),
        service: Cow::Borrowed("AmazonEC2"),
        tags: tags(
            volume
                .tags
                .unwrap_or_default()
                .into_iter()
                .map(|tag| (tag.key, tag.value)),
        ),
        acts_as: Vec::new(),
        unread: None,
        parent: holder.map(|id| place.asset(&Kind::INSTANCE, id)),
        created_at: timestamp(volume.create_time),
        meters,
        brake: Brake::Deletion { how: HOW.into() },
    })
}

fn meters(volume: &Volume) -> Vec<Meter> {
    let count = |value: Option<i32>| u64::try_from(value.unwrap_or(0)).unwrap_or(0);
    // gp2 is what EC2 takes where nothing is said.
    let kind = volume.volume_type.as_ref().map_or("gp2", |kind| kind.as_str());
    let mut meters = vec![Meter::of(format!("ebs/{kind}"), thousandths(count(volume.size), 1))];
    let free = match kind {
        "io1" | "io2" => Some(0),
        "gp3" => Some(GP3_FREE_IOPS),
        // Those of the other kinds come with their size.
        _ => None,
    };
    let beyond = [
        ("ebs-iops", count(volume.iops), free),
        (
            "ebs-throughput",
            count(volume.throughput),
            (kind == "gp3").then_some(GP3_FREE_THROUGHPUT),
        ),
    ];
    for (rate, has, free) in beyond {
        let charged = free.map_or(0, |free| has.saturating_sub(free));
        if charged > 0 {
            meters.push(Meter::of(format!("{rate}/{kind}"), thousandths(charged, 1)));
        }
    }
    meters
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::VolumeType;

    use super::*;

    #[test]
    fn a_volume_is_charged_for_its_size_and_what_it_is_given_beyond() {
        let of = |kind: VolumeType, size: i32, iops: i32, throughput: i32| {
            let volume = Volume::builder().volume_type(kind).size(size).iops(iops);
            let meters = meters(&volume.throughput(throughput).build());
            let told: Vec<String> = meters.iter().map(|m| format!("{} {}", m.rate, m.thousandths)).collect();
            told.join(", ")
        };
        assert_eq!(of(VolumeType::Gp3, 8, 3_000, 125), "ebs/gp3 8000");
        assert_eq!(
            of(VolumeType::Gp3, 500, 16_000, 1_000),
            "ebs/gp3 500000, ebs-iops/gp3 13000000, ebs-throughput/gp3 875000"
        );
        assert_eq!(of(VolumeType::Gp2, 100, 300, 0), "ebs/gp2 100000");
        assert_eq!(of(VolumeType::Io2, 4, 100, 0), "ebs/io2 4000, ebs-iops/io2 100000");
        assert_eq!(of("gp9".into(), 1, 9_000, 900), "ebs/gp9 1000");
    }
}
