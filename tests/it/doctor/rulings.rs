//! A ruling is read as IAM writes it: whose boundary, whose organisation, which keys were missing.

use backstop::cloud::aws::{Aws, AwsSettings};
use backstop::domain::containment::target::{Principal, Region};
use backstop::domain::iam::simulation::{Decision, Key, Question};
use backstop::ports::Cloud as _;

use crate::harness::account::patient;
use crate::harness::fault_proxy::{Fault, FaultProxy, Rule};
use crate::harness::moto::{Keys, Moto};

const REGION: &str = "eu-central-1";

/// The parts of an answer that the API's documentation names (EvaluationResult, ResourceSpecificResult).
const ANSWER: &str = "<SimulatePrincipalPolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>\
<member><EvalActionName>iam:PutRolePolicy</EvalActionName><EvalResourceName>r</EvalResourceName>\
<EvalDecision>implicitDeny</EvalDecision>\
<PermissionsBoundaryDecisionDetail><AllowedByPermissionsBoundary>false</AllowedByPermissionsBoundary>\
</PermissionsBoundaryDecisionDetail></member>\
<member><EvalActionName>iam:GetRole</EvalActionName><EvalResourceName>r</EvalResourceName>\
<EvalDecision>implicitDeny</EvalDecision>\
<OrganizationsDecisionDetail><AllowedByOrganizations>false</AllowedByOrganizations></OrganizationsDecisionDetail>\
<ResourceSpecificResults><member><EvalResourceName>r</EvalResourceName>\
<EvalResourceDecision>implicitDeny</EvalResourceDecision>\
<MissingContextValues><member>aws:SourceVpc</member></MissingContextValues></member></ResourceSpecificResults></member>\
<member><EvalActionName>iam:GetRolePolicy</EvalActionName><EvalResourceName>r</EvalResourceName>\
<EvalDecision>explicitDeny</EvalDecision><MatchedStatements><member><SourcePolicyId>no-iam</SourcePolicyId>\
</member></MatchedStatements></member>\
<member><EvalActionName>iam:ListRolePolicies</EvalActionName><EvalResourceName>r</EvalResourceName>\
<EvalDecision>allowed</EvalDecision></member>\
</EvaluationResults></SimulatePrincipalPolicyResult>\
<ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>";

#[tokio::test]
async fn a_ruling_is_read_as_iam_writes_it() {
    let moto = Moto::start().await;
    let proxy = FaultProxy::start(moto.endpoint()).await;
    let settings = AwsSettings {
        regions: vec![Region(REGION.to_owned())],
        endpoint_url: Some(proxy.endpoint()),
        ..patient()
    };
    let cloud = Aws::new(moto.sdk(&Keys::any(), REGION), settings);
    proxy.inject(Rule::on("SimulatePrincipalPolicy", Fault::Answer(ANSWER)));
    let role = Principal::Role("arn:aws:iam::123456789012:role/backstop/guard".to_owned());
    let question = Question {
        actions: vec!["iam:PutRolePolicy".to_owned(), "iam:GetRole".to_owned()],
        resource: "arn:aws:iam::123456789012:role/agents/a".to_owned(),
        keys: vec![
            Key::text("aws:RequestedRegion", REGION),
            Key::yes("kms:GrantIsForAWSResource"),
        ],
    };
    let rulings = cloud.rule(&role, &question).await.expect("it is read");
    let decisions: Vec<Decision> = rulings.iter().map(|one| one.decision).collect();
    assert_eq!(
        decisions,
        [
            Decision::NotAllowed,
            Decision::NotAllowed,
            Decision::Denied,
            Decision::Allowed
        ]
    );
    assert_eq!(
        (rulings[0].boundary_allows, rulings[0].organisation_allows),
        (Some(false), None)
    );
    assert_eq!(
        (rulings[1].boundary_allows, rulings[1].organisation_allows),
        (None, Some(false))
    );
    assert_eq!(rulings[1].missing_keys, ["aws:SourceVpc"]);
    assert_eq!(rulings[2].by, ["no-iam"]);
    let asked = proxy.take_asked().remove(0);
    for (name, value) in [
        ("PolicySourceArn", role.arn()),
        ("ActionNames.member.2", "iam:GetRole"),
        ("ResourceArns.member.1", question.resource.as_str()),
        ("ContextEntries.member.1.ContextKeyName", "aws:RequestedRegion"),
        ("ContextEntries.member.1.ContextKeyType", "string"),
        ("ContextEntries.member.2.ContextKeyValues.member.1", "true"),
        ("ContextEntries.member.2.ContextKeyType", "boolean"),
    ] {
        assert_eq!(asked.params[name], value, "{name}");
    }
}
