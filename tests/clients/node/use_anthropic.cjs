// Anthropic's library, as its documentation shows it; base URL and key come from the environment. Called by the tests.
"use strict";

const Anthropic = require("@anthropic-ai/sdk");
const { counted, main, say } = require("./common.cjs");

const client = new Anthropic({ fetch: counted });
const request = {
  model: "claude-fake",
  max_tokens: 100,
  messages: [{ role: "user", content: "Where are keys kept?" }],
};

async function messages() {
  const answer = await client.messages.create(request);
  say({ text: answer.content[0].text });
}

async function messages_stream() {
  const stream = client.messages.stream(request);
  for await (const event of stream) {
    if (event.type === "content_block_delta") say({ text: event.delta.text });
  }
  say({ final: (await stream.finalMessage()).content[0].text });
}

main({ messages, messages_stream });
