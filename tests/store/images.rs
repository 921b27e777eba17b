//! Before-images, and what is folded of them: recorded once, ended once, never edited.

use backstop::domain::containment::folding::Folded;
use backstop::domain::containment::image::BeforeImage;
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::containment::state::{Action, Containment, Step, StepState};
use backstop::domain::containment::steps::step_id;
use backstop::domain::id::ContainmentId;
use backstop::ports::{Judgement, Lease};
use uuid::Uuid;

use crate::conform;
use crate::control::{containment, image, is_conflict, open, step, take, update};
use crate::fixture::Fixture;
use crate::make::*;

conform!(
    the_first_before_image_survives,
    an_image_gives_way_to_another_in_one_write,
    what_is_folded_goes_with_the_write_that_counts_it,
    an_image_is_changed_only_in_what_became_of_it,
);

async fn the_first_before_image_survives(f: Fixture) {
    let lease = take(&*f.store, "one", 0).await.unwrap();
    let (one, two) = (ContainmentId(Uuid::from_u128(1)), ContainmentId(Uuid::from_u128(2)));
    let running = image(1, one, InstanceState::Running);
    let written = f
        .store
        .record_images(&lease, std::slice::from_ref(&running))
        .await
        .unwrap();
    assert_eq!(written, std::slice::from_ref(&running));
    // The next generation sees it stopped, by us; what was there before us is what counts.
    let new = image(2, two, InstanceState::Running);
    let both = [new.clone(), image(1, two, InstanceState::Stopped)];
    let read = f.store.record_images(&lease, &both).await.unwrap();
    assert_eq!(read, [new.clone(), running.clone()]);
    assert_eq!(f.store.images(&agent("a")).await.unwrap().len(), 2);
    assert!(f.store.images(&agent("b")).await.unwrap().is_empty());

    let restored = BeforeImage {
        restored_at: Some(later(9)),
        outcome: Some("started".to_owned()),
        ..running
    };
    f.store.update_images(&lease, &[restored]).await.unwrap();
    assert_eq!(f.store.images(&agent("a")).await.unwrap(), [new]);
    let third = image(1, two, InstanceState::Stopped);
    let read = f
        .store
        .record_images(&lease, std::slice::from_ref(&third))
        .await
        .unwrap();
    assert_eq!(read, [third], "restored, it may be recorded afresh");
}

/// C1: the end of one and the record of the one in its place are one write, or none.
async fn an_image_gives_way_to_another_in_one_write(f: Fixture) {
    let lease = take(&*f.store, "one", 0).await.unwrap();
    let (one, two) = (ContainmentId(Uuid::from_u128(1)), ContainmentId(Uuid::from_u128(2)));
    let first = image(1, one, InstanceState::Running);
    let first = std::slice::from_ref(&first);
    f.store.record_images(&lease, first).await.unwrap();
    let ended = BeforeImage {
        restored_at: Some(later(9)),
        outcome: Some("somebody else changed it".to_owned()),
        ..first[0].clone()
    };
    let ended = std::slice::from_ref(&ended);
    let second = [
        image(1, two, InstanceState::Stopped),
        image(2, two, InstanceState::Running),
    ];
    let old = Lease {
        token: lease.token - 1,
        ..lease.clone()
    };
    is_conflict(f.store.supersede_images(&old, ended, &second).await);
    // One of them is not there: nothing of it is done.
    let missing = BeforeImage {
        restored_at: Some(later(9)),
        ..image(7, one, InstanceState::Running)
    };
    let both = [ended[0].clone(), missing];
    assert!(f.store.supersede_images(&lease, &both, &second).await.is_err());
    assert_eq!(f.store.images(&agent("a")).await.unwrap(), first);

    let read = f.store.supersede_images(&lease, ended, &second).await.unwrap();
    assert_eq!(read, second);
    assert_eq!(f.another().await.images(&agent("a")).await.unwrap(), second);
    assert!(
        f.store.supersede_images(&lease, &[], &second).await.unwrap() == second,
        "twice is once"
    );
}

/// What was ended and is gone leaves its image and its step, in the write that counts it.
async fn what_is_folded_goes_with_the_write_that_counts_it(f: Fixture) {
    let first = containment(1, "a", 1);
    f.store.judge(&open(first.clone())).await.unwrap();
    let lease = take(&*f.store, "one", 0).await.unwrap();
    let images = [1, 2].map(|n| image(n, first.id, InstanceState::Running));
    f.store.record_images(&lease, &images).await.unwrap();
    let end = |n: usize| Step {
        id: step_id(Action::End, &images[n].resource),
        resource: images[n].resource.clone(),
        action: Action::End,
        ..step(1, StepState::Done, 1)
    };
    let steps = [end(0), end(1)];
    f.store.record_steps(&lease, &steps).await.unwrap();
    let folded = Folded {
        agent: agent("a"),
        containment: first.id,
        resource: images[0].resource.clone(),
    };
    let fold = |version| Judgement {
        fold: vec![folded.clone()],
        ..update(Containment {
            version,
            ..first.clone()
        })
    };
    // A write that is overtaken takes nothing away.
    is_conflict(f.store.judge_fenced(&lease, &fold(7)).await);
    assert_eq!(f.store.images(&agent("a")).await.unwrap(), images);
    assert_eq!(f.store.steps(first.id).await.unwrap(), steps);
    f.store.judge_fenced(&lease, &fold(2)).await.unwrap();
    assert_eq!(f.store.images(&agent("a")).await.unwrap(), images[1..]);
    assert_eq!(f.store.steps(first.id).await.unwrap(), steps[1..]);
    assert_eq!(f.store.containment(first.id).await.unwrap().unwrap().version, 2);
}

async fn an_image_is_changed_only_in_what_became_of_it(f: Fixture) {
    let lease = take(&*f.store, "one", 0).await.unwrap();
    let first = image(1, ContainmentId(Uuid::from_u128(1)), InstanceState::Running);
    f.store
        .record_images(&lease, std::slice::from_ref(&first))
        .await
        .unwrap();
    let claimed = BeforeImage {
        changed_at: Some(later(3)),
        ..image(1, ContainmentId(Uuid::from_u128(2)), InstanceState::Stopped)
    };
    f.store.update_images(&lease, &[claimed]).await.unwrap();
    let wanted = BeforeImage {
        changed_at: Some(later(3)),
        ..first
    };
    assert_eq!(f.store.images(&agent("a")).await.unwrap(), [wanted]);
}
