// Google's library for Gemini, as its documentation shows it; base URL and key come from the environment. Called by the
// tests.
"use strict";

const { GoogleGenAI } = require("@google/genai");
const { counted, main, say } = require("./common.cjs");

// It cannot be given one.
globalThis.fetch = counted;

const request = { model: "gemini-fake", contents: "Where are keys kept?" };

async function generate() {
  const answer = await new GoogleGenAI({}).models.generateContent(request);
  say({ text: answer.text });
}

async function generate_stream() {
  for await (const chunk of await new GoogleGenAI({}).models.generateContentStream(request)) {
    if (chunk.text) say({ text: chunk.text });
  }
}

main({ generate, generate_stream });
