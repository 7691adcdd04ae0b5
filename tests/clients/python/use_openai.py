"""OpenAI's library, as its documentation shows it; base URL and key come from the environment. Called by the tests."""

import asyncio

import openai
from common import main, say

MESSAGES = [{"role": "user", "content": "Where are keys kept?"}]


def chat():
    answer = openai.OpenAI().chat.completions.create(model="gpt-fake", messages=MESSAGES)
    say(text=answer.choices[0].message.content)


def chat_stream():
    for chunk in openai.OpenAI().chat.completions.create(model="gpt-fake", messages=MESSAGES, stream=True):
        if chunk.choices[0].delta.content:
            say(text=chunk.choices[0].delta.content)


def chat_stream_async():
    async def run():
        async with openai.AsyncOpenAI() as client:
            stream = await client.chat.completions.create(model="gpt-fake", messages=MESSAGES, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    say(text=chunk.choices[0].delta.content)

    asyncio.run(run())


def responses():
    say(text=openai.OpenAI().responses.create(model="gpt-fake", input="Where are keys kept?").output_text)


def responses_stream():
    with openai.OpenAI().responses.stream(model="gpt-fake", input="Where are keys kept?") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                say(text=event.delta)
        say(final=stream.get_final_response().output_text)


def models():
    say(text=", ".join(model.id for model in openai.OpenAI().models.list()))


main(
    chat=chat,
    chat_stream=chat_stream,
    chat_stream_async=chat_stream_async,
    responses=responses,
    responses_stream=responses_stream,
    models=models,
)
