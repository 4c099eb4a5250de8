// OpenAI's own JavaScript client against a running server: node openai_client.mjs BASE_URL MODEL [API_KEY]
//
// Asserts on shapes, not on words, so that any model will do. Needs the package `openai`.

import assert from "node:assert/strict";
import OpenAI from "openai";

const [base, model, key = "none"] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base.replace(/\/$/, "")}/v1`, apiKey: key, maxRetries: 0 });

const messages = [{ role: "user", content: "Tell me a story." }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", parameters, strict: true } }];
const cities = ["Paris", "Rome"];

const checks = {
  async models() {
    const names = [];
    for await (const found of client.models.list()) names.push(found.id);
    assert(names.includes(model));
  },

  async chat() {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 8 });
    assert.equal(answer.choices[0].message.role, "assistant");
    assert(answer.usage.total_tokens > 0);
  },

  async stream() {
    const stream = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 8,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert(["stop", "length"].includes(chunks.at(-2).choices[0].finish_reason));
    assert(chunks.at(-1).usage.completion_tokens <= 8);
  },

  async tools() {
    const stream = client.chat.completions.stream({
      model,
      messages,
      tools,
      tool_choice: { type: "function", function: { name: "get_weather" } },
      max_tokens: 1000,
    });
    const final = await stream.finalChatCompletion();
    const [call] = final.choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert(cities.includes(JSON.parse(call.function.arguments).city));
  },

  async structured() {
    const answer = await client.chat.completions.create({
      model,
      messages,
      response_format: { type: "json_schema", json_schema: { name: "place", schema: parameters, strict: true } },
      max_tokens: 1000,
    });
    assert(cities.includes(JSON.parse(answer.choices[0].message.content).city));
  },

  async responses() {
    const answer = await client.responses.create({ model, input: "Hello.", max_output_tokens: 16 });
    assert.equal(typeof answer.output_text, "string");
    const stream = await client.responses.create({ model, input: "Hello.", max_output_tokens: 16, stream: true });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.equal(kinds[0], "response.created");
    assert(["response.completed", "response.incomplete"].includes(kinds.at(-1)));
  },

  async embeddings() {
    const answer = await client.embeddings.create({ model, input: ["one", "two"] });
    assert.equal(answer.data.length, 2);
    assert(Math.abs(answer.data[0].embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-4);
  },

  async errors() {
    await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), OpenAI.NotFoundError);
    await assert.rejects(
      client.chat.completions.create({ model, messages, temperature: 9 }),
      (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
    );
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log("ok", name);
}
