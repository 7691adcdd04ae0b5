// HTTP libraries that know no provider, on OpenAI's API; the key comes from the environment, and what else they heed
// does too. Called by the tests.
"use strict";

const https = require("node:https");
const readline = require("node:readline");
const { Readable } = require("node:stream");
const axios = require("axios");
const undici = require("undici");
const { attempt, counted, main, say } = require("./common.cjs");

const url = "https://api.openai.com/v1/chat/completions";
const headers = { authorization: `Bearer ${process.env.OPENAI_API_KEY}`, "content-type": "application/json" };
const question = { model: "gpt-fake", messages: [{ role: "user", content: "Where are keys kept?" }] };
const streamed = { ...question, stream: true };

// Any status that is none of success, with the words that came.
class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function sayAnswer(status, text) {
  if (status !== 200) throw new Refused(status, text);
  say({ text: JSON.parse(text).choices[0].message.content });
}

async function sayEvents(body) {
  for await (const line of readline.createInterface({ input: body })) {
    if (!line.startsWith("data: {")) continue;
    const text = JSON.parse(line.slice("data: ".length)).choices[0].delta.content;
    if (text) say({ text });
  }
  // Reading by lines ends where the body does, broken off or not.
  if (body.errored) throw body.errored;
}

function withFetch(body) {
  return counted(url, { method: "POST", headers, body: JSON.stringify(body) });
}

function withUndici(body) {
  attempt();
  const dispatcher = new undici.EnvHttpProxyAgent();
  return undici.request(url, { method: "POST", headers, body: JSON.stringify(body), dispatcher });
}

function withAxios(body, responseType) {
  attempt();
  return axios.post(url, body, { headers, responseType, validateStatus: () => true });
}

function withHttps(body) {
  attempt();
  return new Promise((resolve, reject) => {
    https.request(url, { method: "POST", headers }, resolve).on("error", reject).end(JSON.stringify(body));
  });
}

async function whole(body) {
  let text = "";
  for await (const piece of body) text += piece;
  return text;
}

main({
  async fetch() {
    const answer = await withFetch(question);
    sayAnswer(answer.status, await answer.text());
  },
  async fetch_stream() {
    await sayEvents(Readable.fromWeb((await withFetch(streamed)).body));
  },
  async undici() {
    const answer = await withUndici(question);
    sayAnswer(answer.statusCode, await answer.body.text());
  },
  async undici_stream() {
    await sayEvents((await withUndici(streamed)).body);
  },
  async axios() {
    const answer = await withAxios(question, "text");
    sayAnswer(answer.status, typeof answer.data === "string" ? answer.data : JSON.stringify(answer.data));
  },
  async axios_stream() {
    await sayEvents((await withAxios(streamed, "stream")).data);
  },
  async https() {
    const answer = await withHttps(question);
    sayAnswer(answer.statusCode, await whole(answer));
  },
  async https_stream() {
    await sayEvents(await withHttps(streamed));
  },
});
