//! What a test puts into the emulator's account: roles with sessions, users with keys, instances.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{
    AttributeBooleanValue, IamInstanceProfileSpecification, InstanceType, ResourceType, Tag, TagSpecification,
};
use aws_sdk_iam::types::StatusType;
use backstop::cloud::aws::AwsSettings;

use super::moto::{ACCOUNT, Keys, Moto};
use super::permitted::arn_of;

const ANYBODY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
const EVERYTHING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// Time limits for a machine that is building at the same time; no test asserts a duration.
pub fn patient() -> AwsSettings {
    AwsSettings {
        connect_timeout: Duration::from_secs(20),
        attempt_timeout: Duration::from_secs(50),
        operation_timeout: Duration::from_secs(55),
        ..AwsSettings::default()
    }
}

/// An account, seen by its administrator past any proxy.
#[derive(Debug)]
pub struct Account<'a> {
    moto: &'a Moto,
    admin: Keys,
    iam: aws_sdk_iam::Client,
}

impl<'a> Account<'a> {
    pub fn new(moto: &'a Moto, admin: &Keys) -> Self {
        Self {
            moto,
            iam: aws_sdk_iam::Client::new(&moto.sdk(admin, "us-east-1")),
            admin: admin.clone(),
        }
    }

    pub fn iam(&self) -> &aws_sdk_iam::Client {
        &self.iam
    }

    pub fn ec2(&self, region: &str) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(&self.moto.sdk(&self.admin, region))
    }

    /// A role that may do everything and that anybody may assume; its ARN.
    pub async fn role(&self, path: &str, name: &str) -> String {
        self.role_trusting(path, name, ANYBODY).await
    }

    pub async fn role_trusting(&self, path: &str, name: &str, trust: &str) -> String {
        let request = self.iam.create_role().role_name(name).path(path);
        let role = request
            .assume_role_policy_document(trust)
            .send()
            .await
            .expect("CreateRole");
        let put = self.iam.put_role_policy().role_name(name).policy_name("work");
        put.policy_document(EVERYTHING).send().await.expect("PutRolePolicy");
        role.role().expect("a created role is returned").arn().to_owned()
    }

    /// An instance profile with the role in it; its ARN.
    pub async fn profile(&self, name: &str, role: &str) -> String {
        let request = self.iam.create_instance_profile().instance_profile_name(name);
        let profile = request.send().await.expect("CreateInstanceProfile");
        let add = self.iam.add_role_to_instance_profile().instance_profile_name(name);
        add.role_name(role).send().await.expect("AddRoleToInstanceProfile");
        let profile = profile.instance_profile().expect("a created profile is returned");
        profile.arn().to_owned()
    }

    /// A user who may do everything, with one active key; its ARN and key.
    pub async fn user(&self, path: &str, name: &str) -> (String, Keys) {
        let user = self
            .iam
            .create_user()
            .user_name(name)
            .path(path)
            .send()
            .await
            .expect("CreateUser");
        let put = self.iam.put_user_policy().user_name(name).policy_name("work");
        put.policy_document(EVERYTHING).send().await.expect("PutUserPolicy");
        let arn = user.user().expect("a created user is returned").arn().to_owned();
        (arn, self.access_key(name).await)
    }

    pub async fn access_key(&self, user: &str) -> Keys {
        let answer = self
            .iam
            .create_access_key()
            .user_name(user)
            .send()
            .await
            .expect("CreateAccessKey");
        let key = answer.access_key().expect("a created key is returned");
        Keys {
            id: key.access_key_id().to_owned(),
            secret: key.secret_access_key().to_owned(),
            token: None,
        }
    }

    pub async fn set_key(&self, user: &str, key: &str, status: StatusType) {
        let request = self.iam.update_access_key().user_name(user).access_key_id(key);
        request.status(status).send().await.expect("UpdateAccessKey");
    }

    /// A session of the role, as the agent holds one.
    pub async fn session(&self, role_arn: &str) -> Keys {
        let sts = aws_sdk_sts::Client::new(&self.moto.sdk(&self.admin, "us-east-1"));
        let request = sts.assume_role().role_arn(role_arn).role_session_name("run-1");
        let answer = request.send().await.expect("AssumeRole");
        let issued = answer.credentials().expect("a session has credentials");
        Keys {
            id: issued.access_key_id().to_owned(),
            secret: issued.secret_access_key().to_owned(),
            token: Some(issued.session_token().to_owned()),
        }
    }

    /// Running instances with these tags; their ids.
    pub async fn instances(&self, region: &str, count: i32, tags: &[(&str, &str)]) -> Vec<String> {
        self.launch(region, count, tags, None).await
    }

    /// Running instances with these tags and, if one is given, this instance profile.
    pub async fn launch(&self, region: &str, count: i32, tags: &[(&str, &str)], profile: Option<&str>) -> Vec<String> {
        let mut ids = Vec::new();
        // The emulator gives the profile to the first instance of a request only.
        let (requests, each) = if profile.is_some() { (count, 1) } else { (1, count) };
        for _ in 0..requests {
            let mut request = self
                .ec2(region)
                .run_instances()
                .image_id("ami-12345678")
                .instance_type(InstanceType::T3Micro);
            if !tags.is_empty() {
                let tags = tags
                    .iter()
                    .map(|(key, value)| Tag::builder().key(*key).value(*value).build())
                    .collect();
                let spec = TagSpecification::builder()
                    .resource_type(ResourceType::Instance)
                    .set_tags(Some(tags));
                request = request.tag_specifications(spec.build());
            }
            if let Some(arn) = profile {
                request = request.iam_instance_profile(IamInstanceProfileSpecification::builder().arn(arn).build());
            }
            let answer = request
                .min_count(each)
                .max_count(each)
                .send()
                .await
                .expect("RunInstances");
            ids.extend(
                answer
                    .instances()
                    .iter()
                    .filter_map(|one| one.instance_id())
                    .map(str::to_owned),
            );
        }
        ids
    }

    /// Protects an instance against being stopped, or ends that.
    pub async fn protect(&self, region: &str, instance: &str, protected: bool) {
        let value = AttributeBooleanValue::builder().value(protected).build();
        let request = self.ec2(region).modify_instance_attribute().instance_id(instance);
        request
            .disable_api_stop(value)
            .send()
            .await
            .expect("ModifyInstanceAttribute");
    }

    /// The tags of every instance of the region, by its ARN.
    pub async fn tags(&self, region: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut pages = self.ec2(region).describe_instances().into_paginator().send();
        let mut all = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.expect("DescribeInstances");
            for instance in page.reservations().iter().flat_map(|one| one.instances()) {
                let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
                let tags = instance.tags().iter().map(|tag| (text(tag.key()), text(tag.value())));
                let stable_id = format!("instance:{region}/{}", text(instance.instance_id()));
                all.insert(arn_of(ACCOUNT, &stable_id), tags.collect());
            }
        }
        all
    }

    /// The state of every instance of the region, by id, terminated ones included.
    pub async fn states(&self, region: &str) -> BTreeMap<String, String> {
        let mut pages = self.ec2(region).describe_instances().into_paginator().send();
        let mut states = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.expect("DescribeInstances");
            for instance in page.reservations().iter().flat_map(|one| one.instances()) {
                let state = instance
                    .state()
                    .and_then(|state| state.name())
                    .map(|name| name.as_str().to_owned());
                let id = instance.instance_id().unwrap_or_default().to_owned();
                states.insert(id, state.unwrap_or_default());
            }
        }
        states
    }
}
