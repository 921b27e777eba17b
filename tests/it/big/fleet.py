"""Builds the account of the big tests in the emulator, and reads everything that is in it.

It speaks to the emulator by boto3, which shares no code with what is tested.

    fleet.py build ENDPOINT KEY SECRET   makes the account; tells whose everything is, as JSON
    fleet.py read ENDPOINT KEY SECRET    tells every field of everything there is, as JSON

One agent, `scaler`, has 500 machines over three regions, 12 Auto Scaling groups, 30 ECS services and 40
functions, among two other agents and things that are nobody's. A tenth of its machines, and some of the rest, carry no
ownership tag: they are its own by the instance profile or role that they act with, by their group, or by who
made them alone.
"""

import io
import json
import sys
import zipfile
from datetime import datetime, timezone

import boto3
from botocore.config import Config

REGIONS = ["eu-central-1", "eu-west-1", "us-east-1"]
AGENT = "scaler"
OTHERS = ["planner", "reviewer"]
TAG = "backstop:agent"
TYPES = ["t3.micro", "m5.large", "c5.xlarge", "m8g.12xlarge"]
ACCOUNT = "123456789012"

EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
BY_ADMIN = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/backstop-test-admin"},
            "Action": "sts:AssumeRole",
        }
    ],
}

# Of the agent in each region: machines that stand alone and carry its tag, that carry its instance profile,
# that only the record of calls names. With 4 groups of 10 machines a region that makes 500.
ALONE = [114, 113, 113]
BY_PROFILE = [7, 7, 6]
BY_CREATOR = [7, 7, 6]
GROUPS = 4
MEMBERS = 10
CLUSTERS = 2
SERVICES = 5
FUNCTIONS = [14, 13, 13]


class Account:
    def __init__(self, endpoint, key, secret):
        self.session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret)
        self.endpoint = endpoint
        self.clients = {}

    def of(self, service, region="us-east-1"):
        at = (service, region)
        if at not in self.clients:
            config = Config(retries={"max_attempts": 1}, read_timeout=120, proxies={})
            self.clients[at] = self.session.client(
                service, region_name=region, endpoint_url=self.endpoint, config=config
            )
        return self.clients[at]


def owned(owner, **more):
    tags = dict(more)
    if owner:
        tags[TAG] = owner
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("main.py", "def run(event, context):\n    return event\n")
    return file.getvalue()


class Builder:
    """What is made is noted by whose it is: `of[owner][kind]` has stable ids, as Backstop tells them."""

    def __init__(self, account):
        self.account = account
        self.of = {}
        # What the record of calls says: region -> call -> owner -> what was made.
        self.trail = {}
        self.tags = {}
        self.untagged = []
        self.profiles = {}

    def note(self, owner, kind, region, name, tagged):
        stable = f"{kind}:{region}/{name}"
        self.of.setdefault(owner, {}).setdefault(kind, []).append(stable)
        self.tags[stable] = {TAG: owner} if tagged else {}
        if owner == AGENT and not tagged:
            self.untagged.append(stable)

    def people(self):
        iam = self.account.of("iam")
        for name in [AGENT, *OTHERS]:
            iam.create_role(RoleName=name, Path="/agents/", AssumeRolePolicyDocument=json.dumps(BY_ADMIN))
            iam.put_role_policy(RoleName=name, PolicyName="work", PolicyDocument=json.dumps(EVERYTHING))
            made = iam.create_instance_profile(InstanceProfileName=name)
            self.profiles[name] = made["InstanceProfile"]["Arn"]
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
            user = f"{name}-bot"
            iam.create_user(UserName=user, Path="/agents/")
            iam.put_user_policy(UserName=user, PolicyName="work", PolicyDocument=json.dumps(EVERYTHING))
            iam.create_access_key(UserName=user)
            asleep = iam.create_access_key(UserName=user)["AccessKey"]["AccessKeyId"]
            iam.update_access_key(UserName=user, AccessKeyId=asleep, Status="Inactive")
            iam.create_service_specific_credential(UserName=user, ServiceName="bedrock.amazonaws.com")
        for name, path in [("guard", "/backstop/"), ("outsider", "/")]:
            iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=json.dumps(BY_ADMIN))
            iam.put_role_policy(RoleName=name, PolicyName="work", PolicyDocument=json.dumps(EVERYTHING))

    def machines(self, region, count, owner, tagged, kind="t3.micro", profile=None, maker=None, record=True):
        ec2 = self.account.of("ec2", region)
        request = {"ImageId": "ami-12345678", "InstanceType": kind}
        tags = owned(owner if tagged else None, team="support")
        request["TagSpecifications"] = [{"ResourceType": "instance", "Tags": tags}]
        # The emulator gives the profile to the first instance of a request only.
        calls, each = (count, 1) if profile else (1, count)
        if profile:
            request["IamInstanceProfile"] = {"Arn": profile}
        ids = []
        for _ in range(calls):
            made = ec2.run_instances(**request, MinCount=each, MaxCount=each)
            ids += [one["InstanceId"] for one in made["Instances"]]
        if record:
            for one in ids:
                self.note(owner, "instance", region, one, tagged)
        if maker:
            self.made(region, "RunInstances", maker, ids)
        return ids

    def made(self, region, call, maker, ids):
        self.trail.setdefault(region, {}).setdefault(call, {}).setdefault(maker, []).extend(ids)

    def group(self, region, name, owner, tagged, template, members):
        scaling, ec2 = self.account.of("autoscaling", region), self.account.of("ec2", region)
        tags = [
            {**tag, "ResourceId": name, "ResourceType": "auto-scaling-group", "PropagateAtLaunch": True}
            for tag in owned(owner if tagged else None, team="support")
        ]
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"},
            AvailabilityZones=[f"{region}a"],
            MinSize=1,
            MaxSize=members * 2,
            DesiredCapacity=members,
            Tags=tags,
        )
        self.note(owner, "group", region, name, tagged)
        seen = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]
        for one in seen["Instances"]:
            self.note(owner, "instance", region, one["InstanceId"], tagged)

    def template(self, region, name, profile):
        data = {"ImageId": "ami-12345678", "InstanceType": "m5.large"}
        if profile:
            data["IamInstanceProfile"] = {"Arn": profile}
        made = self.account.of("ec2", region).create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return made["LaunchTemplate"]["LaunchTemplateId"]

    def definition(self, region, family, role):
        request = {"taskRoleArn": f"arn:aws:iam::{ACCOUNT}:role/agents/{role}"} if role else {}
        made = self.account.of("ecs", region).register_task_definition(
            family=family,
            cpu="256",
            memory="512",
            requiresCompatibilities=["EC2"],
            containerDefinitions=[{"name": "c", "image": "busybox", "memory": 256}],
            **request,
        )
        return made["taskDefinition"]["taskDefinitionArn"]

    def service(self, region, cluster, name, owner, tagged, definition, desired):
        ecs = self.account.of("ecs", region)
        tags = [{"key": tag["Key"], "value": tag["Value"]} for tag in owned(owner if tagged else None, team="support")]
        ecs.create_service(
            cluster=cluster, serviceName=name, taskDefinition=definition, desiredCount=desired, tags=tags
        )
        self.note(owner, "ecs-service", region, f"{cluster}/{name}", tagged)
        if desired:
            self.tasks(region, cluster, owner, tagged, definition, min(desired, 2), f"service:{name}")

    def tasks(self, region, cluster, owner, tagged, definition, count, group=None):
        ecs = self.account.of("ecs", region)
        request = {"group": group} if group else {}
        tags = [{"key": TAG, "value": owner}] if tagged else []
        made = ecs.run_task(
            cluster=cluster, taskDefinition=definition, count=count, launchType="FARGATE", tags=tags, **request
        )
        for task in made["tasks"]:
            self.note(owner, "ecs-task", region, f"{cluster}/{task['taskArn'].rsplit('/', 1)[1]}", tagged)

    def function(self, region, name, owner, tagged, role, reserved):
        aws = self.account.of("lambda", region)
        aws.create_function(
            FunctionName=name,
            Runtime="python3.12",
            Role=f"arn:aws:iam::{ACCOUNT}:role/agents/{role}",
            Handler="main.run",
            Code={"ZipFile": zipped()},
            Publish=False,
            Tags={TAG: owner} if tagged else {"team": "support"},
        )
        if reserved is not None:
            aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
        self.note(owner, "function", region, name, tagged)

    def things(self, region, at, owner):
        """What only deletion would stop."""
        ec2 = self.account.of("ec2", region)
        subnet = ec2.describe_subnets()["Subnets"][at]["SubnetId"]

        def tags(kind):
            return [{"ResourceType": kind, "Tags": owned(owner)}]

        for size in (8, 100):
            made = ec2.create_volume(
                AvailabilityZone=f"{region}a", Size=size, VolumeType="gp3", TagSpecifications=tags("volume")
            )
            self.note(owner, "volume", region, made["VolumeId"], True)
        address = ec2.allocate_address(Domain="vpc", TagSpecifications=tags("elastic-ip"))["AllocationId"]
        self.note(owner, "address", region, address, True)
        made = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address, TagSpecifications=tags("natgateway"))
        self.note(owner, "nat", region, made["NatGateway"]["NatGatewayId"], True)
        for kind in ("network", "application"):
            name = f"{owner}-{kind}"
            self.account.of("elbv2", region).create_load_balancer(
                Name=name, Type=kind, Subnets=[subnet], Tags=owned(owner)
            )
            self.note(owner, "balancer", region, name, True)
        self.account.of("elb", region).create_load_balancer(
            LoadBalancerName=f"{owner}-classic",
            Listeners=[{"Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80}],
            AvailabilityZones=[f"{region}a"],
            Tags=owned(owner),
        )
        self.note(owner, "classic-balancer", region, f"{owner}-classic", True)

    def agent_in(self, at, region):
        profile = self.profiles[AGENT]
        share = ALONE[at] // len(TYPES)
        for number, kind in enumerate(TYPES):
            count = share if number else ALONE[at] - share * (len(TYPES) - 1)
            self.machines(region, count, AGENT, True, kind)
        self.machines(region, BY_PROFILE[at], AGENT, False, "m5.large", profile=profile)
        self.machines(region, BY_CREATOR[at], AGENT, False, "c5.xlarge", maker=AGENT)
        idle = self.machines(region, 1, AGENT, True, "m5.large", record=False)
        self.account.of("ec2", region).stop_instances(InstanceIds=idle)
        self.of.setdefault(AGENT, {}).setdefault("idle", []).append(f"instance:{region}/{idle[0]}")
        self.tags[f"instance:{region}/{idle[0]}"] = {TAG: AGENT}
        template = self.template(region, "scaler", profile)
        bare = self.template(region, "scaler-bare", None)
        for number in range(GROUPS):
            # One group was made without the tag, by the agent.
            is_bare = at == 0 and number == 0
            name = f"scaler-{number}"
            self.group(region, name, AGENT, not is_bare, bare if is_bare else template, MEMBERS)
            if is_bare:
                self.made(region, "CreateAutoScalingGroup", AGENT, [name])
        # Somebody else suspended this before, and it stays so.
        self.account.of("autoscaling", region).suspend_processes(
            AutoScalingGroupName="scaler-1", ScalingProcesses=["AlarmNotification", "AddToLoadBalancer"]
        )
        definition = self.definition(region, "scaler", AGENT)
        for cluster in range(CLUSTERS):
            name = f"cluster-{cluster}"
            self.account.of("ecs", region).create_cluster(clusterName=name)
            for number in range(SERVICES):
                tagged = (cluster, number) != (1, 4)
                self.service(region, name, f"scaler-{number}", AGENT, tagged, definition, number)
            self.tasks(region, name, AGENT, True, definition, 1)
        for number in range(FUNCTIONS[at]):
            tagged = number % 10 != 3
            reserved = {1: 5, 2: 0}.get(number)
            self.function(region, f"scaler-{number}", AGENT, tagged, AGENT, reserved)
        self.things(region, 0, AGENT)

    def others_in(self, region):
        for number, owner in enumerate(OTHERS):
            self.machines(region, 10, owner, True)
            self.machines(region, 3, owner, False, profile=self.profiles[owner])
            self.machines(region, 2, owner, False, maker=owner)
            # The agent made it, and it is tagged as the other's.
            self.machines(region, 1, owner, True, maker=AGENT)
            template = self.template(region, owner, self.profiles[owner])
            self.group(region, f"{owner}-0", owner, True, template, 2)
            definition = self.definition(region, owner, owner)
            self.service(region, "cluster-0", f"{owner}-0", owner, True, definition, 2)
            self.tasks(region, "cluster-1", owner, True, definition, 1)
            for n in range(2):
                self.function(region, f"{owner}-{n}", owner, n == 0, owner, None)
            self.things(region, number + 1, owner)
        self.machines(region, 5, "nobody", False)

    def region(self, at):
        region = REGIONS[at]
        self.agent_in(at, region)
        self.others_in(region)


def build(account):
    builder = Builder(account)
    builder.people()
    for at in range(len(REGIONS)):
        builder.region(at)
    trail = {
        region: {call: {who: ids for who, ids in makers.items()} for call, makers in calls.items()}
        for region, calls in builder.trail.items()
    }
    return {
        "of": builder.of,
        "tags": builder.tags,
        "untagged": builder.untagged,
        "trail": trail,
        "profiles": builder.profiles,
        "at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def all_of(client, operation, key, **request):
    """Every row of every page, by the name of the list."""
    pager = client.get_paginator(operation) if client.can_paginate(operation) else None
    answers = pager.paginate(**request) if pager else [getattr(client, operation)(**request)]
    return [row for answer in answers for row in answer[key]]


def by(rows, *names):
    def named(row):
        return "/".join(str(row[name]) for name in names)

    found = {named(row): row for row in rows}
    if len(found) != len(rows):
        raise RuntimeError(f"two rows have one {names}")
    return found


def tags_by_key(row, name="Tags"):
    """The order of tags means nothing."""
    if name in row:
        row[name] = {tag.get("Key", tag.get("key")): tag for tag in row[name]}
    return row


def read_iam(iam):
    roles = {}
    for role in all_of(iam, "list_roles", "Roles"):
        name = role["RoleName"]
        inline = all_of(iam, "list_role_policies", "PolicyNames", RoleName=name)
        role["inline"] = {
            one: iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in inline
        }
        role["attached"] = by(all_of(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name), "PolicyArn")
        roles[name] = role
    users = {}
    for user in all_of(iam, "list_users", "Users"):
        name = user["UserName"]
        inline = all_of(iam, "list_user_policies", "PolicyNames", UserName=name)
        user["inline"] = {
            one: iam.get_user_policy(UserName=name, PolicyName=one)["PolicyDocument"] for one in inline
        }
        user["attached"] = by(all_of(iam, "list_attached_user_policies", "AttachedPolicies", UserName=name), "PolicyArn")
        user["keys"] = by(all_of(iam, "list_access_keys", "AccessKeyMetadata", UserName=name), "AccessKeyId")
        credentials = iam.list_service_specific_credentials(UserName=name)["ServiceSpecificCredentials"]
        user["credentials"] = by(credentials, "ServiceSpecificCredentialId")
        users[name] = user
    profiles = by(all_of(iam, "list_instance_profiles", "InstanceProfiles"), "InstanceProfileName")
    policies = by(all_of(iam, "list_policies", "Policies", Scope="Local"), "Arn")
    return {"roles": roles, "users": users, "profiles": profiles, "policies": policies}


def read_ec2(ec2):
    instances = {}
    for reservation in all_of(ec2, "describe_instances", "Reservations"):
        for one in reservation.pop("Instances"):
            one["reservation"] = reservation
            instances[one["InstanceId"]] = tags_by_key(one)
    addresses = by(ec2.describe_addresses()["Addresses"], "AllocationId")
    return {
        "instances": instances,
        "volumes": by(all_of(ec2, "describe_volumes", "Volumes"), "VolumeId"),
        "addresses": addresses,
        "gateways": by(all_of(ec2, "describe_nat_gateways", "NatGateways"), "NatGatewayId"),
        "interfaces": by(all_of(ec2, "describe_network_interfaces", "NetworkInterfaces"), "NetworkInterfaceId"),
        "templates": by(all_of(ec2, "describe_launch_templates", "LaunchTemplates"), "LaunchTemplateId"),
    }


def read_scaling(scaling):
    groups = {}
    for group in all_of(scaling, "describe_auto_scaling_groups", "AutoScalingGroups"):
        group["Instances"] = by(group["Instances"], "InstanceId")
        group["SuspendedProcesses"] = by(group["SuspendedProcesses"], "ProcessName")
        groups[group["AutoScalingGroupName"]] = tags_by_key(group)
    return groups


def read_ecs(ecs):
    services, tasks = {}, {}
    clusters = all_of(ecs, "list_clusters", "clusterArns")
    for cluster in clusters:
        arns = all_of(ecs, "list_services", "serviceArns", cluster=cluster)
        for at in range(0, len(arns), 10):
            some = ecs.describe_services(cluster=cluster, services=arns[at : at + 10], include=["TAGS"])
            services.update(by([tags_by_key(one, "tags") for one in some["services"]], "serviceArn"))
        for status in ("RUNNING", "STOPPED"):
            arns = all_of(ecs, "list_tasks", "taskArns", cluster=cluster, desiredStatus=status)
            for at in range(0, len(arns), 100):
                some = ecs.describe_tasks(cluster=cluster, tasks=arns[at : at + 100], include=["TAGS"])
                tasks.update(by([tags_by_key(one, "tags") for one in some["tasks"]], "taskArn"))
    return {"services": services, "tasks": tasks}


def read_functions(client):
    functions = {}
    for one in all_of(client, "list_functions", "Functions"):
        name = one["FunctionName"]
        told = client.get_function(FunctionName=name)
        told["concurrency"] = client.get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
        functions[name] = told
    return functions


def read_balancers(newer, classic):
    return {
        "balancers": by(all_of(newer, "describe_load_balancers", "LoadBalancers"), "LoadBalancerName"),
        "classic": by(all_of(classic, "describe_load_balancers", "LoadBalancerDescriptions"), "LoadBalancerName"),
    }


def read(account):
    def region(name):
        of = lambda service: account.of(service, name)
        return {
            "ec2": read_ec2(of("ec2")),
            "groups": read_scaling(of("autoscaling")),
            "ecs": read_ecs(of("ecs")),
            "functions": read_functions(of("lambda")),
            **read_balancers(of("elbv2"), of("elb")),
        }

    told = {name: region(name) for name in REGIONS}
    told["iam"] = read_iam(account.of("iam"))
    return without_metadata(told)


def without_metadata(value):
    """What every answer has of itself is no field of what it tells."""
    if isinstance(value, dict):
        return {key: without_metadata(one) for key, one in value.items() if key != "ResponseMetadata"}
    if isinstance(value, list):
        return [without_metadata(one) for one in value]
    return value


def main():
    what, endpoint, key, secret = sys.argv[1:5]
    account = Account(endpoint, key, secret)
    told = {"build": build, "read": read}[what](account)
    json.dump(told, sys.stdout, default=str, sort_keys=True)


if __name__ == "__main__":
    main()
