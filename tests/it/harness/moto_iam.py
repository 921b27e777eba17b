"""What moto's IAM lacks and Backstop asks for: credentials of single services, and policy simulation.

Shapes and errors are those of AWS's model, which moto's own serializer applies. Of a simulation only what
the kill switch relies on is true here: an unconditional deny of everything, inline or attached, is an
explicit deny, and everything else is allowed. A key or credential that is inactive denies nothing in the
emulator, so what inactivity does is not shown by these tests; that it was asked for is.
"""

import json
import urllib.parse

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.iam.access_control import IAMRequestBase
from moto.iam.exceptions import NotFoundException
from moto.iam.models import ManagedPolicy
from moto.iam.responses import IamResponse


def credentials_of(user):
    if not hasattr(user, "service_specific_credentials"):
        user.service_specific_credentials = []
    return user.service_specific_credentials


def create_service_specific_credential(self):
    user = self.backend.get_user(self._get_param("UserName"))
    credentials = credentials_of(user)
    credential = {
        "CreateDate": utcnow(),
        "ServiceName": self._get_param("ServiceName"),
        "ServiceUserName": f"{user.name}-at-{self.current_account}",
        "ServiceSpecificCredentialId": f"ACCA{user.id[-10:]}{len(credentials):06d}",
        "UserName": user.name,
        "Status": "Active",
    }
    credentials.append(credential)
    return ActionResult({"ServiceSpecificCredential": credential})


def list_service_specific_credentials(self):
    user = self.backend.get_user(self._get_param("UserName"))
    wanted = self._get_param("ServiceName")
    found = [one for one in credentials_of(user) if wanted in (None, one["ServiceName"])]
    return ActionResult({"ServiceSpecificCredentials": found, "IsTruncated": False})


def update_service_specific_credential(self):
    user = self.backend.get_user(self._get_param("UserName"))
    wanted = self._get_param("ServiceSpecificCredentialId")
    for credential in credentials_of(user):
        if credential["ServiceSpecificCredentialId"] == wanted:
            credential["Status"] = self._get_param("Status")
            return EmptyResult()
    raise NotFoundException(f"No such credential {wanted} exists")


def denies_everything(document):
    if isinstance(document, str):
        document = json.loads(urllib.parse.unquote(document))
    statements = document["Statement"]
    for one in statements if isinstance(statements, list) else [statements]:
        unconditional = "Condition" not in one and one.get("Resource") in ("*", ["*"])
        if one["Effect"] == "Deny" and one.get("Action") in ("*", ["*"]) and unconditional:
            return True
    return False


def simulate_principal_policy(self):
    arn = self._get_param("PolicySourceArn")
    name = arn.split("/")[-1]
    of_role = ":role/" in arn
    principal = self.backend.get_role(name) if of_role else self.backend.get_user(name)
    documents = list(principal.policies.values())
    versions = [one for policy in principal.managed_policies.values() for one in policy.versions]
    documents += [version.document for version in versions if version.is_default]
    denied = any(denies_everything(document) for document in documents)
    # Asked about resources, IAM answers for each of them.
    resources = self._get_param("ResourceArns", []) or ["*"]
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": "explicitDeny" if denied else "allowed",
        }
        for action in self._get_param("ActionNames", [])
        for resource in resources
    ]
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})


attach = ManagedPolicy.attach_to


def attach_once(self, principal):
    """Attaching what is attached changes nothing in IAM; moto counts it again."""
    if self.arn not in principal.managed_policies:
        attach(self, principal)


rebuild = IAMRequestBase._create_aws_request


def as_it_came(self):
    """To check a signature moto builds the request anew. Of one by path (Lambda's) without a body, it takes the
    query, or the headers, for a form; it has none. And it takes the path decoded, where an ARN in it was signed as
    it was sent."""
    if self._method != "POST" and not self._body:
        self._data = b""
    before, tags, arn = self._path.partition("/tags/")
    if self._service == "lambda" and arn.startswith("arn:"):
        self._path = before + tags + urllib.parse.quote(arn, safe="")
    return rebuild(self)


def extend():
    ManagedPolicy.attach_to = attach_once
    IAMRequestBase._create_aws_request = as_it_came
    for function in (
        create_service_specific_credential,
        list_service_specific_credentials,
        update_service_specific_credential,
        simulate_principal_policy,
    ):
        if hasattr(IamResponse, function.__name__):
            raise RuntimeError(f"moto has {function.__name__} by now: take ours away")
        setattr(IamResponse, function.__name__, function)
