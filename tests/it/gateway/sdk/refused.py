"""Calls that are refused, by the real SDKs with their own ways of retrying.

The argument is a JSON list of `[api, base URL, key, [call, ...]]`; `call=0` sets the SDK's retries. Prints one
JSON line a call: the type of the exception, its status and code, and how many requests the SDK sent for it.
"""

import json
import sys

import anthropic
import httpx2
import openai

USER = [{"role": "user", "content": "Say something."}]
TOOL = {
    "type": "function",
    "function": {"name": "launch_missiles", "parameters": {"type": "object", "properties": {}}},
}


def openai_calls(client):
    create = client.chat.completions.create
    asked = {"model": "fixture-chat", "messages": USER, "max_completion_tokens": 50}
    return {
        "chat": lambda: create(**asked),
        "stream": lambda: list(create(**asked, stream=True)),
        "unknown_model": lambda: create(**{**asked, "model": "nobody-knows-it"}),
        "unknown_field": lambda: create(**asked, extra_body={"turbo": True}),
        "unlisted_tool": lambda: create(**asked, tools=[TOOL]),
        "unmetered_route": lambda: client.batches.create(
            input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"
        ),
        "file": lambda: client.files.create(file=("a.jsonl", b"{}"), purpose="batch"),
        "responses": lambda: client.responses.create(model="fixture-chat", input="Hi", max_output_tokens=50),
        "embeddings": lambda: client.embeddings.create(model="fixture-embed", input="a longer text"),
        "transcription": lambda: client.audio.transcriptions.create(model="fixture-whisper", file=("a.wav", b"RIFF")),
    }


def anthropic_calls(client):
    create = client.messages.create
    asked = {"model": "fixture-claude", "messages": USER, "max_tokens": 50}
    tool = {"name": "launch_missiles", "input_schema": {"type": "object", "properties": {}}}
    request = {"custom_id": "one", "params": asked}
    return {
        "chat": lambda: create(**asked),
        "stream": lambda: list(create(**asked, stream=True)),
        "unknown_model": lambda: create(**{**asked, "model": "nobody-knows-it"}),
        "unknown_field": lambda: create(**asked, extra_body={"turbo": True}),
        "unlisted_tool": lambda: create(**asked, tools=[tool]),
        "unmetered_route": lambda: client.messages.batches.create(requests=[request]),
    }


def run(api, base_url, key, names):
    sent = []
    hooks = {"request": [lambda request: sent.append(request)]}
    client_options = {"base_url": base_url, "api_key": key}
    if api == "openai":
        client = openai.OpenAI(http_client=httpx2.Client(event_hooks=hooks), **client_options)
        calls, errors = openai_calls(client), openai
    else:
        client = anthropic.Anthropic(http_client=httpx2.Client(event_hooks=hooks), **client_options)
        calls, errors = anthropic_calls(client), anthropic
    for name in names:
        name, _, retries = name.partition("=")
        sent.clear()
        line = {"call": name}
        try:
            if retries:
                client.max_retries = int(retries)
            calls[name]()
            line["type"] = None
        except errors.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            body = body.get("error", body)
            line.update(
                type=type(error).__name__,
                is_status_error=True,
                status=error.status_code,
                code=body.get("code"),
                message=body.get("message"),
                should_retry=error.response.headers.get("x-should-retry"),
                retry_after=error.response.headers.get("retry-after"),
            )
        except Exception as error:  # noqa: BLE001: whatever it is, the test wants to see it
            line.update(type=type(error).__name__, message=str(error))
        line["sent"] = len(sent)
        print(json.dumps(line), flush=True)


for group in json.loads(sys.argv[1]):
    run(*group)
