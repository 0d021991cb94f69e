// npm's openai, unmodified.
import assert from "node:assert";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.OPENAI_BASE_URL });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "What is the capital of France? Answer in one word." }];

const answer = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 16 });
assert.match(answer.choices[0].message.content, /Paris/);

let text = "";
const stream = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 16, stream: true });
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
assert.strictEqual(text, answer.choices[0].message.content);

const schema = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "get_weather", parameters: schema } }];
const call = await client.chat.completions.create({ model, messages, tools, tool_choice: "required", parallel_tool_calls: false, temperature: 0, max_tokens: 96 });
assert.strictEqual(call.choices[0].finish_reason, "tool_calls");
const called = call.choices[0].message.tool_calls[0].function;
assert.strictEqual(called.name, "get_weather");
assert.strictEqual(typeof JSON.parse(called.arguments).city, "string");

const response_format = { type: "json_schema", json_schema: { name: "city", schema, strict: true } };
const shaped = await client.chat.completions.create({ model, messages, response_format, temperature: 0, max_tokens: 64 });
assert.strictEqual(typeof JSON.parse(shaped.choices[0].message.content).city, "string");
const chosen = await client.chat.completions.create({ model, messages, structured_outputs: { choice: ["Lyon", "Nice"] }, temperature: 0 });
assert.match(chosen.choices[0].message.content, /^(Lyon|Nice)$/);

const completion = await client.completions.create({ model, prompt: "One, two, three,", temperature: 0, max_tokens: 4 });
assert.ok(completion.choices[0].text.length > 0);

await assert.rejects(client.chat.completions.create({ model: "nothing", messages }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
const abort = new AbortController();
const long = await client.chat.completions.create({ model, messages, max_tokens: 200, ignore_eos: true, stream: true }, { signal: abort.signal });
for await (const chunk of long) { abort.abort(); break; }
console.log("ok");
