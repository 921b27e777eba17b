use proptest::prelude::*;

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
        agent: owner.map(agent),
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
