//! Credentials, region and endpoints from the usual AWS places, as the daemon's environment gives them.
//!
//! The SDK reads the process's environment, so each case is a process of its own: this test binary, run
//! for the one ignored test that looks.

use std::process::Command;
use std::time::Duration;

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::ports::Cloud as _;

use crate::harness::account::Account;
use crate::harness::fault_proxy::FaultProxy;
use crate::harness::moto::{Keys, Moto};
use crate::harness::process;

const LOOK: &str = "aws_places::look";

#[tokio::test]
#[ignore = "run by the tests below in an environment of theirs"]
async fn look() {
    let cloud = Aws::connect(AwsSettings::default()).await;
    println!("identity: {:?}", cloud.identity().await.map(|own| own.arn));
    println!("regions: {:?}", cloud.regions().await.map(|all| all.len() > 1));
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
