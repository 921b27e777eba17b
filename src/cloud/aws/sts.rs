//! STS: who the daemon is.

use aws_config::SdkConfig;
use aws_sdk_sts::Client;
use aws_sdk_sts::config::Builder;
use sha2::{Digest as _, Sha256};

use super::elsewhere;
use super::error::Call;
use crate::domain::containment::observed::Identity;
use crate::domain::containment::target::Region;
use crate::ports::CloudError;

#[derive(Debug)]
pub(super) struct Sts {
    /// The home region's first.
    clients: Vec<(Region, Client)>,
}

impl Sts {
    pub(super) fn new(sdk: &SdkConfig, home: &Region) -> Self {
        let client = |region: Region| {
            let config = Builder::from(sdk).region(aws_config::Region::new(region.0.clone()));
            (region, Client::from_conf(config.build()))
        };
        Self {
            clients: elsewhere::candidates(home).into_iter().map(client).collect(),
        }
    }

    /// The caller as STS names it: a user, the root, or a session.
    pub(super) async fn caller(&self) -> Result<Identity, CloudError> {
        let regions = self.clients.iter().map(|(region, _)| region.clone()).collect();
        elsewhere::first_answer(regions, |region| async move { self.caller_in(&region).await }).await
    }

    async fn caller_in(&self, region: &Region) -> Result<Identity, CloudError> {
        let call = Call::read("sts:GetCallerIdentity").within(region);
        let client = self.clients.iter().find(|(of, _)| of == region);
        let (_, client) = client.ok_or_else(|| call.nonsense("it has no client"))?;
        let answer = client.get_caller_identity().send().await.map_err(|e| call.failed(e))?;
        match (answer.account, answer.arn) {
            (Some(account), Some(arn)) => Ok(Identity { account, arn }),
            _ => Err(call.nonsense("the answer names no account or no caller")),
        }
    }
}

/// A mark of credentials: a digest of the access key's id, which is no secret, but nobody's business.
pub(super) fn mark(access_key_id: &str) -> String {
    let digest = Sha256::new()
        .chain_update("backstop credentials ")
        .chain_update(access_key_id)
        .finalize();
    hex::encode(digest)
}

/// The instance behind `…:assumed-role/NAME/i-…`: EC2 names the sessions of an instance's role so.
pub(super) fn session_instance(arn: &str) -> Option<&str> {
    session_role(arn)?;
    let session = arn.rsplit('/').next()?;
    let digits = session.strip_prefix("i-")?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (matches!(digits.len(), 8 | 17) && digits.bytes().all(is_hex)).then_some(session)
}

/// A role as its session names it: without its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SessionRole<'a> {
    partition: &'a str,
    account: &'a str,
    pub(super) name: &'a str,
}

impl SessionRole<'_> {
    /// The role's ARN if it has no path.
    pub(super) fn pathless_arn(&self) -> String {
        format!("arn:{}:iam::{}:role/{}", self.partition, self.account, self.name)
    }
}

/// The role of `arn:PARTITION:sts::ACCOUNT:assumed-role/NAME/SESSION`; `None` for another kind of caller.
pub(super) fn session_role(arn: &str) -> Option<SessionRole<'_>> {
    let mut parts = arn.splitn(6, ':');
    let (scheme, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (_region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let name = resource.strip_prefix("assumed-role/")?.split('/').next()?;
    (scheme == "arn" && service == "sts" && !name.is_empty()).then_some(SessionRole {
        partition,
        account,
        name,
    })
}

/// Whether a role's ARN is, but for the path, the one of the session. The look-up by name asks our own
/// account, which is the session's account, unless an endpoint mixes accounts up.
pub(super) fn is_same_role(arn: &str, session: &SessionRole<'_>) -> bool {
    let prefix = format!("arn:{}:iam::{}:role/", session.partition, session.account);
    arn.strip_prefix(&prefix)
        .and_then(|path_and_name| path_and_name.rsplit('/').next())
        .is_some_and(|name| name == session.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_credentials_apart_and_nothing_of_them() {
        assert_eq!(mark("AKIAEXAMPLE"), mark("AKIAEXAMPLE"));
        assert_ne!(mark("AKIAEXAMPLE"), mark("ASIAEXAMPLE"));
        assert!(!mark("AKIAEXAMPLE").to_uppercase().contains("EXAMPLE"));
    }

    #[test]
    fn an_instance_role_names_its_instance() {
        let session = |name: &str| format!("arn:aws:sts::123456789012:assumed-role/backstop/{name}");
        let ours = session("i-0123456789abcdef0");
        assert_eq!(session_instance(&ours), Some("i-0123456789abcdef0"));
        for other in ["alice", "i-", "i-xyz", "i-0123456789ABCDEF0"] {
            assert_eq!(session_instance(&session(other)), None, "{other}");
        }
        assert_eq!(
            session_instance("arn:aws:iam::123456789012:user/i-0123456789abcdef0"),
            None
        );
    }

    #[test]
    fn a_session_is_reduced_to_its_role() {
        let role = session_role("arn:aws-cn:sts::123456789012:assumed-role/guard/i-0abc").expect("a session");
        assert_eq!(role.name, "guard");
        assert_eq!(role.pathless_arn(), "arn:aws-cn:iam::123456789012:role/guard");
        assert!(is_same_role("arn:aws-cn:iam::123456789012:role/ops/deep/guard", &role));
        assert!(is_same_role("arn:aws-cn:iam::123456789012:role/guard", &role));
        assert!(!is_same_role(
            "arn:aws-cn:iam::123456789012:role/ops/other-guard",
            &role
        ));
        assert!(!is_same_role("arn:aws-cn:iam::210987654321:role/guard", &role));
    }

    #[test]
    fn other_callers_are_not_sessions() {
        for arn in [
            "arn:aws:iam::123456789012:user/ops/ann",
            "arn:aws:iam::123456789012:root",
            "arn:aws:sts::123456789012:federated-user/ann",
            "arn:aws:iam::123456789012:assumed-role/x/y",
            "arn:aws:sts::123456789012:assumed-role/",
            "nonsense",
            "",
        ] {
            assert_eq!(session_role(arn), None, "{arn}");
        }
    }
}
