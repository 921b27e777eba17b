"""Writes sdk_shapes.jsonl: every field of the SDKs' request types, in requests that are as small as they can be.

    python3 -m venv venv && venv/bin/pip install openai==3.51.0 anthropic==2.10.0
    venv/bin/python sdk_shapes.py > sdk_shapes.jsonl

Each request has one field of its route, filled with one alternative of its type; an alternative at any depth
comes once. What clients send back as it was answered is taken from the types of the answers.
"""

import importlib
import json
import types
import typing

from typing_extensions import Annotated, Literal, NotRequired, Required, get_args, get_origin, get_type_hints, is_typeddict

REQUESTS = [
    ("/v1/chat/completions", "openai.types.chat.completion_create_params", "CompletionCreateParamsNonStreaming"),
    ("/v1/completions", "openai.types.completion_create_params", "CompletionCreateParamsNonStreaming"),
    ("/v1/embeddings", "openai.types.embedding_create_params", "EmbeddingCreateParams"),
    ("/v1/responses", "openai.types.responses.response_create_params", "ResponseCreateParamsNonStreaming"),
    ("/v1/messages", "anthropic.types.message_create_params", "MessageCreateParamsNonStreaming"),
    ("/v1/messages", "anthropic.types.beta.message_create_params", "MessageCreateParamsNonStreaming"),
]
SENT_BACK = {
    "/v1/chat/completions": ("messages", "openai.types.chat", "ChatCompletionMessage"),
    "/v1/responses": ("input", "openai.types.responses", "ResponseOutputItem"),
}
# The SDK sends these as headers.
HEADERS = {"betas", "user_profile_id", "workspace_id"}

memo = {}


def load(module, name):
    return getattr(importlib.import_module(module), name)


def bare(kind):
    while get_origin(kind) in (Required, NotRequired, Annotated):
        kind = get_args(kind)[0]
    return kind


def fields(kind):
    """The fields of an object's type, of a request or of an answer."""
    if is_typeddict(kind):
        return get_type_hints(kind, include_extras=True)
    if isinstance(kind, type) and hasattr(kind, "model_fields"):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    return None


def samples(kind):
    """Values of a type: the first of everything, then every alternative once."""
    kind = bare(kind)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return [value for arg in args for value in samples(arg)]
    if origin is Literal:
        return list(args)
    if fields(kind) is not None:
        if kind not in memo:
            memo[kind] = [{}]
            of = {name: samples(field) for name, field in fields(kind).items()}
            first = {name: values[0] for name, values in of.items() if values}
            memo[kind] = [first] + [{**first, name: value} for name, values in of.items() for value in values[1:]]
        return memo[kind]
    name = getattr(origin, "__name__", str(origin))
    if name in ("Iterable", "list", "List", "Sequence", "SequenceNotStr"):
        return [[value] for value in samples(args[0])]
    if name in ("dict", "Dict", "Mapping"):
        return [{"key": (samples(args[1]) or [None])[0]}]
    plain = {str: ["x"], bool: [True, False], int: [7], float: [0.5], object: [{"any": 1}], typing.Any: [{"any": 1}]}
    return plain.get(kind, [])


def paths(value, path=""):
    """What a request shows of its types: the last steps to each of its leaves."""
    if isinstance(value, dict):
        tag = next((value[key] for key in ("type", "role") if isinstance(value.get(key), str)), "")
        for key, inner in value.items():
            yield from paths(inner, f"{path}<{tag}>.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, path)
    elif ".configs<" not in path:
        yield ".".join(path.split(".")[-3:]) + ":" + type(value).__name__


def main():
    seen = {}
    for path, module, name in REQUESTS:
        memo.clear()
        hints = {field: kind for field, kind in fields(load(module, name)).items() if field not in HEADERS}
        least = {"model": "m", "max_tokens": 9, "messages": []}
        least = {field: least.get(field, "x") for field, kind in hints.items() if get_origin(kind) is Required}
        back = SENT_BACK.get(path)
        for field, kind in hints.items():
            values = samples(kind) if field != "model" else ["m"]
            if back and field == back[0]:
                values = values + [[value] for value in samples(load(*back[1:]))]
            for value in values:
                body = {**least, "model": "m", field: value}
                new = set(paths(body)) - seen.setdefault(path, set())
                if new:
                    seen[path] |= new
                    print(json.dumps({"path": path, "body": body}, separators=(",", ":")))


main()
