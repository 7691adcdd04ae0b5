"""Google's library for Gemini, as its documentation shows it; base URL and key come from the environment. Called by the
tests."""

from common import main, say
from google import genai

client = genai.Client()
REQUEST = {"model": "gemini-fake", "contents": "Where are keys kept?"}


def generate():
    say(text=client.models.generate_content(**REQUEST).text)


def generate_stream():
    for chunk in client.models.generate_content_stream(**REQUEST):
        if chunk.text:
            say(text=chunk.text)


main(generate=generate, generate_stream=generate_stream)
