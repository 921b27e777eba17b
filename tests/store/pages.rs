//! Pages of postings: their order, and what may be asked for.

use backstop::domain::ledger::batch::Op;
use backstop::ports::PostingQuery;

use crate::conform;
use crate::fixture::Fixture;
use crate::make::*;

conform!(
    pages_of_postings_follow_the_order_of_recording,
    the_postings_of_a_hold_are_found,
);

async fn pages_of_postings_follow_the_order_of_recording(f: Fixture) {
    let lines = |name: &str| vec![spec("daily", name, usd(1000))];
    // Ids that run against the order of recording.
    for n in 0..10_u128 {
        let name = if n % 3 == 0 { "b" } else { "a" };
        f.commit(vec![Op::Report(report(100 - n, of(name), usd(1), lines(name)))])
            .await;
    }
    let mut query = PostingQuery {
        limit: 3,
        ..PostingQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = f.store.postings(&query).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        query.after = Some(last.id);
        seen.extend(page.iter().map(|p| p.id));
    }
    let wanted: Vec<_> = (0..10).map(|n| posting_id(100 - n)).collect();
    assert_eq!(seen, wanted);
    let of_b = PostingQuery {
        agent: Some(agent("b")),
        limit: 100,
        ..PostingQuery::default()
    };
    assert_eq!(f.store.postings(&of_b).await.unwrap().len(), 4);
}

async fn the_postings_of_a_hold_are_found(f: Fixture) {
    let lines = || vec![spec("daily", "a", usd(10))];
    let holds = vec![admit(1, of("a"), usd(4), lines()), admit(2, of("a"), usd(4), lines())];
    f.commit(holds).await;
    f.commit(vec![expire(1), expire(2)]).await;
    f.commit(vec![resolve(1, 11, usd(1))]).await;
    let of_hold = PostingQuery {
        hold: Some(hold_id(1)),
        limit: 10,
        ..PostingQuery::default()
    };
    let found = f.store.postings(&of_hold).await.unwrap();
    let ids: Vec<_> = found.iter().map(|posting| posting.id).collect();
    assert_eq!(
        ids,
        [posting_id(1), posting_id(11)],
        "what ended it, and what corrected that"
    );
    let unresolved = PostingQuery {
        unresolved: true,
        ..of_hold
    };
    assert!(f.store.postings(&unresolved).await.unwrap().is_empty());
}
