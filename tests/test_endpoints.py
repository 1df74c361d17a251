"""The client of endpoints: servers that misbehave, secrets that stay, and requests that end."""

import socket
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagecot.endpoints import KEY, Endpoint
from imagecot.errors import ImagecotError, UsageError
from imagecot.exchange import MOST_BYTES
from imagecot.replies import Reply, without_thinking
from misbehaving import closes, drips, floods, says, sends, server

SECRET = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


def post(url: str, **options):
    return Endpoint(url, **options).post("chat/completions", {"a": 1})


def test_an_answer_and_what_was_asked():
    with server(sends({"b": 2})) as there:
        assert post(there.url + "/", key=f" {SECRET}\n") == {"b": 2}
        assert there.bodies == [{"a": 1}]
        assert there.paths == ["/v1/chat/completions"]
        assert there.headers[0]["Authorization"] == f"Bearer {SECRET}"
    with server(sends({"b": 2})) as there:
        post(there.url)
        assert "Authorization" not in there.headers[0]


def test_a_server_learns_nothing_else_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "my-organization")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "my-project")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Key: {SECRET}\nAuthorization: Bearer {SECRET}")
    with server(sends({"b": 2})) as there:
        assert post(there.url) == {"b": 2}
        (headers,) = there.headers
    assert {*headers} == {
        "Accept", "Accept-Encoding", "Connection", "Content-Length", "Content-Type", "Host", "User-Agent",
    }  # fmt: skip
    assert not any(word in str(headers) for word in (SECRET, "my-"))


def test_answers_of_many_requests_carry_their_number():
    with server(sends({"b": 2})) as there:
        found = list(Endpoint(there.url).post_each("x", [{"n": k} for k in range(20)], lambda _, answer: answer))
        assert sorted(number for number, _ in found) == list(range(20))
        assert all(answer == {"b": 2} for _, answer in found)
        assert sorted(body["n"] for body in there.bodies) == list(range(20))
        assert list(Endpoint(there.url).post_each("x", [], lambda _, answer: answer)) == []


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(code):
    with server(sends("no", code), closes, sends({"b": 2})) as there:
        assert post(there.url) == {"b": 2}
        assert len(there.bodies) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 413, 422])
def test_what_does_not_pass_is_said_at_once_with_the_servers_words(code):
    with server(sends({"error": {"message": "Use max_completion_tokens\n\x1b[31m."}}, code)) as there:
        with pytest.raises(
            ImagecotError, match=rf"refuses the request \({code}: Use max_completion_tokens \\x1b"
        ) as it:
            post(there.url)
        assert len(there.bodies) == 1
    assert "\x1b" not in str(it.value) and "\n" not in str(it.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"error": "no such model"}, "no such model"),
        ({"message": "too large"}, "too large"),
        ({"detail": [{"msg": "field required"}]}, "field required"),
        ([{"error": {"message": "in a list"}}], "in a list"),
        ("plain words", "plain words"),
        ("x" * 5000, "x" * 200 + "…"),
        ("<html><body>nginx</body></html>", ""),
        ({"error": None}, ""),
        ("", ""),
    ],
)
def test_words_of_a_server_are_found_and_shortened(body, told):
    with server(sends(body, 400)) as there, pytest.raises(ImagecotError) as it:
        post(there.url)
    assert str(it.value).startswith(f"{there.url} refuses the request (400{': ' + told if told else ''}); ")


@pytest.mark.parametrize("headers", [True, False])
def test_a_server_that_drips_is_left_by_the_deadline(headers):
    with server(drips(headers)) as there:
        start = time.monotonic()
        with pytest.raises(ImagecotError, match=r"did not answer within 0\.4 s"):
            post(there.url, seconds=0.4)
        assert time.monotonic() - start < 3


def test_a_server_may_ask_to_wait():
    for asked, least in (
        ("0.3", 0.3),
        ("inf", 0),
        ("nan", 0),
        ("-1", 0),
        ("soon", 0),
        ("Wed, 21 Oct 2009 07:28:00 -0000", 0),
    ):
        with server(sends("later", 429, Retry_After=asked), sends({"b": 2})) as there:
            start = time.monotonic()
            assert post(there.url) == {"b": 2}
            assert least <= time.monotonic() - start < 3


@pytest.mark.parametrize("asked", ["3600", "1e300", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_server_that_asks_to_wait_for_long_is_not_waited_for(asked):
    with server(sends("later", 503, Retry_After=asked), sends({"b": 2})) as there:
        with pytest.raises(
            ImagecotError, match=r"refuses the request \(503: later\); try again later, the same command"
        ):
            post(there.url)
        assert len(there.bodies) == 1


def test_the_deadline_holds_for_all_tries_and_pauses():
    with server(sends("later", 429, Retry_After="0.4")) as there:
        start = time.monotonic()
        with pytest.raises(ImagecotError, match=r"did not answer within 0\.6 s"):
            post(there.url, seconds=0.6)
        assert time.monotonic() - start < 3
        assert len(there.bodies) == 2


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(code):
    with server(sends({"b": 2})) as other:
        target = other.url.replace("http://", f"http://user:{SECRET}@") + f"?key={SECRET}"
        told = rf"redirects to {other.url}, which is not followed"
        with server(sends("", code, Location=target)) as there, pytest.raises(ImagecotError, match=told) as it:
            post(there.url, key=SECRET)
        assert other.headers == []
        assert SECRET not in str(it.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sends("<html>"), "is not valid JSON"),
        (sends(""), "is not valid JSON"),
        (sends("[1]"), "does not hold a JSON object"),
        (sends("[" * 100_000), "is not valid JSON"),
        (sends('{"a": NaN}'), "is not valid JSON"),
        (sends("{}", Content_Encoding="gzip"), "cannot be asked"),
        (floods, f"more than {MOST_BYTES:,} bytes"),
        (closes, "cannot be reached"),
        (sends("{}", Content_Length="9999"), "did not answer|cannot be reached"),
    ],
)
def test_what_is_no_answer_is_one_sentence(answer, told):
    with server(answer) as there, pytest.raises(ImagecotError, match=told):
        post(there.url, seconds=2.0)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ImagecotError, match="cannot be reached"):
            post(f"http://127.0.0.1:{free.getsockname()[1]}/v1")


@pytest.mark.parametrize(
    "address",
    ["", "api.openai.com/v1", "localhost:8000/v1", "ftp://host/v1", "http://", "http:///v1", "http://host:99999/v1",
     "http://[::1/v1", "http://ho st/v1", "http://host/v1\n", "file:///etc/passwd", "http://user:hidden@", None, 3,
     "http://host:x/v1", "javascript://user:hidden@host"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_its_password(address):
    with pytest.raises(UsageError, match="an endpoint is an address such as") as it:
        Endpoint(address)
    assert "hidden" not in str(it.value)


@pytest.mark.parametrize("key", ["with blank", "new\nline", "ключ", "nul\0l", "\x7f\x7f\x7f"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(key):
    with pytest.raises(UsageError, match=f"set {KEY} again") as it:
        Endpoint("http://host/v1", key)
    assert key not in str(it.value)


@pytest.mark.parametrize(
    "options", [{"seconds": float("nan")}, {"seconds": -1.0}, {"seconds": float("inf")}, {"at_once": 0}]
)
def test_numbers_that_are_none_are_refused(options):
    with pytest.raises(UsageError, match=r"must be a number of at least 0|at least one request"):
        Endpoint("http://host/v1", **options)


def test_key_and_password_are_shown_nowhere():
    for echo in (SECRET, f"Bearer {SECRET}", "p%40ss-word", "p@ss-word", "a-token"):
        with server(sends({"error": f"what is {echo}?"}, 400)) as there:
            with pytest.raises(ImagecotError) as it:
                post(there.url, key=SECRET)
            address = there.url.replace("http://", "http://user:p%40ss-word@") + "?token=a-token"
            with pytest.raises(ImagecotError) as other:
                post(address, key=SECRET)
            assert there.headers[1]["Authorization"].startswith("Basic ")
            assert there.paths[1] == "/v1/chat/completions?token=a-token"
        assert SECRET not in str(it.value)
        assert not any(word in str(other.value) for word in ("p%40ss-word", "p@ss-word", "user", "a-token"))
    endpoint = Endpoint("https://user:p%40ss-word@host:8443/v1?token=a-token", SECRET)
    assert endpoint.shown == "https://host:8443/v1"
    assert SECRET not in repr(endpoint) and "p%40" not in repr(endpoint)


def read(**message):
    finish = message.pop("finish_reason", "stop")
    return Reply.read({"choices": [{"message": message, "finish_reason": finish}]}, Endpoint("http://host/v1", SECRET))


def test_parts_are_their_text():
    reply = read(content=[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "The cup"}, " is red."])
    assert (reply.text, reply.parts, reply.refusal, reply.is_cut) == (
        "The cup is red.",
        ("The cup", " is red."),
        None,
        False,
    )
    assert read(content=[{"type": "output_text", "text": "a"}, {"type": "image_url", "image_url": {}}]).text == "a"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>It is a cup.</think>\n\nThe cup is red.", "The cup is red."),
        ("It is a cup.</think>The cup is red.", "The cup is red."),
        ("<think>It never ends", ""),
        ("<think></think>", ""),
        ("[THINK]a[/THINK]b", "b"),
        ("◁think▷a◁/think▷b", "b"),
        ("<thinking>a</thinking>b<think>c</think>", "b"),
        ("I think <b> is wrong", "I think <b> is wrong"),
    ],
)
def test_thinking_is_no_text(text, left):
    assert without_thinking(text) == left
    assert read(content=text, reasoning_content="It is a cup.").text == left


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "I cannot help."},
        {"content": "", "refusal": "no"},
        {"content": [{"type": "refusal", "refusal": "no"}]},
        {"content": "I'm sorry, but I can't assist with that request."},
        {"content": "I’m sorry, I cannot view images."},
        {"content": "Sorry, I am unable to help with that."},
        {"content": "As an AI language model, I cannot see."},
        {"content": "I can't identify people."},
        {"content": "The", "finish_reason": "content_filter"},
    ],
)
def test_refusals_are_told_apart(message):
    assert read(**message).refusal


def test_what_is_no_refusal():
    assert read(content="I cannot find the fourth cup.").refusal is None
    assert read(content="Sorry state of a cup: it is broken.").refusal is None
    assert read(content=None).refusal is None
    assert read(content="The", finish_reason="length").is_cut


def test_a_key_in_an_answer_is_hidden():
    assert SECRET not in str(read(content=f"The cup says {SECRET}."))


@pytest.mark.parametrize(
    "usage", [None, 3, [], {}, {"prompt_tokens": "many"}, {"prompt_tokens": -1}, {"prompt_tokens": 10**30}]
)
def test_a_bill_that_cannot_be_read_costs_nothing(usage):
    answer = {"choices": [{"message": {"content": "x"}}], "usage": usage}
    assert Reply.read(answer, Endpoint("http://host/v1")).prompt_tokens == 0


FIELDS = ["choices", "message", "content", "refusal", "finish_reason", "text", "type", "usage"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["choices", "usage", "error"]), json_values, max_size=3))
def test_any_object_is_a_reply_or_a_sentence(answer):
    try:
        assert isinstance(Reply.read(answer, Endpoint("http://host/v1")).text, str)
    except ImagecotError as error:
        assert str(error).endswith(".") and "\n" not in str(error)


@settings(max_examples=60, deadline=None)
@given(json_values)
def test_any_message_is_a_reply_or_a_sentence(message):
    try:
        assert isinstance(read(content=message).text, str)
    except ImagecotError as error:
        assert "did not answer as a chat model" in str(error)


def test_a_whole_exchange():
    with server(says("<think>hm</think>No, the cup is green.")) as there:
        endpoint = Endpoint(there.url)
        reply = Reply.read(endpoint.post("chat/completions", {}), endpoint)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("No, the cup is green.", 100, 7)
