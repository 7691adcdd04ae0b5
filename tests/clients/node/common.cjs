// What the scripts of all Node clients share: the action's name comes as an argument, what happened goes out as one JSON
// object a line, and the process stays until its standard input ends, so that a test can look at it. It refuses to
// handle an error: that is what a test wants to see. Called by the scripts beside it.
"use strict";

function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

// Counts answers: a library that tries again says so in no other place.
let attempts = 0;
const original = globalThis.fetch;
async function counted(...request) {
  const answer = await original(...request);
  attempts += 1;
  return answer;
}

function attempt() {
  attempts += 1;
}

async function main(actions) {
  const action = process.argv[2];
  try {
    await actions[action]();
    say({ done: action, attempts });
  } catch (error) {
    const kinds = [];
    for (let kind = error.constructor; kind && kind.name; kind = Object.getPrototypeOf(kind)) kinds.push(kind.name);
    say({ error: kinds[0], kinds, status: error.status ?? null, code: error.code ?? null, message: String(error.message), attempts });
  }
  process.stdin.resume();
}

module.exports = { attempt, counted, main, say };
