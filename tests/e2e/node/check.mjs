// Talks to a hub with the official openai package, and prints one line a check.
//
// HUB_URL, HUB_TOKEN: the hub. STANDIN_URL: the provider behind it (the binary testkit-upstream), which releases the
// chunks of a stream one by one when it is asked to. MODULES: the folder that holds node_modules.

import { strict as assert } from 'node:assert';
import { createRequire } from 'node:module';

const { HUB_URL: HUB, STANDIN_URL: STANDIN, HUB_TOKEN: TOKEN, MODULES } = process.env;
const { default: OpenAI } = createRequire(`${MODULES}/`)('openai');
const messages = [{ role: 'user', content: 'Hello' }];

const client = (target = 'stand-in', apiKey = TOKEN) =>
  new OpenAI({
    apiKey,
    baseURL: `${HUB}/v1`,
    defaultHeaders: { 'x-target': target },
    maxRetries: 0,
    timeout: 15_000,
  });

const chat = (model = 'stand-in', { target, token, ...more } = {}) =>
  client(target, token).chat.completions.create({ model, messages, ...more });

const release = (gate) => fetch(`${STANDIN}/release/${gate}`, { method: 'POST' });

const fails = async (kind, status, call) => {
  try {
    await call();
  } catch (error) {
    assert.deepEqual([error.constructor.name, error.status], [kind.name, status], String(error));
    return error;
  }
  assert.fail('no error');
};

const checks = {
  completion: async () => {
    const answer = await chat();
    assert.equal(answer.choices[0].message.content, 'Hello from the stand-in');
    assert.equal(answer.usage.total_tokens, 15);
  },

  stream: async () => {
    const words = [];
    // A chunk that was released comes while the next one is held back: nothing in between waits for more.
    await release('node');
    for await (const chunk of await chat('gated-node', { stream: true })) {
      words.push(chunk.choices[0].delta.content);
      await release('node');
    }
    assert.deepEqual(words, ['w0 ', 'w1 ', 'w2 ', 'w3 ', 'w4 ']);
  },

  'dying stream': async () => {
    const words = [];
    const read = async () => {
      for await (const chunk of await chat('dying', { stream: true })) {
        words.push(chunk.choices[0].delta.content);
      }
    };
    await assert.rejects(read, OpenAI.APIError);
    assert.deepEqual(words, ['w0 ', 'w1 ']);
  },

  embeddings: async () => {
    const answer = await client().embeddings.create({
      model: 'stand-in',
      input: 'Hello',
      encoding_format: 'float',
    });
    assert.deepEqual(answer.data[0].embedding, [0.25, -0.5, 1]);
  },

  models: async () => {
    const ids = [];
    for await (const model of await client().models.list()) ids.push(model.id);
    assert.deepEqual(ids, ['stand-in', 'stand-in-large']);
  },

  unauthorized: async () => {
    const error = await fails(OpenAI.AuthenticationError, 401, () => chat('stand-in', { token: 'wrong' }));
    assert.ok(error.headers.get('www-authenticate'), 'no WWW-Authenticate');
  },

  'not found': async () => {
    // The package looks at the member `error` of the body only, and shows that.
    const error = await fails(OpenAI.NotFoundError, 404, () => chat('stand-in', { target: 'nowhere' }));
    assert.match(error.message, /Not Found/);
  },

  'too large': async () => {
    const large = [{ role: 'user', content: 'x'.repeat(100_000) }];
    await fails(OpenAI.APIError, 413, () => chat('stand-in', { messages: large }));
  },

  limited: async () => {
    const complete = () => client('limited-node').completions.create({ model: 'stand-in', prompt: 'Hello' });
    await complete();
    await complete();
    const error = await fails(OpenAI.RateLimitError, 429, complete);
    assert.ok(Number(error.headers.get('retry-after')) > 0);
  },

  'limited by provider': async () => {
    const error = await fails(OpenAI.RateLimitError, 429, () => chat('status-429'));
    assert.equal(error.headers.get('retry-after'), '7');
  },

  'bad gateway': () => fails(OpenAI.InternalServerError, 502, () => chat('stand-in', { target: 'unreachable' })),

  'gateway timeout': () => fails(OpenAI.InternalServerError, 504, () => chat('silent', { target: 'impatient' })),

  'provider errors pass through': async () => {
    for (const [status, kind] of [
      [400, OpenAI.BadRequestError],
      [403, OpenAI.PermissionDeniedError],
      [422, OpenAI.UnprocessableEntityError],
      [500, OpenAI.InternalServerError],
      [503, OpenAI.InternalServerError],
    ]) {
      const error = await fails(kind, status, () => chat(`status-${status}`));
      assert.match(error.message, new RegExp(`upstream says ${status}`));
    }
  },

  'credentials stay here': async () => {
    const answer = await chat('echo');
    const seen = JSON.parse(answer.choices[0].message.content);
    const names = seen.headers.map(([name]) => name);
    assert.ok(!names.includes('x-target') && !names.includes('cookie'), names.join());
    assert.ok(!JSON.stringify(seen).includes(TOKEN), "the provider saw the hub's token");
    const keys = seen.headers.filter(([name]) => name === 'authorization').map(([, value]) => value);
    assert.deepEqual(keys, ['Bearer provider-key']);
  },

  translated: async () => {
    for (const target of ['claude', 'bedrock']) {
      const answer = await chat('claude-x', { target });
      const { message, finish_reason } = answer.choices[0];
      assert.deepEqual([message.content, finish_reason], ['Hello', 'tool_calls'], target);
      assert.equal(message.tool_calls[0].function.name, 'weather');
      assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: 'Kyiv' });
      assert.equal(answer.usage.total_tokens, 15);
    }
  },

  'translated stream': async () => {
    for (const target of ['claude', 'bedrock']) {
      // The package's own accumulator puts the chunks together and checks them.
      const stream = client(target).chat.completions.stream({
        model: 'claude-x',
        messages,
        stream_options: { include_usage: true },
      });
      const answer = await stream.finalChatCompletion();
      const { message, finish_reason } = answer.choices[0];
      assert.deepEqual([message.content, finish_reason], ['Hello', 'tool_calls'], target);
      assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: 'Kyiv' });
      assert.equal((await stream.totalUsage()).total_tokens, 15);
    }
  },

  'translated streams that break off': async () => {
    for (const [target, model, told] of [
      ['claude', 'claude-overloaded', /Overloaded/],
      ['claude', 'claude-dying', /broke off/],
      ['bedrock', 'throttled', /Too many tokens/],
      ['bedrock', 'dying', /broke off/],
    ]) {
      const read = async () => {
        for await (const chunk of await chat(model, { target, stream: true })) {
          assert.equal(chunk.object, 'chat.completion.chunk');
        }
      };
      await assert.rejects(read, (error) => error instanceof OpenAI.APIError && told.test(error.message), model);
    }
  },

  'translated errors': async () => {
    for (const [target, status, kind, type] of [
      ['claude', 400, OpenAI.BadRequestError, 'invalid_request_error'],
      ['claude', 429, OpenAI.RateLimitError, 'rate_limit_error'],
      ['claude', 529, OpenAI.InternalServerError, 'overloaded_error'],
      ['bedrock', 400, OpenAI.BadRequestError, 'ValidationException'],
      ['bedrock', 429, OpenAI.RateLimitError, 'ThrottlingException'],
      ['bedrock', 503, OpenAI.InternalServerError, 'ServiceUnavailableException'],
    ]) {
      const error = await fails(kind, status, () => chat(`status-${status}`, { target }));
      assert.equal(error.type, type);
      assert.match(error.message, new RegExp(`says ${status}`));
    }
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok node: ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAILED node: ${name}: ${String(error).replaceAll('\n', ' ').slice(0, 300)}`);
  }
}
