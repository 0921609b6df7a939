"""Compares the hub with the SDK of each provider, and prints one line a check.

Both talk to the provider's public address. The outbound proxy (proxy.py) leads them to the stand-in, which keeps the
requests. The same conversation is sent by the provider's own SDK and, with the openai package, through the hub: host,
request line, the header fields that the provider asks for and the body must be the same, but for what DIFFERENCES
lists. What the stand-in answers is read by the provider's SDK into its own types, and through the hub by the openai
package, which here checks every answer against its types.

HUB_URL, HUB_TOKEN: the hub. STANDIN_URL: the stand-in. ACCOUNT: the service account's key file. The variables for
proxies and authorities are the usual ones.
"""

import base64
import json
import os
import urllib.parse
import urllib.request

import anthropic
import boto3
import botocore.auth
import botocore.awsrequest
import botocore.client
import botocore.credentials
import botocore.exceptions
import botocore.validate
import google.auth.jwt
import google.auth.transport.requests
import google.oauth2.service_account
import groq
import mistralai.client
import openai
import pydantic
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from cryptography.hazmat.primitives import serialization

from harness import equal, fails, run

HUB = os.environ["HUB_URL"]
STANDIN = os.environ["STANDIN_URL"]
TOKEN = os.environ["HUB_TOKEN"]
KEY = "provider-key"
REGION = "eu-central-1"
VERTEX = "/v1/projects/standin/locations/europe-west4"
with open(os.environ["ACCOUNT"], encoding="utf-8") as file:
    ACCOUNT = json.load(file)

# What the hub sends otherwise than the provider's SDK, with the reason. A row that no longer holds fails the check.
# (target, what, the hub's, the SDK's); None where it is not sent.
DIFFERENCES = [
    # The hub speaks the API's version that it was written for, unless the target names another. The reference still
    # names both fields for the key; if both are sent, the older one counts.
    ("anthropic", "anthropic-version", "2023-06-01", "2026-10-21"),
    ("anthropic", "x-api-key", KEY, None),
    ("anthropic", "authorization", None, f"Bearer {KEY}"),
    ("anthropic-next", "x-api-key", KEY, None),
    ("anthropic-next", "authorization", None, f"Bearer {KEY}"),
    ("vertex", "body.anthropic_version", "vertex-2023-10-16", "2026-10-21"),
    # The path that follows Azure's new scheme, which knows no versions and takes the deployment from the body.
    ("azure responses", "target", "/openai/v1/responses", "/openai/responses?api-version=2024-10-21"),
    # The SDK spells out a default.
    ("mistral", "body.stream", None, False),
]

# The header fields that each provider asks for. Those of a signature are compared by `signed`.
HEADERS = ["content-type", "authorization", "x-api-key", "api-key", "anthropic-version", "anthropic-beta"]
HEADERS += ["openai-organization", "openai-project"]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CONVERSATION = {
    "messages": [
        {"role": "system", "content": "Answer briefly."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which city is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            ],
        },
        {
            "role": "assistant",
            "content": "I look it up.",
            "tool_calls": [
                {
                    "id": "call_0",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Kyiv"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "12 degrees"},
        {"role": "user", "content": "And tomorrow?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "weather", "description": "The weather of a city", "parameters": SCHEMA},
        }
    ],
    "tool_choice": "required",
    "max_tokens": 100,
    "stop": ["END"],
}
TO_ANTHROPIC = {
    "system": [{"type": "text", "text": "Answer briefly."}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which city is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look it up."},
                {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Kyiv"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "call_0",
                    "content": [{"type": "text", "text": "12 degrees"}],
                },
                {"type": "text", "text": "And tomorrow?"},
            ],
        },
    ],
    "tools": [{"name": "weather", "description": "The weather of a city", "input_schema": SCHEMA}],
    "tool_choice": {"type": "any"},
    "max_tokens": 100,
    "stop_sequences": ["END"],
}
TO_BEDROCK = {
    "system": [{"text": "Answer briefly."}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "Which city is this?"},
                {"image": {"format": "png", "source": {"bytes": base64.b64decode(PNG)}}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"text": "I look it up."},
                {"toolUse": {"toolUseId": "call_0", "name": "weather", "input": {"city": "Kyiv"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "call_0", "content": [{"text": "12 degrees"}]}},
                {"text": "And tomorrow?"},
            ],
        },
    ],
    "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "stopSequences": ["END"]},
    "toolConfig": {
        "tools": [
            {
                "toolSpec": {
                    "name": "weather",
                    "description": "The weather of a city",
                    "inputSchema": {"json": SCHEMA},
                }
            }
        ],
        "toolChoice": {"any": {}},
    },
}
# A name with everything that has to be encoded in a path.
BEDROCK_MODEL = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.standin-v1:0"


# ------------------------------------------------------------------------------------------------------ the clients


def through_hub(target):
    return openai.OpenAI(
        api_key=TOKEN,
        base_url=HUB + "/v1",
        default_headers={"x-target": target},
        max_retries=0,
        timeout=15,
        _strict_response_validation=True,
    )


def ask(target, model, **more):
    return through_hub(target).chat.completions.create(model=model, **{**CONVERSATION, **more})


def claude():
    return anthropic.Anthropic(api_key=KEY, max_retries=0, timeout=15)


def bedrock(**credentials):
    config = botocore.client.Config(retries={"total_max_attempts": 1}, read_timeout=15)
    return boto3.client("bedrock-runtime", region_name=REGION, config=config, **credentials)


def bedrock_with_keys():
    return bedrock(
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="provider-key-aws",
        aws_session_token="provider-key-session",
    )


def account():
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    return google.oauth2.service_account.Credentials.from_service_account_info(ACCOUNT, scopes=scopes)


# --------------------------------------------------------------------------------------------------- the comparison


class Request:
    """A request as the stand-in got it."""

    def __init__(self, recorded):
        self.method = recorded["method"]
        self.target = recorded["target"]
        self.headers = dict(recorded["headers"])
        self.text = recorded["body"]
        equal(len(self.headers), len(recorded["headers"]))

    def parts(self):
        parts = {"method": self.method, "host": self.headers["host"], "target": self.target}
        parts |= {name: self.headers.get(name) for name in HEADERS}
        body = json.loads(self.text) if self.text else {}
        return parts | {f"body.{name}": value for name, value in body.items()}


def recorded():
    with urllib.request.urlopen(f"{STANDIN}/recorded", timeout=15) as answer:
        return [Request(one) for one in json.load(answer)]


def sent(call, path=None):
    """The request that `call` sends; with `path`, of several the one whose path ends so."""
    recorded()
    call()
    requests = [one for one in recorded() if path is None or one.target.endswith(path)]
    equal(len(requests), 1)
    return requests[0]


def compare(name, by_hub, by_sdk):
    """Asserts that the two requests are the same, but for what is declared under `name`."""
    hub, sdk = by_hub.parts(), by_sdk.parts()
    declared = {what: (ours, theirs) for target, what, ours, theirs in DIFFERENCES if target == name}
    found = {
        what: (hub.get(what), sdk.get(what))
        for what in hub.keys() | sdk.keys()
        if hub.get(what) != sdk.get(what)
    }
    equal(found, declared)


# ------------------------------------------------------------------------------------------------------ the answers


def is_answer(answer, model):
    equal(answer.model, model)
    choice = answer.choices[0]
    equal((choice.message.content, choice.finish_reason), ("Hello", "tool_calls"))
    equal(choice.message.tool_calls[0].function.name, "weather")
    equal(json.loads(choice.message.tool_calls[0].function.arguments), {"city": "Kyiv"})
    equal((answer.usage.prompt_tokens, answer.usage.completion_tokens), (10, 5))
    equal((answer.usage.total_tokens, answer.usage.prompt_tokens_details.cached_tokens), (15, 2))


def accumulated(target, model):
    """A stream as the openai package puts it together."""
    with through_hub(target).chat.completions.stream(
        model=model, stream_options={"include_usage": True}, **CONVERSATION
    ) as events:
        return events.until_done().get_final_completion()


def breaks_off(target, model, expected, message):
    words = []
    try:
        for chunk in ask(target, model, stream=True):
            words.append(chunk.choices[0].delta.content)
    except openai.APIError as error:
        equal((type(error), error.message, words), (openai.APIError, message, expected))
    else:
        raise AssertionError("a stream that broke off ended as if it were whole")


# -------------------------------------------------------------------------------------------------------- Anthropic


def anthropic_messages():
    more = {"user": "editor-7", "temperature": 0.5, "top_p": 0.9}
    own = {"metadata": {"user_id": "editor-7"}, "extra_body": {"temperature": 0.5, "top_p": 0.9}}
    by_sdk = sent(lambda: claude().messages.create(model="claude-x", **TO_ANTHROPIC, **own))
    by_hub = sent(lambda: ask("anthropic", "claude-x", **more))
    compare("anthropic", by_hub, by_sdk)
    by_sdk = sent(lambda: list(claude().messages.create(model="claude-x", stream=True, **TO_ANTHROPIC, **own)))
    by_hub = sent(lambda: list(ask("anthropic", "claude-x", stream=True, **more)))
    compare("anthropic", by_hub, by_sdk)


def anthropic_messages_in_the_next_version():
    # This version refuses what older ones take to tune an answer.
    by_sdk = sent(lambda: claude().messages.create(model="claude-x", **TO_ANTHROPIC))
    tuned = {"temperature": 0.5, "top_p": 0.9, "extra_body": {"top_k": 5}}
    compare("anthropic-next", sent(lambda: ask("anthropic-next", "claude-x", **tuned)), by_sdk)


def anthropic_choices():
    for choice, own in [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "weather"}}, {"type": "tool", "name": "weather"}),
    ]:
        by_sdk = sent(
            lambda: claude().messages.create(model="claude-x", **TO_ANTHROPIC | {"tool_choice": own})
        )
        compare("anthropic-next", sent(lambda: ask("anthropic-next", "claude-x", tool_choice=choice)), by_sdk)
    own = {"type": "any", "disable_parallel_tool_use": True}
    by_sdk = sent(lambda: claude().messages.create(model="claude-x", **TO_ANTHROPIC | {"tool_choice": own}))
    by_hub = sent(lambda: ask("anthropic-next", "claude-x", parallel_tool_calls=False))
    compare("anthropic-next", by_hub, by_sdk)
    own = {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}
    by_sdk = sent(lambda: claude().messages.create(model="claude-x", **TO_ANTHROPIC, **own))
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
    compare("anthropic-next", sent(lambda: ask("anthropic-next", "claude-x", response_format=wanted)), by_sdk)


def anthropic_models():
    by_sdk = sent(lambda: claude().models.list(limit=1000))
    by_hub = sent(lambda: through_hub("anthropic").models.list())
    compare("anthropic", by_hub, by_sdk)
    equal([model.id for model in through_hub("anthropic").models.list()], ["claude-standin", "claude-large"])


def anthropic_answers():
    # The stand-in's answers are what the SDK's own types say, member by member.
    raw = claude().messages.with_raw_response.create(model="claude-x", **TO_ANTHROPIC)
    equal(Message.model_validate(raw.json()).content[1].input, {"city": "Kyiv"})
    raw = claude().models.with_raw_response.list()
    for model in raw.json()["data"]:
        ModelInfo.model_validate(model)
    event = pydantic.TypeAdapter(RawMessageStreamEvent)
    with claude().messages.with_streaming_response.create(model="claude-x", stream=True, **TO_ANTHROPIC) as raw:
        lines = [json.loads(line[6:]) for line in raw.iter_lines() if line.startswith("data: ")]
    kinds = [event.validate_python(line).type for line in lines if line["type"] != "ping"]
    equal((kinds[0], kinds[-1], len(kinds)), ("message_start", "message_stop", 11))
    with claude().messages.stream(model="claude-x", **TO_ANTHROPIC) as events:
        equal(events.get_final_message().content[1].input, {"city": "Kyiv"})

    is_answer(ask("anthropic", "claude-x"), "claude-standin")
    is_answer(accumulated("anthropic", "claude-x"), "claude-standin")
    breaks_off("anthropic", "claude-overloaded", ["", "Hel"], "Overloaded")
    breaks_off("anthropic", "claude-dying", ["", "Hel"], "The upstream service broke off its answer")


def anthropic_errors():
    for status, kind, own, named in [
        (400, openai.BadRequestError, anthropic.BadRequestError, "invalid_request_error"),
        (401, openai.AuthenticationError, anthropic.AuthenticationError, "authentication_error"),
        (404, openai.NotFoundError, anthropic.NotFoundError, "not_found_error"),
        (429, openai.RateLimitError, anthropic.RateLimitError, "rate_limit_error"),
        (500, openai.InternalServerError, anthropic.InternalServerError, "api_error"),
        (529, openai.InternalServerError, anthropic.OverloadedError, "overloaded_error"),
    ]:
        try:
            claude().messages.create(model=f"status-{status}", **TO_ANTHROPIC)
            raise AssertionError("no error")
        except anthropic.APIStatusError as error:
            equal((type(error).__name__, error.type), (own.__name__, named))
        for stream in (False, True):
            error = fails(kind, status, lambda: ask("anthropic", f"status-{status}", stream=stream))
            equal((error.type, error.body["message"]), (named, f"anthropic says {status}"))
        if status == 429:
            equal(error.response.headers["retry-after"], "7")


# ---------------------------------------------------------------------------------------------------------- Bedrock


def signed(request):
    """Asserts that a request's signature is what botocore computes for it, and tells the fields that are signed."""
    scheme, rest = request.headers["authorization"].split(" ", 1)
    fields = dict(part.split("=", 1) for part in rest.split(", "))
    equal((scheme, sorted(fields)), ("AWS4-HMAC-SHA256", ["Credential", "Signature", "SignedHeaders"]))
    date = request.headers["x-amz-date"]
    equal(fields["Credential"], f"AKIDEXAMPLE/{date[:8]}/{REGION}/bedrock/aws4_request")
    names = fields["SignedHeaders"].split(";")
    again = botocore.awsrequest.AWSRequest(
        method=request.method,
        url=f"https://{request.headers['host']}{request.target}",
        headers={name: request.headers[name] for name in names},
        data=request.text.encode(),
    )
    again.context["timestamp"] = date
    keys = botocore.credentials.Credentials("AKIDEXAMPLE", "provider-key-aws", "provider-key-session")
    signer = botocore.auth.SigV4Auth(keys, "bedrock", REGION)
    to_sign = signer.string_to_sign(again, signer.canonical_request(again))
    equal(fields["Signature"], signer.signature(to_sign, again))
    return names


def bedrock_requests():
    for model in [BEDROCK_MODEL, "anthropic.claude-x-v1:0", "a~b._-c"]:
        for stream, operation in [(False, "converse"), (True, "converse_stream")]:
            call = getattr(bedrock_with_keys(), operation)
            by_sdk = sent(lambda: call(modelId=model, **TO_BEDROCK))
            by_hub = sent(lambda: list(ask("bedrock", model, temperature=0.5, stream=stream)))
            # The same fields are signed, and both signatures are right.
            equal(signed(by_hub), signed(by_sdk))
            equal(by_hub.headers["x-amz-security-token"], "provider-key-session")
            for request in (by_hub, by_sdk):
                del request.headers["authorization"]
            compare("bedrock", by_hub, by_sdk)


def bedrock_with_a_bearer_key():
    os.environ["AWS_BEARER_TOKEN_BEDROCK"] = KEY
    try:
        by_sdk = sent(lambda: bedrock().converse(modelId=BEDROCK_MODEL, **TO_BEDROCK))
    finally:
        del os.environ["AWS_BEARER_TOKEN_BEDROCK"]
    by_hub = sent(lambda: ask("bedrock-bearer", BEDROCK_MODEL, temperature=0.5))
    compare("bedrock-bearer", by_hub, by_sdk)
    equal("x-amz-date" in by_hub.headers, False)


def bedrock_choices():
    for choice, own in [
        ("auto", {"auto": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
    ]:
        config = {"toolConfig": TO_BEDROCK["toolConfig"] | {"toolChoice": own}}
        by_sdk = sent(lambda: bedrock_with_keys().converse(modelId="m", **TO_BEDROCK | config))
        by_hub = sent(lambda: ask("bedrock", "m", temperature=0.5, tool_choice=choice))
        for request in (by_hub, by_sdk):
            del request.headers["authorization"]
        compare("bedrock", by_hub, by_sdk)


def bedrock_answers():
    client = bedrock_with_keys()
    shape = client.meta.service_model.operation_model
    valid = botocore.validate.ParamValidator().validate
    answer = client.converse(modelId="m", **TO_BEDROCK)
    equal(answer["ResponseMetadata"]["RequestId"], "0a1b2c3d-standin")
    del answer["ResponseMetadata"]
    equal(valid(answer, shape("Converse").output_shape).generate_report(), "")
    equal(answer["output"]["message"]["content"][1]["toolUse"]["input"], {"city": "Kyiv"})
    events = list(client.converse_stream(modelId="m", **TO_BEDROCK)["stream"])
    of_stream = shape("ConverseStream").output_shape.members["stream"]
    for event in events:
        ((name, payload),) = event.items()
        equal(valid(payload, of_stream.members[name]).generate_report(), "")
    equal((list(events[0]), list(events[-1]), len(events)), (["messageStart"], ["metadata"], 10))

    is_answer(ask("bedrock", "m"), "m")
    is_answer(accumulated("bedrock", "m"), "m")
    breaks_off("bedrock", "throttled", ["", "Hel", "lo"], "Too many tokens")
    breaks_off("bedrock", "dying", ["", "Hel", "lo"], "The upstream service broke off its answer")


def bedrock_errors():
    for status, kind, named in [
        (400, openai.BadRequestError, "ValidationException"),
        (403, openai.PermissionDeniedError, "AccessDeniedException"),
        (404, openai.NotFoundError, "ResourceNotFoundException"),
        (429, openai.RateLimitError, "ThrottlingException"),
        (500, openai.InternalServerError, "InternalServerException"),
        (503, openai.InternalServerError, "ServiceUnavailableException"),
    ]:
        try:
            bedrock_with_keys().converse(modelId=f"status-{status}", **TO_BEDROCK)
            raise AssertionError("no error")
        except botocore.exceptions.ClientError as error:
            equal(error.response["Error"], {"Code": named, "Message": f"bedrock says {status}"})
        for stream in (False, True):
            error = fails(kind, status, lambda: ask("bedrock", f"status-{status}", stream=stream))
            equal((error.type, error.body["message"]), (named, f"bedrock says {status}"))


# ----------------------------------------------------------------------------------------------------------- Google


def google_access_token():
    """The first check of this target: the hub has no token yet."""
    own = account()
    by_sdk = sent(lambda: own.refresh(google.auth.transport.requests.Request()))
    by_hub = sent(lambda: ask("vertex", "gemini-x"), "/token")
    said = []
    private = serialization.load_pem_private_key(ACCOUNT["private_key"].encode(), None)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for request in (by_hub, by_sdk):
        form = urllib.parse.parse_qs(request.text, strict_parsing=True)
        (statement,) = form.pop("assertion")
        # Checks the signature and that the statement is valid now.
        claims = google.auth.jwt.decode(statement, certs=public)
        lifetime = claims.pop("exp") - claims.pop("iat")
        head = google.auth.jwt.decode_header(statement)
        line = [request.method, request.headers["host"], request.target, request.headers["content-type"]]
        said.append((line, form, claims, head, lifetime))
    equal(said[0], said[1])


def vertex_chat():
    # As Google documents the use of the openai package.
    client = openai.OpenAI(
        api_key="google-access-token",
        base_url=f"https://europe-west4-aiplatform.googleapis.com{VERTEX}/endpoints/openapi",
        max_retries=0,
    )
    create = client.chat.completions.create
    by_sdk = sent(lambda: create(model="google/gemini-x", **CONVERSATION))
    compare("vertex chat", sent(lambda: ask("vertex", "gemini-x")), by_sdk)
    compare("vertex chat", sent(lambda: ask("vertex", "google/gemini-x")), by_sdk)


def vertex_claude():
    own = account()
    own.refresh(google.auth.transport.requests.Request())
    client = anthropic.AnthropicVertex(
        project_id="standin", region="europe-west4", access_token=own.token, max_retries=0
    )
    by_sdk = sent(lambda: client.messages.create(model="claude-x@20260101", **TO_ANTHROPIC))
    compare("vertex", sent(lambda: ask("vertex", "anthropic/claude-x@20260101")), by_sdk)
    by_sdk = sent(lambda: list(client.messages.create(model="claude-x", stream=True, **TO_ANTHROPIC)))
    compare("vertex", sent(lambda: list(ask("vertex", "claude-x", stream=True))), by_sdk)
    client = anthropic.AnthropicVertex(project_id="standin", region="eu", access_token=own.token, max_retries=0)
    by_sdk = sent(lambda: client.messages.create(model="claude-x", **TO_ANTHROPIC))
    compare("vertex", sent(lambda: ask("vertex-eu", "claude-x")), by_sdk)
    is_answer(ask("vertex", "claude-x"), "claude-standin")
    is_answer(accumulated("vertex", "claude-x"), "claude-standin")
    error = fails(openai.RateLimitError, 429, lambda: ask("vertex", "anthropic/status-429"))
    equal(error.type, "rate_limit_error")


def gemini():
    # As Google documents the use of the openai package.
    base = "https://generativelanguage.googleapis.com/v1beta/openai/"
    client = openai.OpenAI(api_key=KEY, base_url=base, max_retries=0)
    by_sdk = sent(lambda: client.chat.completions.create(model="gemini-x", **CONVERSATION))
    compare("google", sent(lambda: ask("google", "gemini-x")), by_sdk)
    by_sdk = sent(lambda: client.embeddings.create(model="m", input="x"))
    compare("google", sent(lambda: through_hub("google").embeddings.create(model="m", input="x")), by_sdk)


# --------------------------------------------------------------------------------------- those that speak as OpenAI


def azure():
    client = openai.AzureOpenAI(
        azure_endpoint="https://standin.openai.azure.com",
        azure_deployment="deployed",
        api_version="2024-10-21",
        api_key=KEY,
        max_retries=0,
    )
    hub = through_hub("azure")
    by_sdk = sent(lambda: client.chat.completions.create(model="m", **CONVERSATION))
    compare("azure", sent(lambda: ask("azure", "m")), by_sdk)
    for name, call in [
        ("azure", lambda client: client.embeddings.create(model="m", input="x")),
        ("azure", lambda client: client.completions.with_raw_response.create(model="m", prompt="x")),
        ("azure", lambda client: client.models.list()),
        ("azure", lambda client: client.audio.speech.create(model="m", input="x", voice="alloy")),
        ("azure", lambda client: client.images.with_raw_response.generate(model="m", prompt="x")),
        ("azure responses", lambda client: client.responses.with_raw_response.create(model="m", input="x")),
    ]:
        compare(name, sent(lambda: call(hub)), sent(lambda: call(client)))


def compatible():
    by_sdk = sent(
        lambda: groq.Groq(api_key=KEY, max_retries=0).chat.completions.create(model="m", **CONVERSATION)
    )
    compare("groq", sent(lambda: ask("groq", "m")), by_sdk)

    client = mistralai.client.Mistral(api_key=KEY)
    hello = [{"role": "user", "content": "Hello"}]
    by_sdk = sent(lambda: client.chat.complete(model="m", messages=hello, max_tokens=5))
    hub = through_hub("mistral").chat.completions.create
    compare("mistral", sent(lambda: hub(model="m", messages=hello, max_tokens=5)), by_sdk)

    client = openai.OpenAI(api_key=KEY, organization="org-standin", project="proj-standin", max_retries=0)
    hub = through_hub("openai")
    for call in [
        lambda client: client.chat.completions.create(model="m", **CONVERSATION),
        lambda client: list(client.chat.completions.create(model="m", stream=True, **CONVERSATION)),
        lambda client: client.embeddings.create(model="m", input="x"),
        lambda client: client.models.list(),
        lambda client: client.responses.with_raw_response.create(model="m", input="x"),
    ]:
        compare("openai", sent(lambda: call(hub)), sent(lambda: call(client)))


def a_host_that_is_not_allowed():
    recorded()
    fails(openai.InternalServerError, 502, lambda: ask("not-allowed", "m"))
    equal(recorded(), [])


run(
    "providers",
    [
        anthropic_messages,
        anthropic_messages_in_the_next_version,
        anthropic_choices,
        anthropic_models,
        anthropic_answers,
        anthropic_errors,
        bedrock_requests,
        bedrock_with_a_bearer_key,
        bedrock_choices,
        bedrock_answers,
        bedrock_errors,
        google_access_token,
        vertex_chat,
        vertex_claude,
        gemini,
        azure,
        compatible,
        a_host_that_is_not_allowed,
    ],
)
