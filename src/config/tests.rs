//! What loading promises: the manual is the defaults, every mistake at once, and no panic.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::settings::{LogFormat, StoreLocation, UnknownModel};
use super::*;
use crate::domain::ledger::batch::LedgerRules;
use crate::domain::ledger::line::{Response, Scope};
use crate::domain::money::Usd;
use crate::domain::window::Window;

fn reader(environment: &[(&str, &str)]) -> Loader {
    Loader::for_reader(environment.iter().copied().collect())
}

fn parse(text: &str) -> Result<Loaded, Problems> {
    reader(&[]).parse(None, "config.toml", text)
}

/// `line: key` and the message of every problem, for comparison with a list.
fn lines(problems: &Problems) -> Vec<String> {
    problems.0.iter().map(ToString::to_string).collect()
}

fn problems(text: &str) -> Vec<String> {
    lines(&parse(text).expect_err("has mistakes"))
}

const SOUND: &str = r#"
[[agent]]
id = "transcriber"
[agent.aws]
account = "123456789012"
roles = ["arn:aws:iam::123456789012:role/agents/transcriber"]
tags = { "backstop:agent" = "transcriber" }

[[budget]]
name = "daily"
scope = "agent"
agents = ["*"]
window = "day"
timezone = "Europe/Berlin"
limit_usd = 12.3456789
response = "contain"
alert_at = [80, 50, 80]
[aws]
enabled = true
"#;

#[test]
fn the_manual_is_the_defaults_and_has_no_problems() {
    let loaded = reader(&[]).load(None).expect("the built-in config is sound");
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.path, None);
    let s = loaded.settings;
    assert_eq!(s.server.agent_listen, "127.0.0.1:8700".parse().unwrap());
    assert_eq!(s.server.admin_listen, "127.0.0.1:8701".parse().unwrap());
    assert_eq!(s.server.admin_socket, Path::new("data/admin.sock"));
    assert_eq!(s.server.max_body_bytes, 16 * 1024 * 1024);
    assert!(!s.server.insecure_listen);
    assert_eq!(
        s.storage.store,
        StoreLocation::Sqlite {
            path: "data/backstop.db".into()
        }
    );
    assert_eq!(s.storage.reserve_bytes, 256_000_000);
    assert_eq!(s.ledger.hold_wait, Duration::from_secs(60));
    assert_eq!(
        s.ledger.rules,
        LedgerRules::default(),
        "the manual and the domain agree"
    );
    assert_eq!(s.admin.token, None);
    assert_eq!(s.audit.key_file, Path::new("data/audit.key"));
    assert_eq!(s.prices.unknown_model, UnknownModel::Refuse);
    assert_eq!(s.reports.max_rows, 10_000);
    assert_eq!(s.reports.max_age, Duration::from_secs(90 * 24 * 3600));
    assert!(!s.aws.enabled && !s.aws.terminate_unstoppable && s.aws.regions.is_empty());
    assert_eq!(s.aws.sweep_spacing, Duration::from_secs(10));
    assert_eq!(s.log.format, LogFormat::Text);
    assert!(s.agents.is_empty() && s.budgets.is_empty());
}

/// The manual's examples stand in comments: taken out of them they must be what it says they are.
#[test]
fn the_examples_of_the_manual_load() {
    let examples: String = BUILT_IN
        .lines()
        .skip_while(|line| !line.contains("[[agent]]") || !line.starts_with("# [["))
        .filter(|line| !line.contains("manifest = ") && !line.contains("# rolling") && !line.contains("# bucket"))
        .filter(|line| !line.contains("# label = ") && !line.contains("# week_start"))
        .filter_map(|line| line.strip_prefix("# "))
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.contains(" = "))
                .unwrap_or(line)
        })
        .filter(|line| {
            line.starts_with('[') || line.contains(" = ") && !line.contains("For ") && !line.contains(": \"")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = parse(&examples).unwrap_or_else(|problems| panic!("{problems}\n---\n{examples}"));
    assert_eq!(loaded.settings.agents.len(), 1);
    assert_eq!(
        loaded.settings.agents[0]
            .cloud
            .as_ref()
            .map(|cloud| cloud.regions.len()),
        Some(2)
    );
    assert_eq!(loaded.settings.budgets.len(), 1);
    assert_eq!(loaded.settings.budgets[0].budget.limit, Usd::from_dollars(50));
}

#[test]
fn a_sound_config_becomes_domain_types() {
    let loaded = parse(SOUND).expect("sound");
    assert_eq!(loaded.warnings, []);
    let rule = &loaded.settings.budgets[0];
    assert_eq!(
        rule.budget.limit,
        Usd::from_nanos(12_345_678_900),
        "a TOML number is read exactly, not as a float"
    );
    assert_eq!(rule.budget.scope, Scope::Agent);
    assert_eq!(rule.budget.response, Response::Contain);
    assert_eq!(rule.budget.alert_at, [50, 80]);
    assert_eq!(
        rule.budget.window,
        Window::Day {
            timezone: "Europe/Berlin".to_owned()
        }
    );
    assert!(
        rule.budget
            .selector
            .agents
            .as_ref()
            .is_some_and(|set| set.is_match("a/b"))
    );
    assert_eq!(rule.patterns.agents, ["*"]);
    let cloud = loaded.settings.agents[0].cloud.as_ref().expect("has a cloud side");
    assert_eq!(cloud.principals[0].name(), "transcriber");
    assert!(cloud.regions.is_empty(), "without regions, every enabled one");
}

#[test]
fn ten_mistakes_are_ten_problems_in_one_go() {
    let text = r#"[server]
agent_listen = "localhost:8700"
admin_listen = "0.0.0.0:8701"
max_body_bytes = "16 MB"
[ledger]
hold_wait = 60
hold_tll = "5m"
[[agent]]
id = "scanner"
[agent.aws]
account = 12345
roles = ["arn:aws:iam::123456789012:role/scanner"]
[[agent]]
id = "scanner"
[[budget]]
name = "daily"
scope = "agents"
window = "day"
timezone = "Europe/Berln"
limit_usd = -5
response = "contain"
"#;
    assert_eq!(
        problems(text),
        [
            "config.toml:2: server.agent_listen: \"localhost:8700\" is not an address to listen on \
             (hint: write the address: 127.0.0.1 or [::1], then a colon and the port)",
            "config.toml:3: server.admin_listen: 0.0.0.0:8701 is not a loopback address, and plain HTTP carries \
             credentials (hint: listen on 127.0.0.1 behind a TLS proxy, or set server.insecure_listen = true)",
            "config.toml:4: server.max_body_bytes: must be a whole number, not text (hint: without quotes and decimals)",
            "config.toml:6: ledger.hold_wait: must be a duration in quotes, not a whole number \
             (hint: a number with a unit, such as \"500ms\", \"10s\", \"5m\", \"24h\" or \"90d\")",
            "config.toml:7: ledger.hold_tll: unknown key (hint: did you mean hold_ttl?)",
            "config.toml:11: agent[0].aws.account: must be text, not a whole number \
             (hint: put it in quotes, since an account can begin with 0)",
            "config.toml:14: agent[1].id: agent scanner is named twice, first on line 9 (hint: ids are unique)",
            "config.toml:17: budget[0].scope: \"agents\" is not one of \"fleet\", \"agent\", \"task\", \"model\", \
             \"tool\", \"label\" (hint: did you mean \"agent\"?)",
            "config.toml:19: budget[0].timezone: \"Europe/Berln\" is not a time zone (hint: did you mean \"Europe/Berlin\"?)",
            "config.toml:20: budget[0].limit_usd: must be above zero \
             (hint: to stop an agent altogether, use: backstop pause AGENT)",
        ]
    );
}

#[test]
fn the_cloud_side_is_checked() {
    let agent =
        |id: &str, aws: &str| format!("[[agent]]\nid = \"{id}\"\n[agent.aws]\naccount = \"123456789012\"\n{aws}\n");
    let role = "arn:aws:iam::123456789012:role/x";
    let cases = [
        (
            agent("a", "roles = [\"arn:aws:iam::999999999999:role/x\"]"),
            "is in account 999999999999, not in 123456789012",
        ),
        (agent("a", "roles = [\"role/x\"]"), "is not the ARN of a role"),
        (
            agent("a", "roles = [\"arn:aws:iam::123456789012:user/x\"]"),
            "is a user, not a role",
        ),
        (agent("a", ""), "names nothing of the agent's"),
        (agent("a", "tags = { team = \"*\" }"), "would match other owners"),
        (
            agent("a", &format!("roles = [\"{role}\"]\nregions = [\"eu-west\"]")),
            "\"eu-west\" is not a region",
        ),
        (
            agent(
                "a",
                "roles = [\"arn:aws:iam::123456789012:role/aws-service-role/ecs.amazonaws.com/X\"]",
            ),
            "service-linked",
        ),
        (
            agent("a", &format!("roles = [\"{role}\"]"))
                + &agent("b", "roles = [\"arn:aws:iam::123456789012:role/path/X\"]"),
            "belongs to agent a as well",
        ),
        (
            agent("a", "tags = { t = \"1\" }") + &agent("b", "tags = { t = \"1\" }"),
            "the tag \"t=1\" belongs to agent a as well",
        ),
        (
            "[aws]\nguard_principals = [\"arn:aws:iam::123456789012:role/ops/X\"]\n".to_owned()
                + &agent("a", &format!("roles = [\"{role}\"]")),
            "can never be a target",
        ),
        (
            agent("a", "roles = [\"arn:aws:iam::123456789012:role/backstop/guard\"]"),
            "is below the guard's own path",
        ),
        (
            agent("a", "tags = { t = \"1\" }")
                + &agent("b", "tags = { t = \"2\" }").replace("123456789012", "999999999999"),
            "is 999999999999, but agent a is in account 123456789012 (hint: one daemon works in one account",
        ),
        (
            "[aws]\nkinds = [\"group\", \"lambda\"]\n".to_owned(),
            "\"lambda\" is not a kind of asset (hint: [\"all\"], or some of address, balancer",
        ),
        ("[aws]\nkinds = []\n".to_owned(), "names no kind"),
        (
            "[aws]\nkinds = [\"all\", \"nat\"]\n".to_owned(),
            "names \"all\" and others",
        ),
    ];
    for (text, wanted) in cases {
        let found = problems(&text);
        assert!(
            found.len() == 1 && found[0].contains(wanted),
            "wanted {wanted:?}, found {found:#?} in\n{text}"
        );
    }
}

#[test]
fn budgets_are_checked() {
    let budget = |more: &str| {
        format!("[[agent]]\nid = \"a\"\n[[budget]]\nname = \"b\"\nscope = \"agent\"\nresponse = \"pause\"\n{more}\n")
    };
    let cases = [
        ("limit_usd = 1", "window is missing"),
        ("window = \"day\"", "limit_usd is missing"),
        (
            "window = \"day\"\nrolling = \"5h\"\nlimit_usd = 1",
            "window is set as well",
        ),
        ("window = \"day\"\nlimit_usd = 1e10", "more than nine billion dollars"),
        ("window = \"day\"\nlimit_usd = 2000000000", "at most one billion"),
        ("window = \"day\"\nlimit_usd = nan", "not a decimal number"),
        ("window = \"day\"\nlimit_usd = \"0\"", "must be above zero"),
        ("window = \"day\"\nlimit_usd = \"0.00000000001\"", "would be rounded"),
        (
            "window = \"day\"\nlimit_usd = 1\nalert_at = [0, 50]",
            "must be 1 to 100",
        ),
        ("window = \"day\"\nlimit_usd = 1\nalert_at = [120]", "must be 1 to 100"),
        (
            "window = \"day\"\nlimit_usd = 1\nagents = [\"b-*\"]",
            "selects no agent (hint: the agents are: a)",
        ),
        ("window = \"day\"\nlimit_usd = 1\nagents = [\"[\"]", "is not a glob"),
        (
            "window = \"day\"\nlimit_usd = 1\nlabel = \"team\"",
            "is only for scope = \"label\"",
        ),
        ("rolling = \"5h\"\nbucket = \"7m\"\nlimit_usd = 1", "does not divide"),
        (
            "rolling = \"30d\"\nbucket = \"1m\"\nlimit_usd = 1",
            "makes 43200 buckets",
        ),
        ("rolling = \"5h\"\nbucket = \"6h\"\nlimit_usd = 1", "must be 1s to 5h"),
        (
            "window = \"week\"\nweek_start = \"munday\"\nlimit_usd = 1",
            "did you mean \"monday\"?",
        ),
    ];
    for (more, wanted) in cases {
        let found = problems(&budget(more));
        assert!(
            found.len() == 1 && found[0].contains(wanted),
            "wanted {wanted:?}, found {found:#?}"
        );
    }
    assert!(
        parse(&budget("rolling = \"5h\"\nlimit_usd = \"1\"")).is_ok_and(|loaded| {
            loaded.settings.budgets[0].budget.window
                == Window::Rolling {
                    length_s: 18_000,
                    bucket_s: 300,
                }
        })
    );
}

#[test]
fn what_guards_nothing_is_a_warning() {
    let text = "[[agent]]\nid = \"a\"\n[[agent]]\nid = \"b\"\n[[budget]]\nname = \"x\"\nscope = \"agent\"\n\
                agents = [\"a\", \"c-*\"]\nwindow = \"total\"\ntimezone = \"UTC\"\nlimit_usd = 1\nresponse = \"contain\"\n";
    let warnings = parse(text).expect("sound").warnings;
    assert_eq!(
        lines(&Problems(warnings)),
        [
            "config.toml:3: warning: agent: no budget selects agent b, so every call of it is refused \
             (hint: add a [[budget]] that selects it)",
            "config.toml:8: warning: budget[0].agents: \"c-*\" matches no agent",
            "config.toml:10: warning: budget[0].timezone: has no effect on window = \"total\"",
            "config.toml:12: warning: budget[0].response: no agent that this budget selects has [agent.aws]: \
             they are frozen here, and no cloud is touched",
        ]
    );
}

#[test]
fn the_wrong_kind_of_table_gets_a_hint() {
    let found = problems("[agent]\nid = \"a\"\n");
    assert_eq!(
        found,
        [
            "config.toml:1: agent: must be a list of tables, not a table (hint: write [[agent]], with two brackets, for each one)"
        ]
    );
    assert!(problems("server = 5\n")[0].contains("server: must be a table"));
    assert!(problems("[[budgets]]\n")[0].contains("unknown section (hint: did you mean budget?)"));
}

#[test]
fn the_memory_for_answers_has_room_for_the_largest() {
    let found = problems("[gateway]\nmax_response_bytes = 1073741824\n");
    assert_eq!(found.len(), 1, "{found:#?}");
    let expected = "config.toml:2: gateway.max_response_bytes: gateway.response_memory_bytes must be at least twice";
    assert!(found[0].starts_with(expected), "{found:#?}");
    let found = problems("[gateway]\nmax_response_bytes = 65536\nresponse_memory_bytes = 131071\n");
    assert!(
        found[0].starts_with("config.toml:3: gateway.response_memory_bytes: "),
        "{found:#?}"
    );
    let enough = "[gateway]\nmax_response_bytes = 65536\nresponse_memory_bytes = 131072\n";
    assert!(parse(enough).is_ok());
}

#[test]
fn syntax_errors_hide_no_other_mistake() {
    let found = problems("[server]\nagent_listen = \nmax_connections = 0\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("config.toml:2: not valid TOML"), "{found:#?}");
    assert!(
        found[1].starts_with("config.toml:3: server.max_connections: must be 1 to"),
        "{found:#?}"
    );
}

#[test]
fn a_literal_secret_is_refused_and_never_echoed() {
    const SECRET: &str = "sk-ant-very-secret-0123456789";
    for text in [
        format!("[admin]\ntoken = \"{SECRET}\"\n"),
        format!("[admin]\ntoken_env = \"{SECRET}\"\n"),
        format!("[admin]\ntoken_file = \"{SECRET}\"\n"),
        format!("[admin]\ntoken = {SECRET}\n"),
        format!("[aws]\nsecret_key = \"{SECRET}\"\n"),
        format!("[aws]\nendpoint_url = \"http://user:{SECRET}@localhost/\"\n"),
        format!("[storage]\nurl = \"postgres://backstop:{SECRET}@db/backstop\"\n"),
    ] {
        let loader = Loader::for_daemon(Environment::default());
        let found = loader.parse(None, "config.toml", &text).expect_err("a mistake");
        let shown = format!("{found} {found:?} {}", serde_json::to_string(&found).unwrap());
        assert!(!shown.contains("very-secret"), "{shown}");
        assert_eq!(found.0.len(), 1, "{found}");
        assert_eq!(found.0[0].line, Some(2));
    }
    let found = reader(&[("BACKSTOP__ADMIN__TOKEN", SECRET)])
        .load(None)
        .expect_err("a mistake");
    assert_eq!(
        lines(&found),
        [
            "env BACKSTOP__ADMIN__TOKEN: admin.token: a secret is never written in the config (its value is not shown \
          here) (hint: use token_file or token_env to say where it is, and take this one for leaked)"
        ]
    );
}

#[test]
fn secrets_are_read_from_where_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "0123456789abcdef0123\n").unwrap();
    let at = dir.path().join("config.toml");
    let daemon = Loader::for_daemon([("TOKEN", "fedcba9876543210")].into_iter().collect());
    let token = |text: &str| {
        daemon
            .parse(Some(&at), "config.toml", text)
            .map(|loaded| loaded.settings.admin.token.map(|t| t.expose().to_owned()))
    };
    assert_eq!(
        token("[admin]\ntoken_file = \"token\"\n"),
        Ok(Some("0123456789abcdef0123".to_owned()))
    );
    assert_eq!(
        token("[admin]\ntoken_env = \"TOKEN\"\n"),
        Ok(Some("fedcba9876543210".to_owned()))
    );
    assert!(
        token("[admin]\ntoken_env = \"ABSENT\"\n").is_err(),
        "the daemon needs it"
    );
    let loaded = parse("[admin]\ntoken_env = \"ABSENT\"\n").expect("a reader does not");
    assert_eq!(loaded.warnings.len(), 1);
    std::fs::write(dir.path().join("token"), "short\n").unwrap();
    assert!(token("[admin]\ntoken_file = \"token\"\n").is_err());
}

#[test]
fn the_environment_overrides_and_is_named() {
    let loaded = reader(&[
        ("BACKSTOP__SERVER__STATE_DIR", "/var/lib/backstop"),
        ("BACKSTOP__SERVER__MAX_CONNECTIONS", "7"),
        ("BACKSTOP__SERVER__ALLOWED_HOSTS", "a.example, B.example"),
        ("BACKSTOP__ADMIN__PEER_UIDS", "[1000, 1001]"),
        ("BACKSTOP__AWS__ENABLED", "true"),
        ("BACKSTOP_CONFIG", "elsewhere"),
    ])
    .parse(None, "config.toml", "[server]\nmax_connections = 5\n")
    .expect("sound");
    let s = loaded.settings;
    assert_eq!(s.server.max_connections, 7);
    assert_eq!(s.server.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!(s.admin.peer_uids, [1000, 1001]);
    assert!(s.aws.enabled);
    assert_eq!(
        s.server.admin_socket,
        Path::new("/var/lib/backstop/admin.sock"),
        "it follows state_dir"
    );
    assert_eq!(
        s.storage.store,
        StoreLocation::Sqlite {
            path: "/var/lib/backstop/backstop.db".into()
        }
    );
    assert_eq!(s.audit.heads_file, Path::new("/var/lib/backstop/audit.heads"));

    let copy = BUILT_IN.replace("state_dir = \"data\"", "state_dir = \"state\"");
    let s = reader(&[])
        .parse(Some(Path::new("/etc/backstop/config.toml")), "x", &copy)
        .expect("sound")
        .settings;
    assert_eq!(
        s.server.admin_socket,
        Path::new("/etc/backstop/state/admin.sock"),
        "in a copy of the manual too"
    );

    let found = reader(&[
        ("BACKSTOP__SERVER__MAX_CONNECTIONS", "many"),
        ("BACKSTOP__SERVR__STATE_DIR", "x"),
        ("BACKSTOP__BUDGET__LIMIT_USD", "5"),
        ("BACKSTOP__SERVER", "5"),
    ])
    .load(None)
    .expect_err("mistakes");
    assert_eq!(
        lines(&found),
        [
            "env BACKSTOP__BUDGET__LIMIT_USD: budget: entries of a list cannot be set from the environment \
             (hint: write it under [[budget]] in the config file)",
            "env BACKSTOP__SERVER: does not name a setting (hint: the form is BACKSTOP__SECTION__KEY)",
            "env BACKSTOP__SERVER__MAX_CONNECTIONS: server.max_connections: must be a whole number, not text",
            "env BACKSTOP__SERVR__STATE_DIR: servr: unknown section (hint: did you mean server?)",
        ]
    );
}

#[test]
fn files_that_are_named_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("config.toml");
    std::fs::write(
        &at,
        "[prices]\nfiles = [\"p.json\"]\n[[agent]]\nid = \"a\"\nmanifest = \"m.json\"\n",
    )
    .unwrap();
    let found = reader(&[]).load(Some(&at)).expect_err("both are missing");
    assert_eq!(found.0.len(), 2, "{found}");
    assert!(found.0[0].message.ends_with("p.json\": no such file") && found.0[0].line == Some(2));
    std::fs::write(dir.path().join("p.json"), "{}").unwrap();
    let manifest = r#"{"schema_version": "v1", "agent_id": "a", "allowed_tools": []}"#;
    std::fs::write(dir.path().join("m.json"), manifest).unwrap();
    let found = reader(&[]).load(Some(&at)).expect_err("the price file holds no price");
    assert!(
        found.0.len() == 1 && found.0[0].message.contains("holds no price"),
        "{found}"
    );
    let prices =
        r#"{"price": [{"service": "s", "models": ["m"], "second": "0.1", "source": "us", "date": "2026-11-20"}]}"#;
    std::fs::write(dir.path().join("p.json"), prices).unwrap();
    let settings = reader(&[]).load(Some(&at)).expect("now they are").settings;
    assert_eq!(
        settings.agents[0].manifest_file.as_deref(),
        Some(dir.path().join("m.json").as_path())
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let dir = tempfile::tempdir().unwrap();
    assert!(reader(&[]).load(Some(&dir.path().join("absent.toml"))).is_err());
    assert!(reader(&[]).load(Some(dir.path())).is_err());
    std::fs::write(dir.path().join("latin1"), b"[server]\n# caf\xe9\n").unwrap();
    let found = reader(&[])
        .load(Some(&dir.path().join("latin1")))
        .expect_err("not UTF-8");
    assert!(found.0[0].message.contains("from line 2 on"), "{found}");
}

#[test]
fn a_waiter_is_answered_before_its_request_times_out() {
    let found = problems("[ledger]\nhold_wait = \"5m\"\n");
    assert!(
        found.len() == 1 && found[0].starts_with("config.toml:2: ledger.hold_wait: server.request_timeout"),
        "{found:?}"
    );
}

proptest! {
    /// Cut, doubled and overwritten configs: whatever comes in, an answer comes out.
    #[test]
    fn no_mutation_panics(
        cut in 0_usize..800, length in 0_usize..40, insert in "[-\\[\\]{}=\"'#.,a-z0-9\n\t é]{0,12}", whole in any::<bool>()
    ) {
        let base = if whole { BUILT_IN.to_owned() + SOUND } else { SOUND.to_owned() };
        let at = (cut * base.len() / 800).min(base.len());
        let start = (0..=at).rev().find(|&i| base.is_char_boundary(i)).unwrap_or(0);
        let end = ((start + length).min(base.len())..=base.len()).find(|&i| base.is_char_boundary(i)).unwrap_or(base.len());
        let text = format!("{}{insert}{}", &base[..start], &base[end..]);
        if let Err(problems) = parse(&text) {
            prop_assert!(problems.errors().next().is_some(), "refused without a reason");
        }
    }

    #[test]
    fn no_environment_panics(section in "[A-Z_]{0,12}", key in "[A-Z_]{0,20}", value in ".{0,30}") {
        let _ = reader(&[(&format!("BACKSTOP__{section}__{key}"), &value)]).load(None);
    }
}
