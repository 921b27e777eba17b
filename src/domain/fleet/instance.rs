//! A machine as an asset: what the fleet's accounts need of an [`Instance`].
//!
//! Machines have calls of their own at the port (they are stopped in batches, and protected or spot ones
//! need care), so they are seen as [`Instance`]s. For owners and prices they are assets like any other.
//! The conversion adds nothing that the instance does not say: what it costs beside its own hours (its
//! volumes, its address) is listed as assets of their own, with the machine as their parent.
//!
//! What plain Linux on shared hardware costs, costs `ec2/TYPE`. Anything else (Windows, a distribution or a database
//! with a licence, hardware of one's own) costs more, and is `ec2-os/OPERATION/TENANCY/TYPE`: the operation is what AWS
//! names on its bills what a machine runs, such as `RunInstances:0002` (EC2 User Guide, "AMI billing information
//! fields", read 2026-11-20). It never has the price of plain Linux.

use std::borrow::Cow;

use super::asset::{Asset, AssetRef, Brake, Kind};
use super::rate::{Meter, RateKey};
use crate::domain::containment::observed::Instance;

/// The kind of what starts machines and replaces those that are stopped.
pub const GROUP: Kind = Kind::named("group");

/// As AWS's bills name what machines cost.
const SERVICE: &str = "AmazonEC2";

impl Instance {
    /// Its name among all assets.
    pub fn asset_ref(&self) -> AssetRef {
        AssetRef {
            kind: Kind::INSTANCE,
            region: self.region.clone(),
            id: self.id.clone(),
        }
    }

    /// What it costs on demand.
    pub fn on_demand(&self) -> RateKey {
        self.rate("ec2", "ec2-os")
    }

    fn rate(&self, plain: &str, other: &str) -> RateKey {
        let kind = &self.instance_type;
        RateKey(match &self.sold_as {
            None => format!("{plain}/{kind}"),
            Some(sold_as) => format!("{other}/{sold_as}/{kind}"),
        })
    }

    /// The same machine as an asset.
    ///
    /// One that starts or runs is charged for, at the price of its kind of request; one that is stopping,
    /// stopped or gone is not (EC2 User Guide, "Instance lifecycle", read 2026-11-20), while its volumes are.
    pub fn to_asset(&self) -> Asset {
        let rate = match self.spot {
            Some(_) => self.rate("ec2-spot", "ec2-spot-os"),
            None => self.on_demand(),
        };
        let meters = if self.state.is_chargeable() {
            vec![Meter::one(rate.0)]
        } else {
            Vec::new()
        };
        Asset {
            what: self.asset_ref(),
            service: Cow::Borrowed(SERVICE),
            tags: self.tags.clone(),
            acts_as: self.profile_arn.iter().cloned().collect(),
            unread: None,
            parent: self.started_by(),
            created_at: self.launched_at,
            meters,
            brake: Brake::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::containment::observed::{InstanceState, SpotKind};
    use crate::domain::containment::target::Region;

    fn instance(state: InstanceState) -> Instance {
        Instance {
            region: Region("eu-west-1".to_owned()),
            id: "i-0abc".to_owned(),
            state,
            instance_type: "m8g.12xlarge".to_owned(),
            tags: BTreeMap::from([("backstop:agent".to_owned(), "a".to_owned())]),
            profile_arn: Some("arn:aws:iam::123456789012:instance-profile/agents/a".to_owned()),
            launched_at: None,
            spot: None,
            root_is_instance_store: false,
            stop_protected: None,
            group: None,
            request: None,
            sold_as: None,
        }
    }

    #[test]
    fn only_what_starts_or_runs_is_charged_for() {
        let charged = |state| !instance(state).to_asset().meters.is_empty();
        for state in [InstanceState::Pending, InstanceState::Running] {
            assert!(charged(state), "{state:?}");
        }
        for state in [
            InstanceState::Stopping,
            InstanceState::Stopped,
            InstanceState::ShuttingDown,
            InstanceState::Terminated,
        ] {
            assert!(!charged(state), "{state:?}");
        }
    }

    #[test]
    fn it_keeps_its_name_its_hands_and_its_group() {
        let mut seen = instance(InstanceState::Running);
        let asset = seen.to_asset();
        assert_eq!(asset.what.to_string(), "instance:eu-west-1/i-0abc");
        assert_eq!(asset.meters, [Meter::one("ec2/m8g.12xlarge")]);
        assert_eq!(asset.acts_as, ["arn:aws:iam::123456789012:instance-profile/agents/a"]);
        assert_eq!((asset.parent, asset.brake), (None, Brake::Stop));
        assert_eq!(asset.tags["backstop:agent"], "a");

        seen.sold_as = Some("RunInstances:0002/shared".to_owned());
        assert_eq!(
            seen.to_asset().meters,
            [Meter::one("ec2-os/RunInstances:0002/shared/m8g.12xlarge")]
        );
        seen.sold_as = None;
        seen.request = Some(AssetRef {
            kind: Kind::named("fleet"),
            region: seen.region.clone(),
            id: "fleet-1".to_owned(),
        });
        assert_eq!(
            seen.to_asset().parent.map(|parent| parent.to_string()).as_deref(),
            Some("fleet:eu-west-1/fleet-1")
        );
        seen.spot = Some(SpotKind::OneTime);
        seen.group = Some("workers".to_owned());
        let asset = seen.to_asset();
        assert_eq!(asset.meters, [Meter::one("ec2-spot/m8g.12xlarge")]);
        assert_eq!(
            asset.parent.map(|parent| parent.to_string()).as_deref(),
            Some("group:eu-west-1/workers")
        );
    }
}
