"""Calls by the real openai SDK, unmodified. Prints one JSON line a call: its name, and what came of it.

Arguments: base URL, key.
"""

import base64
import io
import json
import sys
import wave

import openai

CHAT = "fixture-chat"
USER = [{"role": "user", "content": "Say something."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def recording(seconds=2):
    """A WAV file in memory: silence."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 8000 * seconds)
    return ("said.wav", out.getvalue())


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def chat(client):
    answer = client.chat.completions.create(model=CHAT, messages=USER, max_completion_tokens=50)
    assert answer.choices[0].message.content.startswith("word0"), answer
    assert answer.system_fingerprint == "fp_fixture", "fields of the answer pass through"
    return answer.usage.model_dump()


def chat_old_limit(client):
    answer = client.chat.completions.create(model=CHAT, messages=USER, max_tokens=50, temperature=0.2, n=2)
    assert len(answer.choices) == 2
    return answer.usage.model_dump()


def chat_no_limit(client):
    return client.chat.completions.create(model=CHAT, messages=USER).usage.model_dump()


def chat_raw(client):
    raw = client.chat.completions.with_raw_response.create(model=CHAT, messages=USER, max_completion_tokens=50)
    return {name: value for name, value in raw.headers.items()}


def chat_stream(client):
    stream = client.chat.completions.create(model=CHAT, messages=USER, max_completion_tokens=50, stream=True)
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "word0 word1 word2 word3 ", text
    assert all(chunk.choices for chunk in chunks), "usage was not asked for, so it does not come"
    return {"chunks": len(chunks)}


def chat_stream_usage(client):
    stream = client.chat.completions.create(
        model=CHAT, messages=USER, max_completion_tokens=50, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[-1].choices == [], "usage was asked for, so it comes"
    return chunks[-1].usage.model_dump()


def chat_stream_no_usage(client):
    stream = client.chat.completions.create(
        model=CHAT, messages=USER, max_completion_tokens=50, stream=True, stream_options={"include_usage": False}
    )
    assert all(chunk.choices for chunk in stream)
    return {}


def chat_stream_helper(client):
    with client.chat.completions.stream(model=CHAT, messages=USER, max_completion_tokens=50) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "word0 word1 word2 word3 "
    assert "content.delta" in kinds
    return {}


def tools(client):
    answer = client.chat.completions.create(
        model=CHAT, messages=USER, max_completion_tokens=50, tools=[TOOL], tool_choice="auto"
    )
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Berlin"})
    more = USER + [
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
    ]
    client.chat.completions.create(model=CHAT, messages=more, max_completion_tokens=50, tools=[TOOL])
    return {}


def tools_stream(client):
    stream = client.chat.completions.create(
        model=CHAT, messages=USER, max_completion_tokens=50, tools=[TOOL], stream=True
    )
    names = [c.function.name for chunk in stream for c in (chunk.choices[0].delta.tool_calls or [])]
    assert names == ["get_weather"], names
    return {}


def structured(client):
    shape = {"type": "json_schema", "json_schema": {"name": "one", "schema": {"type": "object"}, "strict": False}}
    client.chat.completions.create(
        model=CHAT, messages=USER, max_completion_tokens=50, response_format=shape, seed=7, stop=["END"], user="u-1"
    )
    return {}


def responses(client):
    answer = client.responses.create(
        model=CHAT, input="Say something.", instructions="Be brief.", max_output_tokens=50
    )
    assert answer.output_text.startswith("word0"), answer
    return answer.usage.model_dump()


def responses_stream(client):
    stream = client.responses.create(model=CHAT, input="Say something.", max_output_tokens=50, stream=True)
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    return events[-1].response.usage.model_dump()


def responses_helper(client):
    with client.responses.stream(model=CHAT, input="Say something.", max_output_tokens=50) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text.startswith("word0")
    return {}


def responses_tools(client):
    tool = {"type": "function", "name": "get_weather", "parameters": TOOL["function"]["parameters"], "strict": False}
    answer = client.responses.create(model=CHAT, input="Say something.", max_output_tokens=50, tools=[tool])
    assert answer.output[0].name == "get_weather"
    return {}


def completions(client):
    answer = client.completions.create(model=CHAT, prompt="Once", max_tokens=50)
    return answer.usage.model_dump()


def embeddings(client):
    answer = client.embeddings.create(model="fixture-embed", input=["one text", "another text"])
    assert len(answer.data) == 2 and answer.data[1].embedding == [0.25, -0.5, 1.0], answer
    return answer.usage.model_dump()


def transcription(client):
    answer = client.audio.transcriptions.create(model="fixture-whisper", file=recording())
    assert answer.text == "what was said", answer
    return {}


def transcription_verbose(client):
    answer = client.audio.transcriptions.create(
        model="fixture-whisper", file=recording(), response_format="verbose_json", language="en"
    )
    return {"duration": answer.duration}


def transcription_text(client):
    answer = client.audio.transcriptions.create(model="fixture-whisper", file=recording(), response_format="text")
    assert answer.strip() == "what was said", answer
    return {}


def transcription_tokens(client):
    answer = client.audio.transcriptions.create(model="fixture-listener", file=recording())
    return answer.usage.model_dump()


def transcription_stream(client):
    stream = client.audio.transcriptions.create(model="fixture-listener", file=recording(), stream=True)
    kinds = [event.type for event in stream]
    assert kinds == ["transcript.text.delta", "transcript.text.done"], kinds
    return {}


def translation(client):
    assert client.audio.translations.create(model="fixture-whisper", file=recording()).text == "what was said"
    return {}


def speech(client):
    spoken = client.audio.speech.create(model="fixture-speaker", voice="alloy", input="Hello there.")
    assert spoken.read().startswith(b"ID3")
    return {}


def images(client):
    answer = client.images.generate(model="fixture-painter", prompt="a line", n=2, size="1024x1024")
    assert len(answer.data) == 2
    return {}


def image_edit(client):
    image = ("pixel.png", PIXEL)
    answer = client.images.edit(model="fixture-painter", image=image, prompt="a line", n=1)
    assert len(answer.data) == 1
    return {}


def moderations(client):
    answer = client.moderations.create(model="fixture-moderator", input="Hello there.")
    assert answer.results[0].flagged is False
    return {}


def models(client):
    assert "fixture-chat" in [model.id for model in client.models.list()]
    assert client.models.retrieve("fixture-chat").id == "fixture-chat"
    return {}


CALLS = [
    chat, chat_old_limit, chat_no_limit, chat_raw, chat_stream, chat_stream_usage, chat_stream_no_usage,
    chat_stream_helper, structured, responses, responses_stream, responses_helper, completions, embeddings,
    transcription, transcription_verbose, transcription_text, transcription_tokens, transcription_stream,
    translation, speech, images, image_edit, moderations, models, tools, tools_stream,
    responses_tools,
]


def main(base_url, key):
    client = openai.OpenAI(base_url=base_url, api_key=key)
    for call in CALLS:
        try:
            line = {"call": call.__name__, "got": call(client)}
        except Exception as error:  # noqa: BLE001: whatever it is, the test wants to see it
            line = {"call": call.__name__, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(line, default=str), flush=True)


main(*sys.argv[1:])
