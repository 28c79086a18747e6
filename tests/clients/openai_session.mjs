// A session of the official `openai` and `@anthropic-ai/sdk` libraries with a server.
//
// BASE_URL=http://127.0.0.1:11434 [MODEL=storyteller] node openai_session.mjs

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const base = process.env.BASE_URL.replace(/\/$/, "");
const model = process.env.MODEL ?? "storyteller";
const apiKey = process.env.API_KEY ?? "unused";
const messages = [{ role: "user", content: "Tell me about a dog." }];
// Enough for a sentence, little for a slow machine; the same answer each time.
const same = { max_tokens: 16, temperature: 0 };

const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const claude = new Anthropic({ baseURL: base, apiKey, maxRetries: 0 });

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

async function models() {
  const names = (await all(client.models.list())).map((one) => one.id);
  assert(names.some((name) => name.split(":")[0] === model.split(":")[0]), `${names}`);
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve("nobody"), OpenAI.NotFoundError);
}

async function chat() {
  const fields = { model, messages, ...same };
  const reply = await client.chat.completions.create(fields);
  const text = reply.choices[0].message.content;
  assert(text);
  assert.equal(reply.choices[0].finish_reason, "length");
  assert.equal(reply.usage.completion_tokens, 16);

  const options = { stream: true, stream_options: { include_usage: true } };
  const chunks = await all(await client.chat.completions.create({ ...fields, ...options }));
  const said = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
  assert.equal(said, text);
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.equal(chunks.at(-1).usage.total_tokens, reply.usage.total_tokens);

  // The library's own accumulation of a stream.
  const word = text.split(/\s+/)[3];
  const stream = client.chat.completions.stream({ ...fields, stop: [word] });
  assert.equal(await stream.finalContent(), text.split(word)[0]);
}

async function chatErrors() {
  const ask = (more) => client.chat.completions.create({ model, messages, ...more });
  await assert.rejects(ask({ model: "nobody" }), (error) => {
    assert(error instanceof OpenAI.NotFoundError);
    assert.equal(error.type, "not_found_error");
    return true;
  });
  const tools = [{ type: "function", function: { name: "f", parameters: {} } }];
  await assert.rejects(ask({ tools }), /does not support tools/);
  await assert.rejects(ask({ response_format: { type: "xml" } }), /json_schema/);
  await assert.rejects(ask({ n: 2 }), /n must be 1/);
}

async function completions() {
  const fields = { model, prompt: "Once upon a time", ...same };
  const text = (await client.completions.create(fields)).choices[0].text;
  const chunks = await all(await client.completions.create({ ...fields, stream: true }));
  assert(text);
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), text);
}

async function embeddings() {
  const input = ["a dog", "the sea"];
  const coded = await client.embeddings.create({ model, input });
  const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
  coded.data.forEach((one, at) => {
    const two = plain.data[at].embedding;
    assert.equal(one.embedding.length, two.length);
    assert(one.embedding.every((number, i) => Math.abs(number - two[i]) < 1e-6));
  });
}

async function responses() {
  const fields = { model, input: "Tell me about a dog.", temperature: 0, max_output_tokens: 16 };
  const reply = await client.responses.create(fields);
  assert(reply.output_text);
  assert.equal(reply.incomplete_details.reason, "max_output_tokens");
  const events = await all(await client.responses.create({ ...fields, stream: true }));
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), reply.output_text);
  assert.equal(events.at(-1).type, "response.incomplete");
  const final = await client.responses.stream(fields).finalResponse();
  assert.equal(final.output[0].content[0].text, reply.output_text);
}

async function anthropic() {
  const fields = { model, messages, ...same };
  const reply = await claude.messages.create(fields);
  const text = reply.content[0].text;
  assert(text);
  assert.equal(reply.stop_reason, "max_tokens");
  const final = await claude.messages.stream(fields).finalMessage();
  assert.equal(final.content[0].text, text);
  assert.deepEqual(final.usage.output_tokens, reply.usage.output_tokens);
  const word = text.split(/\s+/)[3];
  const stopped = await claude.messages.create({ ...fields, stop_sequences: [word] });
  assert.equal(stopped.stop_sequence, word);
  assert.equal(stopped.content[0].text, text.split(word)[0]);
  await assert.rejects(
    claude.messages.create({ ...fields, model: "nobody" }),
    Anthropic.NotFoundError,
  );
}

for (const part of [models, chat, chatErrors, completions, embeddings, responses, anthropic]) {
  await part();
}
console.log("openai and @anthropic-ai/sdk: all as expected");
