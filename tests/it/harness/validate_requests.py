"""Checks recorded requests against AWS's own service models, as botocore ships them.

The emulator accepts much that AWS refuses: a parameter that does not exist, a word that is no member of
an enumeration, a list that is too long. The models say what AWS accepts. The file named by the first
argument is a JSON list of objects with `service`, `action` and `params` (the decoded query parameters), and
`json` (the body) and `rest` (method and path) where a service is asked so; each problem is a line on
standard output, and the last line says how many requests were checked.
"""

import json
import re
import sys
from urllib.parse import parse_qsl, unquote, urlsplit

from botocore.loaders import Loader
from botocore.model import ServiceModel

MODELS = {}

# Names under which a service signs, where they are not those of its model.
SIGNED_AS = {"elasticloadbalancing": ["elb", "elbv2"]}


def matches(pattern, value):
    """Whether a text matches a pattern that was written for Java, where one character may be two."""
    return re.fullmatch(pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF"), value)


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
            if pattern and not matches(pattern, value):
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


class Document:
    """A body in JSON, or the parts of a request by path, read into one."""

    def __init__(self, model, action):
        self.model = model
        self.action = action
        self.problems = []

    def problem(self, where, what):
        self.problems.append(f"{self.model.service_name}:{self.action} {where or '-'}: {what}")

    def check(self, where, shape, value):
        kind = shape.type_name
        if kind == "structure":
            return self.structure(where, shape, value)
        if kind == "list":
            if not isinstance(value, list):
                return self.problem(where, "is not a list")
            self.bounds(where, shape, len(value), "a list of")
            for number, one in enumerate(value):
                self.check(f"{where}[{number}]", shape.member, one)
            return None
        if kind == "map":
            if not isinstance(value, dict):
                return self.problem(where, "is not a map")
            self.bounds(where, shape, len(value), "a map of")
            for key, one in value.items():
                self.check(f"{where} (key)", shape.key, key)
                self.check(f"{where}.{key}", shape.value, one)
            return None
        if kind == "boolean":
            if not isinstance(value, bool):
                self.problem(where, f"{value!r} is not a boolean")
        elif kind in ("integer", "long", "timestamp", "float", "double"):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                self.problem(where, f"{value!r} is not a number")
            elif kind != "timestamp":
                self.bounds(where, shape, value, "the number")
        elif kind == "string":
            if not isinstance(value, str):
                return self.problem(where, f"{value!r} is not a text")
            if shape.enum and value not in shape.enum:
                self.problem(where, f"{value!r} is none of {shape.enum}")
            pattern = shape.metadata.get("pattern")
            if pattern and not matches(pattern, value):
                self.problem(where, f"{value!r} does not match {pattern}")
            self.bounds(where, shape, len(value), "a text of")
        else:
            self.problem(where, f"a {kind} cannot be checked here")
        return None

    def structure(self, where, shape, value):
        if not isinstance(value, dict):
            return self.problem(where, "is not an object")
        names = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        for given, one in value.items():
            full = f"{where}.{given}" if where else given
            if given in names:
                self.check(full, names[given][1], one)
            else:
                self.problem(full, "there is no such parameter")
        for name in shape.required_members:
            if shape.members[name].serialization.get("name", name) not in value:
                self.problem(name, "required and not given")
        return None

    bounds = Request.bounds


def parts_of(operation, rest, body):
    """The members of a request by path: those in its path, its query and its body, by their own names."""
    method, target = rest
    url = urlsplit(target)
    template = urlsplit(operation.http["requestUri"]).path.rstrip("/")
    pattern = re.sub(r"\\\{([A-Za-z]+)\+?\\\}", r"(?P<\1>[^/]+)", re.escape(template))
    found = re.fullmatch(pattern, url.path.rstrip("/"))
    if found is None or method != operation.http["method"]:
        return None
    given = {name: unquote(value) for name, value in found.groupdict().items()}
    fixed = parse_qsl(urlsplit(operation.http["requestUri"]).query, keep_blank_values=True)
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if (name, value) in fixed:
            continue
        given[name] = int(value) if re.fullmatch(r"[0-9]+", value) and name.startswith("Max") else value
    given.update(body or {})
    return given


def validate(service, action, params, body, rest):
    names = SIGNED_AS.get(service, [service])
    models = [model_of(name) for name in names]
    if len(models) > 1:
        models = [model for model in models if model.api_version == params.get("Version")] or models
    model = models[0]
    if action not in model.operation_names:
        return [f"{service}:{action} -: there is no such operation"]
    operation = model.operation_model(action)
    if rest or body is not None:
        document = Document(model, action)
        given = parts_of(operation, rest, body) if rest else body
        if given is None:
            return [f"{service}:{action} -: {rest} is not its path"]
        document.structure("", operation.input_shape, given)
        return document.problems
    request = Request(model, action, params)
    request.left.pop("Action", None)
    version = request.left.pop("Version", None)
    if version != model.api_version:
        request.problem("Version", f"{version} instead of {model.api_version}")
    shape = operation.input_shape
    if shape is not None:
        request.structure("", shape)
    for name in sorted(request.left):
        request.problem(name, "there is no such parameter")
    return request.problems


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        requests = json.load(file)
    for request in requests:
        body, rest = request.get("json"), request.get("rest")
        for problem in validate(request["service"], request["action"], request["params"], body, rest):
            print(problem)
    print(f"checked {len(requests)}")


if __name__ == "__main__":
    main()
