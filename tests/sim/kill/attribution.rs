//! Whose a machine is, where only the cloud's record of calls says it: the record comes late, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstop::cloud::rehearsal::fleet::MachineSpec;
use backstop::domain::containment::attribution::{Reading, Readings};
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::state::{Containment, Mode, Phase};
use backstop::domain::containment::target::Region;
use backstop::domain::fleet::asset::{AssetRef, Kind};
use backstop::killswitch::{Creators, KillSettings, KillSwitch};
use backstop::ports::{Clock as _, NoticeKind};
use jiff::{SignedDuration, Timestamp};

use super::fleet::{base, owned};
use super::scene::{Scene, agent, targets, why};

const HERE: &str = "eu-west-1";

/// A contained agent, and a kill switch that is told of the record by hand.
struct Told {
    scene: Scene,
    creators: Arc<Creators>,
    switch: KillSwitch,
}

impl Told {
    fn new() -> Self {
        let fleet = base(&[HERE])
            .machine(owned(HERE, "i-1"))
            .machine(MachineSpec::new(HERE, "m7g.large").id("i-made"));
        let scene = Scene::new(fleet, targets(&[HERE]));
        let mut settings = KillSettings::clone(&scene.settings.load());
        settings.rules.attribution_lag = Some(SignedDuration::from_mins(15));
        settings.rules.attribution_patience = SignedDuration::from_mins(30);
        scene.settings.store(Arc::new(settings));
        let creators = Arc::new(Creators::default());
        let switch = scene.switch().with_creators(creators.clone());
        scene.contain(Mode::Contain);
        Self {
            scene,
            creators,
            switch,
        }
    }

    fn now(&self) -> Timestamp {
        self.scene.clock.now()
    }

    /// The record was read up to then, and fails since for a reason.
    fn read(&self, until: Option<Timestamp>, failing: Option<&str>) {
        let reading = Reading {
            until,
            failing: failing.map(|why| (self.now(), why.to_owned())),
        };
        self.creators
            .set(None, Readings::from([(Region(HERE.to_owned()), reading)]));
    }

    fn sweep_for(&self, minutes: u64) -> Containment {
        let id = self.scene.last_now().id;
        for _ in 0..2 * minutes {
            self.scene.run(self.switch.pass(id)).unwrap();
            self.scene.run(self.scene.clock.sleep(Duration::from_secs(30)));
        }
        self.scene.last_now()
    }

    fn said(&self, action: &str) -> usize {
        self.scene.actions().iter().filter(|one| *one == action).count()
    }
}

#[test]
fn c3_contained_is_not_the_last_word_until_the_record_was_read() {
    let told = Told::new();
    told.read(Some(told.now()), None);
    let contained = told.sweep_for(2);
    assert_eq!(contained.phase, Phase::Contained);
    let due = contained.coverage.attribution_pending_until.unwrap();
    let notices = told.scene.notices();
    let proved = notices
        .iter()
        .find(|notice| notice.kind == NoticeKind::Contained)
        .unwrap();
    assert!(proved.text.contains("attribution pending"), "{}", proved.text);
    // The time that it takes passes. That proves nothing: nobody has read what the record says by now.
    let later = told.sweep_for(20);
    assert!(told.now() > due);
    assert_eq!(later.coverage.attribution_pending_until, Some(due));
    assert_eq!(later.coverage.attribution_pending[0].resource, "creators:eu-west-1");
    assert_eq!(told.said("attributed"), 0);
    // It is read: what it says is brought down, and only then nothing more is on its way.
    let made = AssetRef {
        kind: Kind::INSTANCE,
        region: Region(HERE.to_owned()),
        id: "i-made".to_owned(),
    };
    let made = BTreeMap::from([(agent(), BTreeSet::from([made]))]);
    told.creators.set(Some(made), Readings::new());
    told.read(Some(told.now()), None);
    let known = told.sweep_for(3);
    assert_eq!(known.phase, Phase::Contained);
    assert_eq!(known.coverage.attribution_pending_until, None);
    assert_eq!(known.coverage.attribution_pending, []);
    assert_eq!(
        told.scene.cloud.snapshot().machines["eu-west-1/i-made"],
        InstanceState::Stopped
    );
    assert_eq!((told.said("attributed"), told.said("disturbed")), (1, 1));
}

#[test]
fn c3_a_record_that_cannot_be_read_is_said_and_not_waited_for_without_end() {
    let told = Told::new();
    told.read(Some(told.now()), Some("AccessDenied: cloudtrail:LookupEvents"));
    let early = told.sweep_for(40);
    assert_eq!(early.phase, Phase::Contained);
    let pending = &early.coverage.attribution_pending;
    assert!(pending[0].why.contains("AccessDenied"), "{pending:?}");
    let late = told.sweep_for(10);
    assert_eq!(late.coverage.attribution_pending_until, None);
    assert_eq!(late.phase, Phase::Contained, "nothing that is known runs");
    let line = why(&late.coverage, "creators:eu-west-1");
    assert!(line.contains("AccessDenied") && line.contains("is not found"), "{line}");
    let notices = told.scene.notices();
    let is_told = |text: &str| text.contains("creators:eu-west-1");
    let heard = notices
        .iter()
        .filter(|notice| notice.kind == NoticeKind::StillBurning && is_told(&notice.text));
    assert_eq!(heard.count(), 1, "{notices:#?}");
    assert_eq!(told.said("attributed"), 0);
    // It answers again, and the gap is closed.
    told.read(Some(told.now()), None);
    assert_eq!(why(&told.sweep_for(1).coverage, "creators:eu-west-1"), "");
}
