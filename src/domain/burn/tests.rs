use proptest::prelude::*;

use super::ended::MAX_ENDED;
use super::*;

const HOUR: i64 = 3_600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(10 * HOUR + second).unwrap()
}

fn region() -> Region {
    Region("eu-west-1".to_owned())
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn seen(id: &str, owner: Option<&str>, usd: &str, since: Option<i64>) -> Seen {
    Seen {
        what: AssetRef {
            kind: Kind::INSTANCE,
            region: region(),
            id: id.to_owned(),
        },
        parent: None,
        agent: owner.map(agent),
        tagged: None,
        service: "AmazonEC2".to_owned(),
        since: since.map(at),
        hourly: Hourly {
            usd: usd.parse().unwrap(),
            basis: PriceBasis::Listed,
        },
    }
}

fn look(book: &mut Book, second: i64, seen: Vec<Seen>) {
    book.look(&region(), &Kind::INSTANCE, seen, at(second));
}

fn taken(book: &mut Book) -> Vec<String> {
    let told = |charge: Charge| {
        let hour = (charge.cell.hour.as_second() - 10 * HOUR) / HOUR;
        format!("{} {hour} {}", charge.cell.agent, charge.amount)
    };
    book.take().into_iter().map(told).collect()
}

#[test]
fn a_machine_is_charged_from_its_start_to_the_look_that_misses_it() {
    let mut book = Book::default();
    look(&mut book, 0, vec![]);
    look(&mut book, 60, vec![seen("i-1", Some("a"), "3.60", Some(30))]);
    assert_eq!(taken(&mut book), ["a 0 0.03"]);
    look(&mut book, 120, vec![seen("i-1", Some("a"), "3.60", Some(30))]);
    look(&mut book, 180, vec![]);
    look(&mut book, 240, vec![]);
    assert_eq!(taken(&mut book), ["a 0 0.12"]);
    assert_eq!(taken(&mut book), Vec::<String>::new());
}

/// AWS bills a minute of each start at least.
#[test]
fn a_start_costs_a_minute_at_least() {
    let mut book = Book::default();
    look(&mut book, 0, vec![]);
    let fleet = vec![
        seen("i-1", Some("a"), "3.60", Some(10)),
        seen("i-2", Some("b"), "3.60", None),
        seen("i-3", None, "3.60", Some(10)),
    ];
    look(&mut book, 15, fleet);
    look(&mut book, 30, vec![]);
    assert_eq!(taken(&mut book), ["a 0 0.06", "b 0 0.06"]);
    book.attribute_ended(&region(), at(30), |_, _| Some(agent("c")));
    assert_eq!(taken(&mut book), ["c 0 0.06"]);
    // What began before the first look of all is the bill's until then, and what ran longer has no least.
    let mut book = Book::default();
    let fleet = vec![
        seen("i-1", Some("a"), "3.60", Some(-20)),
        seen("i-2", Some("b"), "3.60", Some(-90)),
        seen("i-3", Some("c"), "3.60", None),
    ];
    look(&mut book, 0, fleet);
    look(&mut book, 10, vec![]);
    assert_eq!(taken(&mut book), ["a 0 0.04", "b 0 0.01", "c 0 0.01"]);
}

#[test]
fn the_past_before_the_first_look_is_the_bills() {
    let mut book = Book::default();
    look(&mut book, 0, vec![seen("i-1", Some("a"), "3.60", Some(-100 * HOUR))]);
    assert_eq!(taken(&mut book), Vec::<String>::new());
    look(&mut book, 10, vec![seen("i-1", Some("a"), "3.60", Some(-100 * HOUR))]);
    assert_eq!(taken(&mut book), ["a 0 0.01"]);
}

#[test]
fn a_new_price_counts_from_the_look_that_shows_it() {
    let mut book = Book::default();
    look(&mut book, 0, vec![seen("i-1", Some("a"), "3.60", None)]);
    look(&mut book, 10, vec![seen("i-1", Some("a"), "36", None)]);
    look(&mut book, 20, vec![seen("i-1", Some("a"), "36", None)]);
    assert_eq!(taken(&mut book), ["a 0 0.11"]);
}

#[test]
fn an_hour_has_its_own_cell() {
    let mut book = Book::default();
    look(&mut book, HOUR - 10, vec![seen("i-1", Some("a"), "3.60", None)]);
    look(&mut book, 2 * HOUR + 10, vec![seen("i-1", Some("a"), "3.60", None)]);
    assert_eq!(taken(&mut book), ["a 0 0.01", "a 1 3.60", "a 2 0.01"]);
}

#[test]
fn what_is_not_seen_goes_on_costing() {
    let mut book = Book::default();
    look(&mut book, 0, vec![seen("i-1", Some("a"), "3.60", None)]);
    book.advance(at(100));
    assert_eq!(taken(&mut book), ["a 0 0.10"]);
    // The next look does not charge it again.
    look(&mut book, 100, vec![]);
    assert_eq!(taken(&mut book), Vec::<String>::new());
}

/// An operator who accepts another time does not stop the charging until the old one comes again.
#[test]
fn time_that_was_set_back_is_begun_anew() {
    let mut book = Book::default();
    let one = || vec![seen("i-1", Some("a"), "3.60", None)];
    look(&mut book, 30 * 24 * HOUR, one());
    book.advance(at(0));
    look(&mut book, 100, one());
    assert_eq!(taken(&mut book), ["a 0 0.10"]);
    // A look that comes a moment late is none of it.
    book.advance(at(200));
    look(&mut book, 150, one());
    assert_eq!(taken(&mut book), ["a 0 0.10"]);
}

#[test]
fn a_creation_brings_the_whole_cost_of_an_orphan() {
    let mut book = Book::default();
    look(&mut book, 0, vec![]);
    look(&mut book, 60, vec![seen("i-1", None, "3.60", Some(0))]);
    look(&mut book, 120, vec![seen("i-1", None, "3.60", Some(0))]);
    assert_eq!(taken(&mut book), Vec::<String>::new());
    assert_eq!(book.orphans().len(), 1);
    look(&mut book, 180, vec![seen("i-1", Some("a"), "3.60", Some(0))]);
    assert_eq!(taken(&mut book), ["a 0 0.18"]);
}

/// What a fleet of short-lived machines costs is known before the record says who made them.
#[test]
fn an_orphan_that_ended_is_charged_to_whoever_made_it() {
    let group = AssetRef {
        kind: Kind::named("group"),
        ..seen("g", None, "1", None).what
    };
    let made_by_a = |what: &AssetRef| *what == group || what.id == "i-1";
    let mut book = Book::default();
    look(&mut book, 0, vec![]);
    let member = Seen {
        parent: Some(group.clone()),
        ..seen("i-2", None, "7.20", Some(60))
    };
    let fleet = vec![
        seen("i-1", None, "3.60", Some(60)),
        member,
        seen("i-3", None, "36", Some(60)),
    ];
    look(&mut book, 120, fleet);
    look(&mut book, 300, vec![]);
    assert_eq!(book.orphans(), []);
    let json = serde_json::to_string(&book).unwrap();
    let mut book: Book = serde_json::from_str(&json).unwrap();
    let owner = |what: &AssetRef, parent: Option<&AssetRef>| {
        (made_by_a(what) || parent.is_some_and(made_by_a)).then(|| agent("a"))
    };
    book.attribute_ended(&Region("elsewhere".to_owned()), at(300), owner);
    assert_eq!(taken(&mut book), Vec::<String>::new());
    book.attribute_ended(&region(), at(300), owner);
    assert_eq!(taken(&mut book), ["a 0 0.72"], "240 s of both");
    book.attribute_ended(&region(), at(300), owner);
    assert_eq!(taken(&mut book), Vec::<String>::new(), "once");
    // It is not kept for ever.
    book.attribute_ended(&region(), at(49 * HOUR), |_, _| None);
    book.attribute_ended(&region(), at(49 * HOUR), |_, _| Some(agent("a")));
    assert_eq!(taken(&mut book), Vec::<String>::new());
}

/// A stopped machine keeps its name, and its owner may be known when it runs again.
#[test]
fn an_orphan_that_runs_again_brings_what_it_cost_before() {
    let mut book = Book::default();
    look(&mut book, 0, vec![]);
    look(&mut book, 60, vec![seen("i-1", None, "3.60", Some(0))]);
    look(&mut book, 120, vec![]);
    look(&mut book, 180, vec![seen("i-1", Some("a"), "3.60", Some(170))]);
    assert_eq!(taken(&mut book), ["a 0 0.13"]);
    book.attribute_ended(&region(), at(180), |_, _| Some(agent("b")));
    assert_eq!(taken(&mut book), Vec::<String>::new());
}

#[test]
fn of_too_many_ended_orphans_the_dearest_stay() {
    let mut book = Book::default();
    look(&mut book, 0, vec![]);
    let cheap = |count: usize| (0..count).map(|id| seen(&format!("i-{id}"), None, "3.60", Some(0)));
    let fleet = cheap(MAX_ENDED + 5).chain([seen("i-dear", None, "36", Some(0))]);
    look(&mut book, 100, fleet.collect());
    look(&mut book, 100, vec![]);
    assert_eq!(book.ended.len(), MAX_ENDED);
    book.attribute_ended(&region(), at(100), |what, _| (what.id == "i-dear").then(|| agent("a")));
    assert_eq!(taken(&mut book), ["a 0 1.00"]);
}

/// L7: what cannot be seen for a moment is no evidence that a machine is nobody's.
#[test]
fn an_owner_is_replaced_by_one_that_is_named_alone() {
    let mut book = Book::default();
    let one = |owner| vec![seen("i-1", owner, "3.60", None)];
    look(&mut book, 0, one(Some("a")));
    look(&mut book, 100, one(None));
    assert_eq!(book.burn_of(&agent("a")).to_string(), "3.60");
    assert_eq!(book.orphans(), []);
    look(&mut book, 200, one(Some("b")));
    assert_eq!(taken(&mut book), ["a 0 0.20"]);
    book.release(|known| *known != agent("b"));
    assert_eq!((book.burn_of(&agent("b")), book.orphans().len()), (Usd::ZERO, 1));
    look(&mut book, 300, one(Some("a")));
    assert_eq!(taken(&mut book), ["a 0 0.10"]);
}

#[test]
fn burn_is_told_by_agent_service_and_region() {
    let mut book = Book::default();
    let fleet = vec![
        seen("i-1", Some("a"), "1", None),
        seen("i-2", Some("a"), "2", None),
        seen("i-3", None, "4", None),
    ];
    look(&mut book, 0, fleet);
    let rows = book.burn();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0].agent.clone(), rows[0].usd_per_hour.to_string()),
        (None, "4.00".to_owned())
    );
    assert_eq!(
        (rows[1].assets, rows[1].usd_per_hour.to_string()),
        (2, "3.00".to_owned())
    );
    assert_eq!(book.burn_of(&agent("a")).to_string(), "3.00");
}

#[test]
fn what_burns_until_a_reaction_binds_is_ahead() {
    let ahead = |usd: &str, seconds| super::ahead(usd.parse().unwrap(), SignedDuration::from_secs(seconds)).to_string();
    assert_eq!(ahead("3600", 90), "90.00");
    assert_eq!(ahead("0.000000001", 1), "0.000000001");
    assert_eq!(ahead("10", -5), "0.00");
}

proptest! {
    /// However looks fall, what is posted is the price times the time, rounded up once a cell and batch.
    #[test]
    fn nothing_is_lost_between_looks(times in prop::collection::vec(1_i64..5_000, 1..40), takes in any::<u64>()) {
        let mut book = Book::default();
        let mut now = 0;
        look(&mut book, 0, vec![seen("i-1", Some("a"), "3.60", None)]);
        let (mut sum, mut charges) = (Usd::ZERO, 0);
        let mut post = |book: &mut Book| {
            for charge in book.take() {
                sum = sum.saturating_add(charge.amount);
                charges += 1;
            }
        };
        for (turn, wait) in times.iter().enumerate() {
            now += wait;
            look(&mut book, now, vec![seen("i-1", Some("a"), "3.60", None)]);
            if takes >> (turn % 64) & 1 == 1 {
                post(&mut book);
            }
            let json = serde_json::to_string(&book).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Book>(&json).unwrap(), &book);
        }
        post(&mut book);
        let exact = now * 1_000_000;
        prop_assert!(sum.nanos() >= exact && sum.nanos() <= exact + charges);
    }
}
