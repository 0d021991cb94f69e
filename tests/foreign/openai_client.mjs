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

const completion = await client.completions.create({ model, prompt: "One, two, three,", temperature: 0, max_tokens: 4 });
assert.ok(completion.choices[0].text.length > 0);

await assert.rejects(client.chat.completions.create({ model: "nothing", messages }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
const abort = new AbortController();
const long = await client.chat.completions.create({ model, messages, max_tokens: 200, ignore_eos: true, stream: true }, { signal: abort.signal });
for await (const chunk of long) { abort.abort(); break; }
console.log("ok");
