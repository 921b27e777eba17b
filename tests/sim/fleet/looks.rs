//! Looks that fail, and records that are too long to be read at once.

use std::time::Duration;

use backstop::cloud::rehearsal::Verb;
use backstop::cloud::rehearsal::actors::Credential;
use backstop::cloud::rehearsal::services::TaskSpec;
use backstop::domain::fleet::asset::Kind;
use backstop::ports::{Clock as _, NoticeKind};

use super::lab::*;

/// A kind that does not answer holds back no look at machines.
#[test]
fn a_kind_that_hangs_holds_back_no_machine() {
    let lab = Lab::new(vec![cap("5")]);
    lab.run(async {
        lab.cloud.run_task(TaskSpec::fargate(HERE, "main", 250, 500));
        let play = async {
            lab.cloud.with_faults(|faults| {
                faults.hangs_kind.insert(Kind::named("ecs-task"));
            });
            lab.wait(100).await;
            for _ in 0..40 {
                lab.cloud.add(machine(HERE, Some("a")));
            }
            let launched = lab.clock.now();
            let triggered = lab.until_triggered(60).await;
            let after = triggered.duration_since(launched).unsigned_abs();
            assert!(after <= POLL + Duration::from_secs(2), "{after:?}");
        };
        lab.live(play).await;
    });
}

#[test]
fn a_kind_that_cannot_be_looked_at_is_told_once_and_so_is_its_return() {
    let lab = Lab::new(vec![cap("1000000")]);
    lab.run(async {
        let play = async {
            lab.wait(40).await;
            lab.cloud.with_faults(|faults| {
                faults.outages.insert(region());
            });
            lab.wait(400).await;
            lab.cloud.with_faults(|faults| faults.outages.clear());
            lab.wait(100).await;
        };
        lab.live(play).await;
    });
    let heard = lab.heard.0.lock().unwrap();
    let texts = heard.iter().filter(|notice| notice.kind == NoticeKind::Alert);
    let texts: Vec<&str> = texts.map(|notice| notice.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:#?}");
    assert!(
        texts[0].contains("nothing is seen of instance in us-east-1"),
        "{texts:#?}"
    );
    assert!(
        texts[1].contains("instance in us-east-1 can be looked at again"),
        "{texts:#?}"
    );
}

/// More events of one call than one reading takes: the newest are known at once, and the others soon.
#[test]
fn a_record_that_is_too_long_for_one_reading_is_read_to_its_end() {
    let lab = Lab::new(vec![cap("1000000000")]);
    lab.run(async {
        let play = async {
            lab.wait(20).await;
            let by = Credential::Role(role("a"));
            for _ in 0..40 {
                for _ in 0..50 {
                    let id = lab.cloud.launch(&by, machine(HERE, None)).unwrap();
                    // Its record is what counts here.
                    lab.cloud.someone(Verb::Terminate, &id).unwrap();
                }
                lab.wait(1).await;
            }
            let known = || {
                lab.created
                    .lock()
                    .unwrap()
                    .get(&agent("a"))
                    .map_or(0, |made| made.len())
            };
            let mut before = 0;
            for _ in 0..10 {
                lab.wait(60).await;
                assert!(known() >= before);
                before = known();
            }
            assert_eq!(before, 2_000);
        };
        lab.live(play).await;
    });
}

fn region() -> backstop::domain::containment::target::Region {
    backstop::domain::containment::target::Region(HERE.to_owned())
}
