// OpenAI's library, as its documentation shows it; base URL and key come from the environment. Called by the tests.
"use strict";

const OpenAI = require("openai");
const { counted, main, say } = require("./common.cjs");

const client = new OpenAI({ fetch: counted });
const messages = [{ role: "user", content: "Where are keys kept?" }];

async function chat() {
  const answer = await client.chat.completions.create({ model: "gpt-fake", messages });
  say({ text: answer.choices[0].message.content });
}

async function chat_stream() {
  const stream = await client.chat.completions.create({ model: "gpt-fake", messages, stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) say({ text: chunk.choices[0].delta.content });
  }
}

async function responses() {
  const answer = await client.responses.create({ model: "gpt-fake", input: "Where are keys kept?" });
  say({ text: answer.output_text });
}

async function responses_stream() {
  const stream = await client.responses.create({ model: "gpt-fake", input: "Where are keys kept?", stream: true });
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") say({ text: event.delta });
    if (event.type === "response.completed") say({ final: event.response.output[0].content[0].text });
  }
}

main({ chat, chat_stream, responses, responses_stream });
