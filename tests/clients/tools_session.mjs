// Functions and typed answers with the official `ollama` and `openai` libraries (npm) and with
// Vercel's `ai`.
//
// The model is the built-in one behind a template that shows functions: see tools.py.

import assert from "node:assert/strict";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const base = process.env.BASE_URL.replace(/\/$/, "");
const model = process.env.TOOLS_MODEL ?? "caller";
const apiKey = process.env.API_KEY ?? "unused";
const messages = [{ role: "user", content: "What is 2 plus 3, and how long is 'a dog'?" }];

const number = z.number().int().min(0).max(99);
const inputs = {
  add: z.object({ a: number, b: number }),
  count_letters: z.object({ text: z.string().max(16) }),
};
const functions = {
  add: ({ a, b }) => a + b,
  count_letters: ({ text }) => text.length,
};
const tools = Object.keys(inputs).map((name) => ({
  type: "function",
  function: { name, description: `Does ${name}`, parameters: z.toJSONSchema(inputs[name]) },
}));
const item = z.object({
  name: z.string().max(16),
  price: z.number().int().min(0).max(999),
  kind: z.enum(["food", "tool"]).nullable(),
});

// The call must be of its schema.
function run(name, args) {
  return String(functions[name](inputs[name].strict().parse(args)));
}

async function ollama() {
  const client = new Ollama({ host: base });
  const options = { temperature: 0, num_predict: 500 };
  const past = [...messages];
  // The library hands on fields that it does not know.
  for (const name of Object.keys(inputs)) {
    const tool_choice = { type: "function", function: { name } };
    const fields = { model, messages: past, tools, tool_choice, options, parallel_tool_calls: false };
    const { message, done_reason } = await client.chat(fields);
    assert.equal(done_reason, "stop");
    assert.equal(message.tool_calls.length, 1);
    const call = message.tool_calls[0].function;
    assert.equal(call.name, name);
    const streamed = [];
    for await (const part of await client.chat({ ...fields, stream: true })) {
      streamed.push(...(part.message.tool_calls ?? []));
    }
    assert.deepEqual(streamed[0].function.arguments, call.arguments);
    past.push(message, { role: "tool", content: run(name, call.arguments), tool_name: name });
  }
  const last = { ...options, num_predict: 24 };
  const { message } = await client.chat({
    model, messages: past, tools, tool_choice: "none", options: last,
  });
  assert.ok(message.content);
  const typed = await client.chat({ model, messages, format: z.toJSONSchema(item), options });
  item.strict().parse(JSON.parse(typed.message.content));
}

async function openai() {
  const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
  const fields = { model, temperature: 0, max_tokens: 500 };
  const past = [...messages];
  for (const name of Object.keys(inputs)) {
    const tool_choice = { type: "function", function: { name } };
    const request = { ...fields, messages: past, tools, tool_choice, parallel_tool_calls: false };
    const reply = (await client.chat.completions.create(request)).choices[0];
    assert.equal(reply.finish_reason, "tool_calls");
    const [call] = reply.message.tool_calls;
    // The library's own accumulation of a stream.
    const stream = client.chat.completions.stream(request);
    const again = await stream.finalMessage();
    assert.equal(again.tool_calls[0].function.arguments, call.function.arguments);
    const content = run(name, JSON.parse(call.function.arguments));
    past.push(reply.message, { role: "tool", tool_call_id: call.id, content });
  }
  const reply = await client.chat.completions.create({
    ...fields, messages: past, tools, tool_choice: "none", max_tokens: 24,
  });
  assert.ok(reply.choices[0].message.content);
  const response_format = zodResponseFormat(item, "item");
  const parsed = await client.chat.completions.parse({ ...fields, messages, response_format });
  item.strict().parse(parsed.choices[0].message.parsed);
  const response = await client.responses.parse({
    model, temperature: 0, max_output_tokens: 500, input: messages,
    text: { format: zodTextFormat(item, "item") },
  });
  item.strict().parse(response.output_parsed);
}

async function vercel() {
  const provider = createOpenAICompatible({
    name: "local", baseURL: `${base}/v1`, apiKey, supportsStructuredOutputs: true, includeUsage: true,
  });
  const made = {};
  for (const name of Object.keys(inputs)) {
    const execute = async (args) => run(name, args);
    made[name] = tool({ description: `Does ${name}`, inputSchema: inputs[name], execute });
  }
  const fields = {
    model: provider(model), temperature: 0, maxOutputTokens: 500, maxRetries: 0, tools: made,
    prompt: messages[0].content, stopWhen: stepCountIs(4),
    providerOptions: { local: { parallel_tool_calls: false } },
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  };
  const whole = await generateText(fields);
  assert.equal(whole.steps.length, 2);
  assert.ok(whole.steps[0].toolResults.length > 0);
  assert.ok(whole.text);
  const types = new Set();
  for await (const part of streamText(fields).fullStream) {
    types.add(part.type);
    assert.notEqual(part.type, "error", String(part.error));
  }
  for (const type of ["tool-call", "tool-result", "text-delta", "finish"]) {
    assert.ok(types.has(type), type);
  }
  const { output } = await generateText({
    model: provider(model), temperature: 0, maxOutputTokens: 500, maxRetries: 0,
    prompt: messages[0].content, output: Output.object({ schema: item }),
  });
  item.strict().parse(output);
}

for (const part of [ollama, openai, vercel]) await part();
console.log("ollama, openai (npm), ai: functions and typed answers: ok");
