"""Slack's library, as its documentation shows it; a base URL, where there is one, is given in code. Called by the tests."""

import os

from common import main, say
from slack_sdk import WebClient

client = WebClient(token=os.environ["SLACK_BOT_TOKEN"], base_url=os.environ.get("SLACK_BASE_URL", WebClient.BASE_URL))


def test():
    say(text=client.auth_test()["user"])


def post():
    say(text=client.chat_postMessage(channel="C1", text="Keys are kept.")["message"]["text"])


def pages():
    for page in client.conversations_history(channel="C1", limit=1):
        say(text=page["messages"][0]["text"])


main(test=test, post=post, pages=pages)
