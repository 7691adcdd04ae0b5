"""Anthropic's library, as its documentation shows it; base URL and key come from the environment. Called by the tests."""

import anthropic
from common import main, say

REQUEST = {
    "model": "claude-fake",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Where are keys kept?"}],
}


def messages():
    say(text=anthropic.Anthropic().messages.create(**REQUEST).content[0].text)


def messages_stream():
    with anthropic.Anthropic().messages.stream(**REQUEST) as stream:
        for text in stream.text_stream:
            say(text=text)
        say(final=stream.get_final_message().content[0].text)


def count():
    tokens = anthropic.Anthropic().messages.count_tokens(model="claude-fake", messages=REQUEST["messages"])
    say(text=str(tokens.input_tokens))


main(messages=messages, messages_stream=messages_stream, count=count)
