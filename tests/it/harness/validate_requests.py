"""Checks recorded requests against AWS's own service models, as botocore ships them.

The emulator accepts much that AWS refuses: a parameter that does not exist, a word that is no member of
an enumeration, a list that is too long. The models say what AWS accepts. The file named by the first
argument is a JSON list of objects with `service`, `action` and `params` (the decoded query parameters);
each problem is a line on standard output, and the last line says how many requests were checked.
"""

import json
import re
import sys

from botocore.loaders import Loader
from botocore.model import ServiceModel

MODELS = {}


def model_of(service):
    if service not in MODELS:
        MODELS[service] = ServiceModel(Loader().load_service_model(service, "service-2"), service)
    return MODELS[service]


class Request:
    def __init__(self, model, action, params):
        self.model = model
        self.action = action
        self.left = dict(params)
        self.problems = []

    def problem(self, where, what):
        self.problems.append(f"{self.model.service_name}:{self.action} {where or '-'}: {what}")

    def is_given(self, prefix):
        return any(name == prefix or name.startswith(prefix + ".") for name in self.left)

    def member_name(self, name, shape):
        """The name of a structure's member in the query protocol or in EC2's dialect of it."""
        serialization = shape.serialization
        if self.model.metadata["protocol"] == "ec2":
            if "queryName" in serialization:
                return serialization["queryName"]
            name = serialization.get("name", name)
            return name[0].upper() + name[1:]
        if shape.type_name == "list" and serialization.get("flattened"):
            return shape.member.serialization.get("name", serialization.get("name", name))
        return serialization.get("name", name)

    def list_prefix(self, prefix, shape):
        if self.model.metadata["protocol"] == "ec2" or shape.serialization.get("flattened"):
            return prefix
        return prefix + "." + shape.member.serialization.get("name", "member")

    def structure(self, prefix, shape):
        for name, member in shape.members.items():
            full = self.member_name(name, member)
            full = f"{prefix}.{full}" if prefix else full
            if self.is_given(full):
                self.check(full, member)
            elif name in shape.required_members:
                self.problem(full, "required and not given")

    def check(self, prefix, shape):
        if shape.type_name == "structure":
            return self.structure(prefix, shape)
        if shape.type_name == "list":
            items = self.list_prefix(prefix, shape)
            count = 0
            while self.is_given(f"{items}.{count + 1}"):
                count += 1
                self.check(f"{items}.{count}", shape.member)
            return self.bounds(prefix, shape, count, "a list of")
        value = self.left.pop(prefix, None)
        if value is None:
            return self.problem(prefix, f"a {shape.type_name} is expected, not something with parts")
        self.scalar(prefix, shape, value)

    def scalar(self, prefix, shape, value):
        if shape.type_name == "boolean":
            if value not in ("true", "false"):
                self.problem(prefix, f"{value!r} is not a boolean")
        elif shape.type_name in ("integer", "long"):
            if re.fullmatch(r"-?[0-9]+", value):
                self.bounds(prefix, shape, int(value), "the number")
            else:
                self.problem(prefix, f"{value!r} is not a number")
        elif shape.type_name == "string":
            if shape.enum and value not in shape.enum:
                self.problem(prefix, f"{value!r} is none of {shape.enum}")
            pattern = shape.metadata.get("pattern")
            if pattern and not re.fullmatch(pattern, value):
                self.problem(prefix, f"{value!r} does not match {pattern}")
            self.bounds(prefix, shape, len(value), "a text of")
        else:
            self.problem(prefix, f"a {shape.type_name} cannot be checked here")

    def bounds(self, prefix, shape, size, what):
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if least is not None and size < least:
            self.problem(prefix, f"{what} {size} is below {least}")
        if most is not None and size > most:
            self.problem(prefix, f"{what} {size} is above {most}")


def validate(service, action, params):
    model = model_of(service)
    if action not in model.operation_names:
        return [f"{service}:{action} -: there is no such operation"]
    request = Request(model, action, params)
    request.left.pop("Action", None)
    version = request.left.pop("Version", None)
    if version != model.api_version:
        request.problem("Version", f"{version} instead of {model.api_version}")
    shape = model.operation_model(action).input_shape
    if shape is not None:
        request.structure("", shape)
    for name in sorted(request.left):
        request.problem(name, "there is no such parameter")
    return request.problems


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        requests = json.load(file)
    for request in requests:
        for problem in validate(request["service"], request["action"], request["params"]):
            print(problem)
    print(f"checked {len(requests)}")


if __name__ == "__main__":
    main()
