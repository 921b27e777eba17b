"""Calls by the real anthropic SDK, unmodified. Prints one JSON line a call: its name, and what came of it.

Arguments: base URL, key.
"""

import json
import sys

import anthropic

CLAUDE = "fixture-claude"
USER = [{"role": "user", "content": "Say something."}]
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def messages(client):
    answer = client.messages.create(model=CLAUDE, max_tokens=50, messages=USER, system="Be brief.", stop_sequences=["END"])
    assert answer.content[0].text.startswith("word0"), answer
    return answer.usage.model_dump()


def messages_cached(client):
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    answer = client.messages.create(model=CLAUDE, max_tokens=50, messages=USER, system=system)
    return answer.usage.model_dump()


def messages_raw(client):
    raw = client.messages.with_raw_response.create(model=CLAUDE, max_tokens=50, messages=USER)
    return {name: value for name, value in raw.headers.items()}


def stream(client):
    events = list(client.messages.create(model=CLAUDE, max_tokens=50, messages=USER, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert text == "word0 word1 word2 word3 ", text
    return {}


def stream_helper(client):
    with client.messages.stream(model=CLAUDE, max_tokens=50, messages=USER) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert text == "word0 word1 word2 word3 ", text
    return final.usage.model_dump()


def count_tokens(client):
    counted = client.messages.count_tokens(model=CLAUDE, messages=USER, system="Be brief.")
    assert counted.input_tokens == 20, counted
    return {}


def models(client):
    assert "fixture-claude" in [model.id for model in client.models.list()]
    return {}


def tools(client):
    answer = client.messages.create(
        model=CLAUDE, max_tokens=50, messages=USER, tools=[TOOL], tool_choice={"type": "auto"}
    )
    block = answer.content[0]
    assert (block.name, block.input) == ("get_weather", {"city": "Berlin"}), answer
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "Rain."}
    more = USER + [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    client.messages.create(model=CLAUDE, max_tokens=50, messages=more, tools=[TOOL])
    return {}


def tools_stream(client):
    with client.messages.stream(model=CLAUDE, max_tokens=50, messages=USER, tools=[TOOL]) as events:
        final = events.get_final_message()
    assert final.content[0].input == {"city": "Berlin"}, final
    return {}


CALLS = [messages, messages_cached, messages_raw, stream, stream_helper, count_tokens, models, tools, tools_stream]


def main(base_url, key):
    client = anthropic.Anthropic(base_url=base_url, api_key=key)
    for call in CALLS:
        try:
            line = {"call": call.__name__, "got": call(client)}
        except Exception as error:  # noqa: BLE001: whatever it is, the test wants to see it
            line = {"call": call.__name__, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(line, default=str), flush=True)


main(*sys.argv[1:])
