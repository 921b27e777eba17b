//! IAM ARNs: what names a role or user, and when two of them name the same one.

use crate::domain::containment::target::Principal;

/// A parsed `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IamArn<'a> {
    pub(super) partition: &'a str,
    pub(super) account: &'a str,
    pub(super) kind: Kind,
    /// With slashes on both ends; `/` is the ordinary one.
    pub(super) path: &'a str,
    pub(super) name: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Role,
    User,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::User => "user",
        }
    }
}

/// What IAM takes for one principal: names are unique in an account without their path, and without
/// regard to case.
pub(super) type Identity = (String, String, Kind, String);

impl<'a> IamArn<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let ("arn", partition, "iam", "", account, resource) = (next()?, next()?, next()?, next()?, next()?, next()?)
        else {
            return None;
        };
        let (kind, rest) = resource.split_once('/')?;
        let kind = match kind {
            "role" => Kind::Role,
            "user" => Kind::User,
            _ => return None,
        };
        // `resource` without the kind: "/path/name", from the slash that ended the kind.
        let rest_with_slash = &resource[kind.as_str().len()..];
        let (path, name) = rest_with_slash.split_at(rest_with_slash.rfind('/')? + 1);
        let partition_ok =
            partition.starts_with("aws") && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let name_ok = !name.is_empty()
            && name.len() <= 64
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b));
        let path_ok = path.len() <= 512 && !path.contains("//") && path.bytes().all(|b| b.is_ascii_graphic());
        let ok = partition_ok && name_ok && path_ok && super::values::is_account(account) && !rest.is_empty();
        ok.then_some(Self {
            partition,
            account,
            kind,
            path,
            name,
        })
    }

    /// Why nobody but AWS can change this principal, if that is so.
    pub(super) fn managed_by_aws(&self) -> Option<&'static str> {
        if self.path.starts_with("/aws-service-role/") {
            Some("a service-linked role, whose policies only AWS can change")
        } else if self.path.starts_with("/aws-reserved/") {
            Some("a role of IAM Identity Center, whose policies only AWS can change")
        } else {
            None
        }
    }

    pub(super) fn identity(&self) -> Identity {
        (
            self.partition.to_owned(),
            self.account.to_owned(),
            self.kind,
            self.name.to_ascii_lowercase(),
        )
    }

    pub(super) fn principal(&self, text: &str) -> Principal {
        match self.kind {
            Kind::Role => Principal::Role(text.to_owned()),
            Kind::User => Principal::User(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_roles_and_users() {
        let arn = IamArn::parse("arn:aws:iam::123456789012:role/agents/eu/Transcriber").expect("well formed");
        assert_eq!(
            (arn.kind, arn.path, arn.name),
            (Kind::Role, "/agents/eu/", "Transcriber")
        );
        let plain = IamArn::parse("arn:aws:iam::123456789012:role/transcriber").expect("well formed");
        assert_eq!(plain.path, "/");
        assert_eq!(
            arn.identity(),
            plain.identity(),
            "the path and case do not tell principals apart"
        );
        assert!(IamArn::parse("arn:aws-cn:iam::123456789012:user/bob").is_some());
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "arn:aws:iam::123:role/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role",
            "arn:aws:iam:us-east-1:123456789012:role/x",
            "arn:aws:iam::123456789012:group/x",
            "arn:aws:sts::123456789012:assumed-role/x/session",
            "arn:aws:iam::123456789012:role/a b",
            "arn:aws:iam::123456789012:root",
        ] {
            assert_eq!(IamArn::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(arn:aws:iam::123456789012:(role|user))?[/:a-zé]{0,20}") {
            let _ = IamArn::parse(&text);
        }
    }
}
