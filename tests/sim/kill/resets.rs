//! Resets that a breach overtakes, and resets that a crash cuts short.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop::domain::agent::AgentStatus;
use backstop::domain::containment::observed::InstanceState;
use backstop::domain::ledger::line::Response;
use backstop::domain::ledger::posting::Trust;
use futures_util::future::{Either, select};

use super::crash::{CrashPoint, When};
use super::judgement::{Book, count, judge, line, options, scene, watch_over};
use super::scene::{agent, is_closed, is_contained};

#[test]
fn a_breach_that_a_reset_overtakes_contains_again() {
    for fails in [false, true] {
        let scene = scene();
        let (book, watch) = (Book::open(&scene), scene.watch());
        let daily = [line(Some("agent"), 100, Response::Contain)];
        book.spend("agent", 150, Trust::Agent, &daily);
        judge(&scene, &watch);
        scene.drive(is_contained);
        let calls = AtomicU64::new(0);
        let (book, watch, daily, calls) = (&book, &watch, &daily, &calls);
        let reset = scene.run(watch.reset(&agent(), &options(Some(100)), |changes| async move {
            if calls.fetch_add(1, Ordering::SeqCst) > 0 && fails {
                return Err("no".to_owned());
            }
            book.apply(changes).await?;
            if calls.load(Ordering::SeqCst) == 1 {
                // It comes late, past the raised limit, and is judged while the agent is contained.
                book.commit(vec![book.report("agent", 90, Trust::Agent, daily)]).await;
                assert!(watch.judge_pending().await.unwrap() > 0);
            }
            Ok(())
        }));
        assert_eq!(reset.is_err(), fails);
        judge(&scene, watch);
        assert_eq!(scene.status(), AgentStatus::Contained);
        assert_eq!(count(&scene, "recontained"), 1);
        scene.drive(is_contained);
        assert_eq!(scene.cloud.snapshot().machines["eu-west-1/i-1"], InstanceState::Stopped);
    }
}

#[test]
fn a_reset_that_a_crash_cuts_short_overlooks_no_breach_that_overtook_it() {
    // Until the reset makes fewer calls than that, whatever it is cut short at.
    let mut call = 0;
    loop {
        let mut whole = 0;
        for when in [When::BeforeCall, When::AfterCall] {
            let scene = scene();
            let (book, calm) = (Book::open(&scene), scene.watch());
            let daily = [line(Some("agent"), 100, Response::Contain)];
            book.spend("agent", 150, Trust::Agent, &daily);
            judge(&scene, &calm);
            scene.drive(is_contained);
            let crash = CrashPoint::at(call, when);
            let dying = watch_over(&scene, &crash);
            let (options, spent) = (options(Some(100)), AtomicU64::new(0));
            let (book, calm, daily, spent) = (&book, &calm, &daily, &spent);
            let who = agent();
            let reset = dying.reset(&who, &options, |changes| async move {
                book.apply(changes).await?;
                if spent.fetch_add(1, Ordering::SeqCst) == 0 {
                    // Past the raised limit, and judged while the agent is contained.
                    book.commit(vec![book.report("agent", 90, Trust::Agent, daily)]).await;
                    assert!(calm.judge_pending().await.unwrap() > 0);
                }
                Ok(())
            });
            let ended = scene.run(async {
                match select(pin!(reset), pin!(crash.crashed())).await {
                    Either::Left((reset, _)) => {
                        reset.unwrap();
                        true
                    }
                    Either::Right(_) => false,
                }
            });
            whole += usize::from(ended);
            let at = format!("crash {when:?} {call}");
            // The kill switch is up before the judge is, and puts nothing back meanwhile.
            let switch = scene.switch();
            let id = scene.last_now().id;
            for _ in 0..3 {
                scene.run(switch.pass(id)).unwrap();
            }
            scene.run(calm.check_resets(&|changes| book.apply(changes))).unwrap();
            judge(&scene, calm);
            assert_eq!(scene.status(), AgentStatus::Contained, "{at}");
            scene.drive(is_contained);
            let held = scene.cloud.snapshot();
            assert_eq!(held.machines["eu-west-1/i-1"], InstanceState::Stopped, "{at}");
            assert_eq!(held.denies.values().flatten().count(), 2, "{at}");
            // And it is the operator's to try again, if the line is still in the way.
            assert!(scene.run(calm.check_reset(&agent(), &options)).is_ok(), "{at}");
        }
        if whole == 2 {
            break;
        }
        call += 1;
    }
    assert!(call > 9, "only {call} calls were made");
}

#[test]
fn a_reset_that_a_crash_cuts_short_ends_all_the_same() {
    let mut cut_short = 0;
    for call in 0..40 {
        let scene = scene();
        let first = scene.cloud.snapshot();
        scene.contain_and_wait();
        let changed = scene.images().len();
        let watch = scene.watch();
        let crash = CrashPoint::at(call, When::BeforeCall);
        let (dying, options) = (watch_over(&scene, &crash), options(None));
        let who = agent();
        scene.run(async {
            let reset = pin!(dying.reset(&who, &options, |_| async { Ok(()) }));
            select(reset, pin!(crash.crashed())).await;
        });
        let switch = scene.switch();
        if scene.status() == AgentStatus::Contained {
            // It never began.
            scene.reset(&[]);
        } else if !scene.last_now().restore.is_some_and(|asked| asked.lines_checked) {
            scene.run(switch.pass(scene.last_now().id)).unwrap();
            assert_eq!(
                scene.images().len(),
                changed,
                "nothing is put back before its lines are looked at"
            );
            cut_short += 1;
        }
        scene.run(watch.check_resets(&|_| async { Ok(()) })).unwrap();
        assert_eq!(scene.run(watch.check_resets(&|_| async { Ok(()) })).unwrap(), 0);
        scene.drive(is_closed);
        assert_eq!(scene.cloud.snapshot(), first, "crash {call}");
        assert_eq!(scene.status(), AgentStatus::Active, "crash {call}");
    }
    assert!(cut_short >= 3, "{cut_short}");
}
