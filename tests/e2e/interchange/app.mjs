// A Node service that keeps sessions as the hub's predecessor does: express-session and connect-redis.
// Run with a working directory that holds the packages.
import { createRequire } from 'node:module';

const require = createRequire(`${process.cwd()}/`);
const express = require('express');
const session = require('express-session');
const { RedisStore } = require('connect-redis');
const { createClient } = require('redis');

const client = createClient({ url: process.env.REDIS_URL });
await client.connect();

const app = express();
app.use(session({
  store: new RedisStore({ client }),
  secret: process.env.SESSION_SECRET,
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 86400000, httpOnly: true, sameSite: 'strict' },
}));
app.get('/set', (request, response) => {
  request.session.name = request.query.name;
  request.session.other ??= { kept: [1, 2.5, 'ä'] };
  response.send('kept');
});
app.get('/get', (request, response) => response.send(JSON.stringify(request.session.name ?? null)));
app.get('/other', (request, response) => response.send(JSON.stringify(request.session.other ?? null)));
app.get('/end', (request, response) => request.session.destroy(() => response.send('ended')));

const server = app.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
