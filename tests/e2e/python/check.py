"""Talks to a hub with the official openai package, and prints one line a check.

HUB_URL, HUB_TOKEN: the hub. STANDIN_URL: the provider behind it (the binary testkit-upstream), which releases the
chunks of a stream one by one when it is asked to.
"""

import json
import os
import urllib.request

import openai

from harness import equal, fails, run

HUB = os.environ["HUB_URL"]
STANDIN = os.environ["STANDIN_URL"]
TOKEN = os.environ["HUB_TOKEN"]
HELLO = [{"role": "user", "content": "Hello"}]


def client(target="stand-in", token=TOKEN):
    return openai.OpenAI(
        api_key=token,
        base_url=HUB + "/v1",
        default_headers={"x-target": target},
        max_retries=0,
        timeout=15,
    )


def release(gate):
    request = urllib.request.Request(f"{STANDIN}/release/{gate}", method="POST")
    urllib.request.urlopen(request, timeout=15).close()


def chat(model="stand-in", target="stand-in", token=TOKEN, messages=HELLO, **more):
    return client(target, token).chat.completions.create(model=model, messages=messages, **more)


def completion():
    answer = chat()
    equal(answer.choices[0].message.content, "Hello from the stand-in")
    equal(answer.usage.total_tokens, 15)


def stream():
    words = []
    # A chunk that was released comes while the next one is held back: nothing in between waits for more.
    release("python")
    for chunk in chat("gated-python", stream=True):
        words.append(chunk.choices[0].delta.content)
        release("python")
    equal(words, ["w0 ", "w1 ", "w2 ", "w3 ", "w4 "])


def dying_stream():
    words = []
    try:
        for chunk in chat("dying", stream=True):
            words.append(chunk.choices[0].delta.content)
    except openai.APIError as error:
        # The hub's last chunk tells of it; the connection itself does not break.
        equal((type(error), words), (openai.APIError, ["w0 ", "w1 "]))
    else:
        raise AssertionError("a stream that broke off ended as if it were whole")


def embeddings():
    answer = client().embeddings.create(model="stand-in", input="Hello", encoding_format="float")
    equal(answer.data[0].embedding, [0.25, -0.5, 1.0])


def models():
    equal([model.id for model in client().models.list()], ["stand-in", "stand-in-large"])


def unauthorized():
    error = fails(openai.AuthenticationError, 401, lambda: chat(token="wrong"))
    assert "www-authenticate" in error.response.headers, "no WWW-Authenticate"


def not_found():
    error = fails(openai.NotFoundError, 404, lambda: chat(target="nowhere"))
    equal(error.response.json()["message"], "Target not found: nowhere")


def too_large():
    messages = [{"role": "user", "content": "x" * 100_000}]
    fails(openai.APIStatusError, 413, lambda: chat(messages=messages))


def limited():
    complete = client("limited-python").completions.create
    for _ in range(2):
        complete(model="stand-in", prompt="Hello")
    error = fails(openai.RateLimitError, 429, lambda: complete(model="stand-in", prompt="Hello"))
    assert int(error.response.headers["retry-after"]) > 0


def limited_by_provider():
    error = fails(openai.RateLimitError, 429, lambda: chat("status-429"))
    equal(error.response.headers["retry-after"], "7")


def bad_gateway():
    fails(openai.InternalServerError, 502, lambda: chat(target="unreachable"))


def gateway_timeout():
    fails(openai.InternalServerError, 504, lambda: chat("silent", target="impatient"))


def provider_errors_pass_through():
    for status, kind in [
        (400, openai.BadRequestError),
        (403, openai.PermissionDeniedError),
        (422, openai.UnprocessableEntityError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ]:
        error = fails(kind, status, lambda: chat(f"status-{status}"))
        assert f"upstream says {status}" in str(error), error


def credentials_stay_here():
    seen = json.loads(chat("echo").choices[0].message.content)
    names = [name for name, _ in seen["headers"]]
    assert "x-target" not in names and "cookie" not in names, names
    assert TOKEN not in json.dumps(seen), "the provider saw the hub's token"
    equal([value for name, value in seen["headers"] if name == "authorization"], ["Bearer provider-key"])


def translated():
    answer = chat("claude-x", target="claude")
    choice = answer.choices[0]
    equal((choice.message.content, choice.finish_reason), ("Hello", "tool_calls"))
    call = choice.message.tool_calls[0]
    equal((call.id, call.type, call.function.name), ("toolu_1", "function", "weather"))
    equal(json.loads(call.function.arguments), {"city": "Kyiv"})
    equal(answer.usage.total_tokens, 15)


def translated_stream():
    # The package's own accumulator puts the chunks together and checks them.
    with client("claude").chat.completions.stream(
        model="claude-x", messages=HELLO, stream_options={"include_usage": True}
    ) as events:
        deltas = [event.delta for event in events if event.type == "content.delta"]
        answer = events.get_final_completion()
    # As at OpenAI, the chunk that tells the role has an empty text.
    equal(deltas, ["", "Hel", "lo"])
    equal((answer.id, answer.model), ("msg_1", "claude-standin"))
    choice = answer.choices[0]
    equal((choice.message.content, choice.finish_reason), ("Hello", "tool_calls"))
    call = choice.message.tool_calls[0]
    equal((call.id, call.function.name), ("toolu_1", "weather"))
    equal(json.loads(call.function.arguments), {"city": "Kyiv"})
    equal(answer.usage.total_tokens, 15)


def translated_errors():
    error = fails(
        openai.InternalServerError, 529, lambda: chat("status-529", target="claude")
    )
    equal((error.body["type"], error.body["message"]), ("overloaded_error", "anthropic says 529"))
    error = fails(
        openai.BadRequestError,
        400,
        lambda: client("claude").embeddings.create(model="m", input="x"),
    )
    assert "does not serve /v1/embeddings" in error.response.text, error.response.text


run(
    "python",
    [
        completion,
        stream,
        dying_stream,
        embeddings,
        models,
        unauthorized,
        not_found,
        too_large,
        limited,
        limited_by_provider,
        bad_gateway,
        gateway_timeout,
        provider_errors_pass_through,
        credentials_stay_here,
        translated,
        translated_stream,
        translated_errors,
    ],
)
