"""LangChain with OpenAI's models, as its documentation shows it; base URL and key come from the environment. Called by
the tests."""

from common import main, say
from langchain_openai import ChatOpenAI

QUESTION = "Where are keys kept?"


def chat():
    say(text=ChatOpenAI(model="gpt-fake").invoke(QUESTION).content)


def chat_stream():
    for chunk in ChatOpenAI(model="gpt-fake").stream(QUESTION):
        if chunk.content:
            say(text=chunk.content)


main(chat=chat, chat_stream=chat_stream)
