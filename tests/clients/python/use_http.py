"""HTTP libraries that know no provider, on OpenAI's API; the key comes from the environment, and what else they heed does
too. Called by the tests."""

import asyncio
import json
import os
import ssl
import urllib.request

from common import ATTEMPTS, main, say

URL = "https://api.openai.com/v1/chat/completions"
FIELDS = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
QUESTION = {"model": "gpt-fake", "messages": [{"role": "user", "content": "Where are keys kept?"}]}
STREAMED = {**QUESTION, "stream": True}


class Refused(Exception):
    """Any status that is none of success, with the words that came."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status_code = status


def say_answer(status, text):
    if status != 200:
        raise Refused(status, text)
    say(text=json.loads(text)["choices"][0]["message"]["content"])


def say_event(line):
    if line.startswith("data: {"):
        text = json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content")
        if text:
            say(text=text)


def use_requests():
    import requests

    answer = requests.post(URL, headers=FIELDS, json=QUESTION)
    say_answer(answer.status_code, answer.text)


def use_requests_stream():
    import requests

    with requests.post(URL, headers=FIELDS, json=STREAMED, stream=True) as answer:
        # One byte at a time: else it waits until a piece is full.
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            say_event(line)


def use_httpx():
    import httpx

    answer = httpx.post(URL, headers=FIELDS, json=QUESTION)
    say_answer(answer.status_code, answer.text)


def use_httpx_stream():
    import httpx

    with httpx.stream("POST", URL, headers=FIELDS, json=STREAMED) as answer:
        for line in answer.iter_lines():
            say_event(line)


async def with_aiohttp(question, see):
    import aiohttp

    ATTEMPTS.count += 1
    # Without this it heeds no variable.
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.post(URL, headers=FIELDS, json=question) as answer:
            await see(answer)


def use_aiohttp():
    async def see(answer):
        say_answer(answer.status, await answer.text())

    asyncio.run(with_aiohttp(QUESTION, see))


def use_aiohttp_stream():
    async def see(answer):
        async for line in answer.content:
            say_event(line.decode())

    asyncio.run(with_aiohttp(STREAMED, see))


def with_urllib(question, context=None):
    body = json.dumps(question).encode()
    request = urllib.request.Request(URL, body, {**FIELDS, "Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, context=context)
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode()) from None


def use_urllib():
    with with_urllib(QUESTION) as answer:
        say_answer(answer.status, answer.read())


def use_urllib_stream():
    with with_urllib(STREAMED) as answer:
        rest = b""
        # Its own way to read lines takes a stream that is cut for one that ends.
        while piece := answer.read1():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                say_event(line.decode())


def use_urllib_strict():
    """As Python checks certificates from 3.13 on."""
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    with with_urllib(QUESTION, context) as answer:
        say_answer(answer.status, answer.read())


main(
    requests=use_requests,
    requests_stream=use_requests_stream,
    httpx=use_httpx,
    httpx_stream=use_httpx_stream,
    aiohttp=use_aiohttp,
    aiohttp_stream=use_aiohttp_stream,
    urllib=use_urllib,
    urllib_stream=use_urllib_stream,
    urllib_strict=use_urllib_strict,
)
