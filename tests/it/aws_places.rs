//! Credentials, region and endpoints from the usual AWS places, as the daemon's environment gives them.
//!
//! The SDK reads the process's environment, so each case is a process of its own: this test binary, run
//! for the one ignored test that looks.

use std::process::Command;
use std::time::Duration;

use backstop::cloud::aws::Aws;
use backstop::ports::Cloud as _;

use crate::harness::account::{Account, patient};
use crate::harness::fault_proxy::FaultProxy;
use crate::harness::moto::{Keys, Moto};
use crate::harness::process;

const LOOK: &str = "aws_places::look";

#[tokio::test]
#[ignore = "run by the tests below in an environment of theirs"]
async fn look() {
    let cloud = Aws::connect(patient()).await;
    println!("identity: {:?}", cloud.identity().await.map(|own| own.arn));
    println!("regions: {:?}", cloud.regions().await.map(|all| all.len() > 1));
    println!("instance: {:?}", cloud.own_instance().await);
}

async fn look_with(env: Vec<(String, String)>) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", LOOK, "--ignored", "--nocapture"]);
    #[expect(
        clippy::disallowed_methods,
        reason = "what is found here is taken away from the child"
    )]
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    command.envs(env);
    let run = move || process::run("look", command, dir.path(), Duration::from_secs(120));
    let output = tokio::task::spawn_blocking(run)
        .await
        .expect("running a command does not panic");
    let output = output.expect("the child ends");
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn the_environment_names_keys_region_and_endpoints() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let (arn, keys) = Account::new(&moto, &admin).user("/ops/", "ann").await;
    let said = look_with(moto.env(&keys, "eu-west-3")).await;
    assert!(said.contains(&format!("identity: Ok({arn:?})")), "{said}");
    assert!(said.contains("regions: Ok(true)"), "{said}");

    // One service somewhere else: only its requests go there, signed for the region that was named.
    let proxy = FaultProxy::start(moto.endpoint()).await;
    let mut env = moto.env(&keys, "eu-west-3");
    env.push(("AWS_ENDPOINT_URL_EC2".to_owned(), proxy.endpoint()));
    let said = look_with(env).await;
    assert!(said.contains("regions: Ok(true)"), "{said}");
    let asked: Vec<_> = proxy
        .take_asked()
        .into_iter()
        .map(|one| (one.service, one.region, one.action))
        .collect();
    assert_eq!(
        asked,
        [("ec2".to_owned(), "eu-west-3".to_owned(), "DescribeRegions".to_owned())]
    );
}

#[tokio::test]
async fn a_profile_of_the_config_files_is_used() {
    let moto = Moto::start().await;
    let admin = moto.enforce_iam().await;
    let (arn, keys) = Account::new(&moto, &admin).user("/", "profiled").await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("config");
    let text = format!(
        "[profile guard]\nregion = eu-north-1\nendpoint_url = {}\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        moto.endpoint(),
        keys.id,
        keys.secret
    );
    std::fs::write(&file, text).expect("the directory is ours");
    let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let said = look_with(vec![
        env("AWS_CONFIG_FILE", file.to_str().expect("a path in UTF-8")),
        env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        env("AWS_PROFILE", "guard"),
        env("AWS_EC2_METADATA_DISABLED", "true"),
    ])
    .await;
    assert!(said.contains(&format!("identity: Ok({arn:?})")), "{said}");
}

#[tokio::test]
async fn without_credentials_the_failure_names_them() {
    let moto = Moto::start().await;
    let mut env = moto.env(&Keys::any(), "eu-west-3");
    env.retain(|(name, _)| !name.contains("KEY"));
    let said = look_with(env).await;
    assert!(said.contains("identity: Err") && said.contains("credentials"), "{said}");
}

/// IMDSv2, as its user guide documents it: a token first, then the answer.
async fn metadata() -> (String, tokio::task::JoinSet<()>) {
    let app = axum::Router::new()
        .route(
            "/latest/api/token",
            axum::routing::put(async || ([("x-aws-ec2-metadata-token-ttl-seconds", "60")], "t0ken")),
        )
        .route(
            "/latest/meta-data/instance-id",
            axum::routing::get(async |headers: axum::http::HeaderMap| {
                match headers.get("x-aws-ec2-metadata-token").map(|token| token.as_bytes()) {
                    Some(b"t0ken") => (axum::http::StatusCode::OK, "i-0123456789abcdef0"),
                    _ => (axum::http::StatusCode::UNAUTHORIZED, ""),
                }
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port of the loopback");
    let endpoint = format!(
        "http://{}",
        listener.local_addr().expect("a bound socket has an address")
    );
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let _ = axum::serve(listener, app).await;
    });
    (endpoint, tasks)
}

#[tokio::test]
async fn the_daemon_knows_the_instance_that_it_runs_on() {
    let moto = Moto::start().await;
    let (endpoint, _tasks) = metadata().await;
    let mut env = moto.env(&Keys::any(), "eu-west-3");
    env.retain(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
    env.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), endpoint));
    let said = look_with(env.clone()).await;
    assert!(said.contains(r#"instance: Some("i-0123456789abcdef0")"#), "{said}");
    env.push(("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()));
    assert!(look_with(env).await.contains("instance: None"));
}
