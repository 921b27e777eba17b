//! The AWS emulator: one moto server a test, so that no test sees another's account.
//!
//! Moto is true for what these tests ask of it: unconditional allows and denies, tags, stop and start.
//! It is not for inactive keys, boundaries and conditions; there a test asserts the exact request
//! instead (`start_recording`, `recorded`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_iam::config::{Credentials, SharedCredentialsProvider};
use base64::Engine as _;
use serde::Deserialize;
use tempfile::TempDir;

use super::process::Process;
use super::{venv, wait};

const SERVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/moto_serve.py");

/// How long the emulator may take to listen, on a machine that is building at the same time.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The account that moto gives to callers it does not know.
pub const ACCOUNT: &str = "123456789012";

/// A running emulator; dropping it stops the server.
#[derive(Debug)]
pub struct Moto {
    process: Process,
    endpoint: String,
    http: reqwest::Client,
    /// Its working directory, which goes after the process has gone.
    _dir: TempDir,
}

/// An access key, as a test hands it to an SDK client or to the daemon's environment.
#[derive(Debug, Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Keys {
    /// What an emulator that enforces nothing accepts.
    pub fn any() -> Self {
        Self {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        }
    }
}

impl Moto {
    /// Starts a server with an empty account.
    pub async fn start() -> Self {
        let python = venv::python().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port_file = dir.path().join("port");
        let mut command = Command::new(python);
        command.arg(SERVE).arg(&port_file).current_dir(dir.path());
        for inherited in ["PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"] {
            command.env_remove(inherited);
        }
        command
            .env("MOTO_RECORDER_FILEPATH", recording_in(&dir))
            // The sources are no place for what an interpreter makes of them.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Instances here start from an id; the catalogue of images costs a second a region.
            .env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false");
        let mut process = Process::start("moto", command, dir.path()).expect("the interpreter was tried");
        let port: u16 = wait::until("the emulator to listen", START_LIMIT, async || {
            if let Some(status) = process.ended() {
                panic!("the emulator ended with {status}\n{}", process.output());
            }
            std::fs::read_to_string(&port_file).ok()?.trim().parse().ok()
        })
        .await;
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()
            .expect("a client without settings can be built");
        Self {
            process,
            endpoint: format!("http://127.0.0.1:{port}"),
            http,
            _dir: dir,
        }
    }

    /// Where an SDK client sends its requests.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What the server has written, for a failure's message.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Forgets every resource; the enforcement of IAM stays as it is.
    pub async fn reset(&self) {
        self.post("reset", String::new()).await;
    }

    /// Creates a user who may do everything, then turns on the enforcement of IAM.
    ///
    /// From here a request without a known key is refused, and a role's session may do what the role's
    /// policies say at the time of the request, which is what a containment must change.
    pub async fn enforce_iam(&self) -> Keys {
        let iam = aws_sdk_iam::Client::new(&self.sdk(&Keys::any(), "us-east-1"));
        let name = "backstop-test-admin";
        iam.create_user().user_name(name).send().await.expect("CreateUser");
        let everything = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        iam.put_user_policy()
            .user_name(name)
            .policy_name("everything")
            .policy_document(everything)
            .send()
            .await
            .expect("PutUserPolicy");
        let key = iam
            .create_access_key()
            .user_name(name)
            .send()
            .await
            .expect("CreateAccessKey");
        let key = key.access_key().expect("a created key is returned");
        self.post("reset-auth", "0".to_owned()).await;
        Keys {
            id: key.access_key_id().to_owned(),
            secret: key.secret_access_key().to_owned(),
            token: None,
        }
    }

    /// What an SDK client of any service needs to talk to this server.
    pub fn sdk(&self, keys: &Keys, region: &str) -> SdkConfig {
        let credentials = Credentials::new(&keys.id, &keys.secret, keys.token.clone(), None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    /// The same as environment variables, for a process that reads the usual AWS places.
    pub fn env(&self, keys: &Keys, region: &str) -> Vec<(String, String)> {
        let mut env = vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", keys.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", keys.secret.clone()),
            ("AWS_REGION", region.to_owned()),
            // What this machine's user has set up must not reach a test.
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        if let Some(token) = &keys.token {
            env.push(("AWS_SESSION_TOKEN", token.clone()));
        }
        env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// From here every request is recorded, after forgetting what was.
    pub async fn start_recording(&self) {
        self.post("recorder/reset-recording", String::new()).await;
        self.post("recorder/start-recording", String::new()).await;
    }

    /// Ends the recording and returns it in the order of arrival.
    pub async fn recorded(&self) -> Vec<Recorded> {
        self.post("recorder/stop-recording", String::new()).await;
        let url = format!("{}/moto-api/recorder/download-recording", self.endpoint);
        let answer = self.http.get(url).send().await.expect("the emulator answers");
        let text = answer.text().await.expect("a recording is text");
        text.lines()
            .map(|line| {
                let entry: Entry = serde_json::from_str(line).expect("a recorded request is JSON");
                let body = if entry.body_encoded {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(&entry.body)
                        .expect("base64");
                    String::from_utf8_lossy(&bytes).into_owned()
                } else {
                    entry.body
                };
                let header = |name: &str| entry.headers.get(name).cloned().unwrap_or_default();
                Recorded {
                    method: entry.method.clone(),
                    authorization: header("Authorization"),
                    target: header("X-Amz-Target"),
                    body,
                }
            })
            .collect()
    }

    async fn post(&self, path: &str, body: String) {
        let url = format!("{}/moto-api/{path}", self.endpoint);
        let request = self.http.post(url).header("content-type", "text/plain").body(body);
        let answer = request.send().await.expect("the emulator answers");
        assert!(
            answer.status().is_success(),
            "{path}: {}\n{}",
            answer.status(),
            self.log()
        );
    }
}

/// A request as the emulator received it.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub method: String,
    /// The signature's header: its credential scope names the key, the region and the service.
    pub authorization: String,
    /// The operation, for the APIs that are asked in JSON: `Service.Operation`.
    pub target: String,
    /// For the query APIs (IAM, EC2, STS) a form: `Action=CreateUser&...`.
    pub body: String,
}

impl Recorded {
    /// Whether it only reads, or tries without doing.
    pub fn only_asks(&self) -> bool {
        let form = self.field("Action");
        let named = self.target.rsplit('.').next().filter(|target| !target.is_empty());
        let Some(action) = form.as_deref().or(named) else {
            // Lambda is asked by paths.
            return self.method == "GET";
        };
        let reads = ["Describe", "Get", "List", "Lookup", "Simulate"];
        reads.iter().any(|verb| action.starts_with(verb)) || self.field("DryRun").as_deref() == Some("true")
    }

    /// A field of the form, decoded.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut fields = self.body.split('&').filter_map(|field| field.split_once('='));
        let (_, value) = fields.find(|(found, _)| *found == name)?;
        Some(percent_decoded(value))
    }
}

/// `%7B` and `+` as a form writes them.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next(), rest.next()].map(Option::unwrap_or_default);
                let mut decoded = [0];
                hex::decode_to_slice(digits, &mut decoded).expect("two hexadecimal digits follow a percent sign");
                bytes.extend(decoded);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of moto's recording.
#[derive(Debug, Deserialize)]
struct Entry {
    method: String,
    headers: BTreeMap<String, String>,
    body: String,
    body_encoded: bool,
}

fn recording_in(dir: &TempDir) -> PathBuf {
    dir.path().join("recording")
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::InstanceType;
    use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;

    use super::*;

    /// What moto says where EC2 would say `UnauthorizedOperation`.
    const REFUSED: &str = "AccessDenied";
    const ALLOW_DESCRIBE: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:DescribeInstances","Resource":"*"}]}"#;
    const DENY_EVERYTHING: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#;
    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;

    /// The premise of the whole containment test: a session that was issued before the deny is refused
    /// after it, and works again once the deny is gone.
    #[tokio::test]
    async fn an_issued_session_obeys_the_role_as_it_is_now() {
        let moto = Moto::start().await;
        let admin = moto.enforce_iam().await;
        let iam = aws_sdk_iam::Client::new(&moto.sdk(&admin, "us-east-1"));
        let role = iam
            .create_role()
            .role_name("transcriber")
            .path("/agents/")
            .assume_role_policy_document(TRUST)
            .send()
            .await
            .expect("CreateRole");
        let put = |name: &str, document: &str| {
            iam.put_role_policy()
                .role_name("transcriber")
                .policy_name(name)
                .policy_document(document)
                .send()
        };
        put("work", ALLOW_DESCRIBE).await.expect("PutRolePolicy");
        let session = aws_sdk_sts::Client::new(&moto.sdk(&admin, "us-east-1"))
            .assume_role()
            .role_arn(role.role().expect("a created role is returned").arn())
            .role_session_name("run-1")
            .send()
            .await
            .expect("AssumeRole");
        let issued = session.credentials().expect("a session has credentials");
        let agent = aws_sdk_ec2::Client::new(&moto.sdk(
            &Keys {
                id: issued.access_key_id().to_owned(),
                secret: issued.secret_access_key().to_owned(),
                token: Some(issued.session_token().to_owned()),
            },
            "eu-central-1",
        ));

        agent.describe_instances().send().await.expect("the role allows it");
        let refused = agent
            .describe_volumes()
            .send()
            .await
            .expect_err("the role does not allow it");
        assert_eq!(refused.code(), Some(REFUSED));

        put("backstop-deny", DENY_EVERYTHING).await.expect("PutRolePolicy");
        let refused = agent.describe_instances().send().await.expect_err("the role is denied");
        assert_eq!(refused.code(), Some(REFUSED));

        iam.delete_role_policy()
            .role_name("transcriber")
            .policy_name("backstop-deny")
            .send()
            .await
            .expect("DeleteRolePolicy");
        agent.describe_instances().send().await.expect("the deny is lifted");
    }

    #[tokio::test]
    async fn a_key_that_the_account_does_not_know_is_refused_once_iam_is_enforced() {
        let moto = Moto::start().await;
        let stranger = aws_sdk_iam::Client::new(&moto.sdk(&Keys::any(), "us-east-1"));
        stranger.list_users().send().await.expect("nothing is enforced yet");
        moto.enforce_iam().await;
        stranger.list_users().send().await.expect_err("an unknown key");
    }

    #[tokio::test]
    async fn two_servers_share_nothing_and_a_reset_forgets() {
        let (one, other) = tokio::join!(Moto::start(), Moto::start());
        assert_ne!(one.endpoint(), other.endpoint());
        let ec2 = |moto: &Moto| aws_sdk_ec2::Client::new(&moto.sdk(&Keys::any(), "eu-central-1"));
        let started = ec2(&one)
            .run_instances()
            .image_id("ami-12345678")
            .instance_type(InstanceType::M8g12xlarge)
            .min_count(3)
            .max_count(3)
            .send()
            .await
            .expect("RunInstances");
        assert_eq!(started.instances().len(), 3);
        assert_eq!(started.owner_id(), Some(ACCOUNT));
        let count = async |moto: &Moto| {
            let answer = ec2(moto).describe_instances().send().await.expect("DescribeInstances");
            answer.reservations().iter().map(|r| r.instances().len()).sum::<usize>()
        };
        assert_eq!((count(&one).await, count(&other).await), (3, 0));
        one.reset().await;
        assert_eq!(count(&one).await, 0);
    }

    #[tokio::test]
    async fn a_recording_holds_the_requests_as_they_were_sent() {
        let moto = Moto::start().await;
        let keys = Keys {
            token: Some("a-token".to_owned()),
            ..Keys::any()
        };
        let iam = aws_sdk_iam::Client::new(&moto.sdk(&keys, "us-east-1"));
        iam.list_users().send().await.expect("ListUsers");
        moto.start_recording().await;
        iam.create_user()
            .user_name("re=corded")
            .send()
            .await
            .expect("CreateUser");
        let recorded = moto.recorded().await;
        iam.list_users().send().await.expect("ListUsers");
        assert_eq!(recorded.len(), 1, "{recorded:?}");
        assert_eq!(recorded[0].field("Action").as_deref(), Some("CreateUser"));
        assert_eq!(recorded[0].field("UserName").as_deref(), Some("re=corded"));
        assert_eq!(recorded[0].field("Path"), None);
        assert!(recorded[0].authorization.contains("/us-east-1/iam/"), "{recorded:?}");

        let env = moto.env(&keys, "eu-central-1");
        assert!(env.contains(&("AWS_ENDPOINT_URL".to_owned(), moto.endpoint().to_owned())));
        assert!(env.contains(&("AWS_SESSION_TOKEN".to_owned(), "a-token".to_owned())));
    }
}
